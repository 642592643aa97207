#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include <safepair/base/ids.hpp>
#include <safepair/base/result.hpp>
#include <safepair/base/time.hpp>
#include <safepair/base/unique_fd.hpp>

/// The one ordered TCP stream of a module's records (docs/adr: data outside gRPC; docs/formats/wire.md).
namespace safepair::replica {

/// Authenticates the first frame of each channel (HMAC-SHA-256 over module, session, term and a nonce of each side).
using ChannelKey = std::array<std::uint8_t, 32>;

struct DataEndpoint {
    std::string address;
    std::uint16_t port = 0;
    /// Connect from this address (the replication network's own), empty for any.
    std::string local_address;
    ChannelKey key{};
};

/// First frame of a channel, from the leader.
struct ChannelHello {
    std::string module;
    base::SessionId session;
    std::uint64_t term = 0;
    std::string node;
};

/// Who wants the channels of one module.
class ChannelAcceptor {
  public:
    virtual ~ChannelAcceptor() = default;
    /// Takes an authenticated connection, or refuses it (false) when the session is not the expected one. Called on the
    /// listener's thread; must not block.
    virtual bool accept(const ChannelHello& hello, base::UniqueFd connection) = 0;
};

/// One listening socket per agent; dispatches by module after the handshake. Thread of its own.
class DataListener {
  public:
    /// Errors: errno of bind(2) naming address and port.
    static base::Result<std::unique_ptr<DataListener>> start(const std::string& address,
                                                             std::uint16_t port,
                                                             const ChannelKey& key);
    virtual ~DataListener() = default;
    virtual void add(const std::string& module, ChannelAcceptor& acceptor) = 0;
    /// Returns after a running accept() for the module ended.
    virtual void remove(const std::string& module) = 0;
    [[nodiscard]] virtual std::uint16_t port() const = 0;
};

}  // namespace safepair::replica
