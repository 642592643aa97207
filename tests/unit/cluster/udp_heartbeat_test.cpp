#include "support/catch.hpp"
#include "unit/cluster/sample_status.hpp"

#include <safepair/base/system_time.hpp>
#include <safepair/base/unique_fd.hpp>
#include <safepair/cluster/heartbeat.hpp>

#include <condition_variable>
#include <mutex>
#include <thread>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

using namespace safepair::cluster;
using namespace std::chrono_literals;
using safepair::base::UniqueFd;

namespace {

constexpr auto patience = 20s;
constexpr const char* our_address = "127.0.0.1";
constexpr const char* peer_address = "127.0.0.2";

HeartbeatKey key_of(std::uint8_t value) {
    HeartbeatKey key{};
    key.fill(value);
    return key;
}

sockaddr_in address_of(const char* text, std::uint16_t port) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    REQUIRE(inet_pton(AF_INET, text, &address.sin_addr) == 1);
    return address;
}

/// The other node, played by the test: sends what it is told, byte by byte.
class Peer {
  public:
    /// Port 0: any free one.
    explicit Peer(std::uint16_t port = 0)
        : socket_(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)) {
        auto address = address_of(peer_address, port);
        REQUIRE(::bind(socket_.get(),
                       reinterpret_cast<const sockaddr*>(&address),
                       sizeof address) == 0);
        socklen_t length = sizeof address;
        REQUIRE(::getsockname(socket_.get(), reinterpret_cast<sockaddr*>(&address), &length) == 0);
        port_ = ntohs(address.sin_port);
    }

    [[nodiscard]] std::uint16_t port() const { return port_; }

    void send(const std::vector<std::byte>& datagram) const {
        const auto to = address_of(our_address, port_);
        REQUIRE(::sendto(socket_.get(),
                         datagram.data(),
                         datagram.size(),
                         0,
                         reinterpret_cast<const sockaddr*>(&to),
                         sizeof to) == static_cast<ssize_t>(datagram.size()));
    }

    /// The next heartbeat of the transport.
    [[nodiscard]] Heartbeat receive(const HeartbeatKey& key) const {
        pollfd wait{socket_.get(), POLLIN, 0};
        REQUIRE(::poll(&wait, 1, 20'000) == 1);
        std::array<std::byte, 2000> buffer{};
        const auto count = ::recv(socket_.get(), buffer.data(), buffer.size(), 0);
        REQUIRE(count > 0);
        auto decoded = decode(std::span(buffer).first(static_cast<std::size_t>(count)), key);
        REQUIRE(decoded.has_value());
        return *decoded;
    }

  private:
    UniqueFd socket_;
    std::uint16_t port_ = 0;
};

/// Collects what a transport hands on.
class Inbox {
  public:
    HeartbeatTransport::Received sink() {
        return [this](const Heartbeat& heartbeat) {
            const std::lock_guard lock(mutex_);
            arrived_.push_back(heartbeat);
            changed_.notify_all();
        };
    }

    /// Waits until `count` heartbeats arrived in all and returns them.
    std::vector<Heartbeat> wait_for(std::size_t count) {
        std::unique_lock lock(mutex_);
        const bool enough =
            changed_.wait_for(lock, patience, [&] { return arrived_.size() >= count; });
        REQUIRE(enough);
        return arrived_;
    }

  private:
    std::mutex mutex_;
    std::condition_variable changed_;
    std::vector<Heartbeat> arrived_;
};

Heartbeat from_peer(const Incarnation& incarnation, std::uint64_t counter) {
    Heartbeat heartbeat;
    heartbeat.from = NodeId{"node2"};
    heartbeat.incarnation = incarnation;
    heartbeat.counter = counter;
    heartbeat.network = "lan";
    heartbeat.sent = static_cast<std::int64_t>(1000 + counter);
    return heartbeat;
}

std::unique_ptr<HeartbeatTransport> start(const Peer& peer, Inbox& inbox) {
    auto started = HeartbeatTransport::start(NodeId{"node1"},
                                             NodeId{"node2"},
                                             samples::id<Incarnation>(1),
                                             {{"lan", our_address, peer_address, peer.port()}},
                                             key_of(7),
                                             inbox.sink());
    REQUIRE(started.has_value());
    return std::move(*started);
}

/// Calls `condition` until it holds.
template <typename Condition>
bool eventually(Condition condition) {
    const auto deadline = safepair::base::boot_time_now() + patience;
    while (!condition()) {
        if (safepair::base::boot_time_now() > deadline) {
            return false;
        }
        std::this_thread::yield();
    }
    return true;
}

}  // namespace

TEST_CASE("HeartbeatTransport: what is sent arrives with its status, time and counter") {
    const Peer peer;
    Inbox inbox;
    const auto transport = start(peer, inbox);
    transport->send("vm1", samples::full_status());
    transport->send_bare();
    const auto first = peer.receive(key_of(7));
    CHECK(first.from == NodeId{"node1"});
    CHECK(first.incarnation == samples::id<Incarnation>(1));
    CHECK(first.network == "lan");
    CHECK(first.counter == 1);
    CHECK(first.echo == 0);
    CHECK(first.module == "vm1");
    REQUIRE(first.status.has_value());
    CHECK(*first.status == samples::full_status());
    CHECK(first.heard_on.empty());
    const auto second = peer.receive(key_of(7));
    CHECK(second.counter == 2);
    CHECK(second.module.empty());
    CHECK(second.sent != first.sent);
    CHECK(transport->counters("lan").sent == 2);
    CHECK(transport->counters("other").sent == 0);
}

TEST_CASE("HeartbeatTransport: two transports hear each other and echo each other's times") {
    const std::uint16_t port = Peer().port();
    Inbox inbox1;
    Inbox inbox2;
    auto one = HeartbeatTransport::start(NodeId{"node1"},
                                         NodeId{"node2"},
                                         samples::id<Incarnation>(1),
                                         {{"lan", our_address, peer_address, port}},
                                         key_of(7),
                                         inbox1.sink());
    auto two = HeartbeatTransport::start(NodeId{"node2"},
                                         NodeId{"node1"},
                                         samples::id<Incarnation>(2),
                                         {{"lan", peer_address, our_address, port}},
                                         key_of(7),
                                         inbox2.sink());
    REQUIRE(one.has_value());
    REQUIRE(two.has_value());
    const auto before = safepair::base::boot_time_now().time_since_epoch().count();
    CHECK((*one)->echoed() == 0);
    (*one)->send_bare();
    CHECK(inbox2.wait_for(1)[0].echo == 0);
    (*two)->send("vm1", samples::full_status());
    const auto back = inbox1.wait_for(1)[0];
    // The echo is a time of node1's own clock.
    CHECK(back.echo >= before);
    CHECK(back.echo <= safepair::base::boot_time_now().time_since_epoch().count());
    CHECK(back.heard_on == std::vector<std::string>{"lan"});
    CHECK(back.status == samples::full_status());
    CHECK(eventually([&] { return (*one)->echoed() == back.echo; }));
    CHECK((*one)->counters("lan").received == 1);
}

TEST_CASE("HeartbeatTransport: a repeated or older datagram is dropped and counted") {
    const Peer peer;
    Inbox inbox;
    const auto transport = start(peer, inbox);
    const auto incarnation = samples::id<Incarnation>(2);
    const auto five = encode(from_peer(incarnation, 5), key_of(7));
    peer.send(five);
    peer.send(five);
    peer.send(encode(from_peer(incarnation, 4), key_of(7)));
    peer.send(encode(from_peer(incarnation, 6), key_of(7)));
    const auto arrived = inbox.wait_for(2);
    CHECK(arrived.size() == 2);
    CHECK(arrived[0].counter == 5);
    CHECK(arrived[1].counter == 6);
    CHECK(transport->counters("lan").replayed == 2);
    CHECK(transport->counters("lan").received == 2);
    CHECK(transport->counters("lan").forged == 0);
}

TEST_CASE("HeartbeatTransport: forged, foreign and misdirected datagrams are dropped and counted") {
    const Peer peer;
    Inbox inbox;
    const auto transport = start(peer, inbox);
    const auto incarnation = samples::id<Incarnation>(2);
    peer.send(encode(from_peer(incarnation, 1), key_of(8)));
    peer.send({std::byte{1}, std::byte{2}});
    peer.send(std::vector<std::byte>(5000));
    auto other_network = from_peer(incarnation, 2);
    other_network.network = "other";
    peer.send(encode(other_network, key_of(7)));
    // Our own datagram, thrown back at us.
    auto reflected = from_peer(incarnation, 3);
    reflected.from = NodeId{"node1"};
    peer.send(encode(reflected, key_of(7)));
    peer.send(encode(from_peer(incarnation, 1), key_of(7)));
    const auto arrived = inbox.wait_for(1);
    CHECK(arrived.size() == 1);
    CHECK(arrived[0].counter == 1);
    CHECK(transport->counters("lan").forged == 5);
    CHECK(transport->counters("lan").received == 1);
}

TEST_CASE(
    "HeartbeatTransport: a restarted peer is accepted once it echoes us, its old life no more") {
    const Peer peer;
    Inbox inbox;
    const auto transport = start(peer, inbox);
    const auto old_life = samples::id<Incarnation>(2);
    const auto new_life = samples::id<Incarnation>(3);
    peer.send(encode(from_peer(old_life, 50), key_of(7)));
    inbox.wait_for(1);
    // Without an echo it could be a recording.
    peer.send(encode(from_peer(new_life, 1), key_of(7)));
    peer.send(encode(from_peer(old_life, 51), key_of(7)));
    CHECK(inbox.wait_for(2)[1].counter == 51);
    peer.send(encode(from_peer(new_life, 2), key_of(7)));
    transport->send_bare();
    auto answer = from_peer(new_life, 3);
    answer.echo = peer.receive(key_of(7)).sent;
    peer.send(encode(answer, key_of(7)));
    const auto arrived = inbox.wait_for(3);
    CHECK(arrived[2].incarnation == new_life);
    CHECK(arrived[2].counter == 3);
    // The life before is over, whatever it says.
    auto late = from_peer(old_life, 52);
    late.echo = answer.echo;
    peer.send(encode(late, key_of(7)));
    peer.send(encode(from_peer(new_life, 4), key_of(7)));
    CHECK(inbox.wait_for(4)[3].incarnation == new_life);
    CHECK(transport->counters("lan").replayed == 1);
}

TEST_CASE("HeartbeatTransport: the peer that has not proven itself yet is echoed") {
    const Peer peer;
    Inbox inbox;
    const auto transport = start(peer, inbox);
    peer.send(encode(from_peer(samples::id<Incarnation>(2), 1), key_of(7)));
    inbox.wait_for(1);
    const auto unproven = from_peer(samples::id<Incarnation>(3), 9);
    peer.send(encode(unproven, key_of(7)));
    CHECK(eventually([&] {
        transport->send_bare();
        return peer.receive(key_of(7)).echo == unproven.sent;
    }));
    CHECK(transport->counters("lan").received == 1);
}

TEST_CASE("HeartbeatTransport: an echo of another life of ours counts as none") {
    const Peer peer;
    Inbox inbox;
    const auto transport = start(peer, inbox);
    auto heartbeat = from_peer(samples::id<Incarnation>(2), 1);
    // The plain clock, as a peer might have recorded it from a process with another offset.
    heartbeat.echo = safepair::base::boot_time_now().time_since_epoch().count();
    peer.send(encode(heartbeat, key_of(7)));
    CHECK(inbox.wait_for(1)[0].echo == 0);
    CHECK(transport->echoed() == 0);
}

TEST_CASE("HeartbeatTransport: two networks are apart in counters and in what is heard") {
    const Peer peer;
    const Peer other;
    Inbox inbox;
    auto started = HeartbeatTransport::start(NodeId{"node1"},
                                             NodeId{"node2"},
                                             samples::id<Incarnation>(1),
                                             {{"lan", our_address, peer_address, peer.port()},
                                              {"wan", our_address, peer_address, other.port()}},
                                             key_of(7),
                                             inbox.sink());
    REQUIRE(started.has_value());
    const auto incarnation = samples::id<Incarnation>(2);
    peer.send(encode(from_peer(incarnation, 5), key_of(7)));
    inbox.wait_for(1);
    // A datagram of one network, repeated on the other one.
    other.send(encode(from_peer(incarnation, 6), key_of(7)));
    auto wan = from_peer(incarnation, 1);
    wan.network = "wan";
    (*started)->send_bare();
    CHECK(peer.receive(key_of(7)).heard_on == std::vector<std::string>{"lan"});
    const auto seen = other.receive(key_of(7));
    CHECK(seen.network == "wan");
    CHECK(seen.counter == 1);
    other.send(encode(wan, key_of(7)));
    CHECK(inbox.wait_for(2)[1].network == "wan");
    CHECK((*started)->counters("wan").forged == 1);
    CHECK((*started)->counters("wan").received == 1);
    CHECK((*started)->counters("lan").received == 1);
}

TEST_CASE("HeartbeatTransport: an address that is not there yet is bound when it comes") {
    const Peer peer;
    Inbox inbox;
    // The address is ours to take, but somebody else holds the port for now.
    auto holder = std::make_unique<UniqueFd>(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    const auto taken = address_of(our_address, peer.port());
    REQUIRE(::bind(holder->get(), reinterpret_cast<const sockaddr*>(&taken), sizeof taken) == 0);
    const auto transport = start(peer, inbox);
    transport->send_bare();
    CHECK(transport->counters("lan").sent == 0);
    holder.reset();
    CHECK(eventually([&] {
        transport->send_bare();
        return transport->counters("lan").sent > 0;
    }));
    CHECK(peer.receive(key_of(7)).from == NodeId{"node1"});
}

TEST_CASE("HeartbeatTransport: an address that does not parse is bad input, naming it") {
    const auto started = HeartbeatTransport::start(NodeId{"node1"},
                                                   NodeId{"node2"},
                                                   samples::id<Incarnation>(1),
                                                   {{"lan", our_address, "node2.example", 4800}},
                                                   key_of(7),
                                                   [](const Heartbeat&) {});
    REQUIRE_FALSE(started.has_value());
    CHECK(started.error().code == safepair::base::Errc::bad_input);
    CHECK(started.error().context.find("node2.example") != std::string::npos);
}
