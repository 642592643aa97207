#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include <safepair/base/result.hpp>
#include <safepair/base/time.hpp>
#include <safepair/cluster/status.hpp>

/// UDP heartbeats on every network of the cluster. Each is authenticated by HMAC-SHA-256 over the whole datagram, replay
/// safe by (incarnation, counter) per sender and link, and says whom the sender hears. Format: docs/formats/heartbeat.md.
namespace safepair::cluster {

/// Shared by the nodes of one cluster; from the Identity of the agent.
using HeartbeatKey = std::array<std::uint8_t, 32>;

/// One datagram: from one node, about one module (or none: `module` empty keeps a bare node alive), on one network.
struct Heartbeat {
    NodeId from;
    Incarnation incarnation;
    /// Grows by one per datagram of this sender on this network; a value not above the last one is a replay.
    std::uint64_t counter = 0;
    /// Name of the network it was sent on; a datagram arriving on another one is dropped.
    std::string network;
    /// Sender's clock when it was sent, opaque to the receiver.
    std::int64_t sent = 0;
    /// R3: the newest `sent` this node received from the addressee on any network, 0 if none.
    std::int64_t echo = 0;
    /// Networks on which the sender currently hears the addressee (asymmetric links are seen).
    std::vector<std::string> heard_on;
    std::string module;
    /// Present when `module` is not empty.
    std::optional<PeerStatus> status;
};

/// Bytes of a datagram, tag included. At most limits::heartbeat_bytes_max; a longer reason is cut to fit.
[[nodiscard]] std::vector<std::byte> encode(const Heartbeat& heartbeat, const HeartbeatKey& key);

/// Errors: Errc::corrupt for a wrong tag, version, grammar or length. Nothing is trusted before the tag was checked.
[[nodiscard]] base::Result<Heartbeat> decode(std::span<const std::byte> datagram, const HeartbeatKey& key);

/// PeerStatus alone, for channels that authenticate by themselves (gRPC). Same grammar as inside a heartbeat.
[[nodiscard]] std::vector<std::byte> encode_status(const PeerStatus& status);
[[nodiscard]] base::Result<PeerStatus> decode_status(std::span<const std::byte> bytes);

/// One network as seen from this node.
struct HeartbeatNetwork {
    std::string name;
    std::string local_address;
    std::string peer_address;
    std::uint16_t port = 0;
};

struct HeartbeatCounters {
    std::uint64_t sent = 0;
    std::uint64_t received = 0;
    std::uint64_t forged = 0;
    std::uint64_t replayed = 0;
};

/// Sends to and receives from one peer node on all its networks, on a thread of its own.
class HeartbeatTransport {
  public:
    /// Called on the transport's thread for every authentic, fresh heartbeat. Must not block.
    using Received = std::function<void(const Heartbeat&)>;

    /// Binds one socket per network. A network whose address is not there yet is retried every second (its heartbeats are
    /// missing meanwhile). Errors: Errc::bad_input for an address that does not parse.
    static base::Result<std::unique_ptr<HeartbeatTransport>> start(NodeId self,
                                                                   NodeId peer,
                                                                   Incarnation incarnation,
                                                                   std::vector<HeartbeatNetwork> networks,
                                                                   HeartbeatKey key,
                                                                   Received received);
    virtual ~HeartbeatTransport() = default;

    /// Sends one heartbeat about `module` on every network now. Thread-safe, does not block.
    virtual void send(const std::string& module, const PeerStatus& status) = 0;
    /// The same without a module.
    virtual void send_bare() = 0;
    [[nodiscard]] virtual HeartbeatCounters counters(const std::string& network) const = 0;
    /// R3: newest own `sent` time the peer echoed, 0 if none.
    [[nodiscard]] virtual std::int64_t echoed() const = 0;
};

}  // namespace safepair::cluster
