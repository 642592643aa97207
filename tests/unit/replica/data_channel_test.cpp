#include "core/checksum.hpp"
#include "io/handshake.hpp"
#include "io/record_channel.hpp"
#include "support/catch.hpp"

#include <safepair/base/unique_fd.hpp>
#include <safepair/replica/data_channel.hpp>

#include <condition_variable>
#include <cstring>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

using namespace safepair;
using namespace safepair::replica;

namespace {

/// Takes one connection, or refuses.
class Acceptor final : public ChannelAcceptor {
  public:
    bool accept(const ChannelHello& hello, base::UniqueFd connection) override {
        const std::lock_guard lock(mutex_);
        hello_ = hello;
        came_.notify_all();
        if (refuses) {
            return false;
        }
        connection_ = std::move(connection);
        return true;
    }

    ChannelHello wait() {
        std::unique_lock lock(mutex_);
        came_.wait(lock, [this] { return hello_.has_value(); });
        return *hello_;
    }

    base::UniqueFd take() {
        const std::lock_guard lock(mutex_);
        return std::move(connection_);
    }

    bool refuses = false;

  private:
    std::mutex mutex_;
    std::condition_variable came_;
    std::optional<ChannelHello> hello_;
    base::UniqueFd connection_;
};

ChannelKey some_key() {
    ChannelKey key{};
    key[0] = 1;
    key[31] = 2;
    return key;
}

struct Listening {
    Acceptor acceptor;
    std::unique_ptr<DataListener> listener;

    Listening() {
        auto started = DataListener::start("127.0.0.1", 0, some_key());
        REQUIRE(started.has_value());
        listener = std::move(*started);
        listener->add("vm1", acceptor);
    }

    DataEndpoint endpoint() const {
        DataEndpoint peer;
        peer.address = "127.0.0.1";
        peer.port = listener->port();
        peer.key = some_key();
        return peer;
    }
};

ChannelHello some_hello() {
    ChannelHello hello;
    hello.module = "vm1";
    hello.node = "node1";
    hello.session = base::random_id<base::SessionId>();
    hello.term = 42;
    return hello;
}

constexpr auto patience = std::chrono::seconds(60);

bool is_closed(int fd) {
    char byte = 0;
    return recv(fd, &byte, 1, 0) <= 0;
}

/// Connected without a word.
base::UniqueFd stranger(std::uint16_t port) {
    base::UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    REQUIRE(::connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0);
    return fd;
}

struct Ends {
    base::UniqueFd raw;
    std::unique_ptr<RecordChannel> channel;

    Ends() {
        int fds[2] = {-1, -1};
        REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0);
        raw = base::UniqueFd(fds[0]);
        channel = std::make_unique<RecordChannel>(base::UniqueFd(fds[1]));
    }

    void put(std::span<const std::byte> bytes) {
        REQUIRE(::send(raw.get(), bytes.data(), bytes.size(), 0) ==
                static_cast<ssize_t>(bytes.size()));
    }
};

std::vector<std::byte> frame_bytes(std::uint64_t sequence, const std::string& payload) {
    FrameHeader header;
    header.kind = FrameKind::operation;
    header.sequence = sequence;
    header.payload_bytes = static_cast<std::uint32_t>(payload.size());
    const auto bytes = std::as_bytes(std::span(payload));
    header.payload_checksum = crc32c(0, bytes);
    const auto head = encode_header(header);
    std::vector<std::byte> all(head.size() + bytes.size());
    std::copy(head.begin(), head.end(), all.begin());
    std::copy(bytes.begin(), bytes.end(), all.begin() + frame_header_bytes);
    return all;
}

}  // namespace

TEST_CASE("DataListener: a leader with the key reaches the folder of its module") {
    Listening there;
    const auto hello = some_hello();
    auto connected = connect_channel(there.endpoint(), hello, patience);
    REQUIRE(connected.has_value());
    const auto seen = there.acceptor.wait();
    CHECK(seen.module == "vm1");
    CHECK(seen.node == "node1");
    CHECK(seen.session == hello.session);
    CHECK(seen.term == 42);
    // Not a byte of what follows is lost.
    CHECK(::send(connected->get(), "x", 1, 0) == 1);
    const auto other = there.acceptor.take();
    char byte = 0;
    CHECK(::recv(other.get(), &byte, 1, 0) == 1);
    CHECK(byte == 'x');
}

TEST_CASE("DataListener: another key is refused by either side") {
    Listening there;
    auto wrong = there.endpoint();
    wrong.key[5] = 77;
    const auto refused = connect_channel(wrong, some_hello(), patience);
    REQUIRE_FALSE(refused.has_value());
    CHECK(refused.error().code == base::Errc::refused);

    // A leader that does not check, and proves itself with the wrong key.
    const auto fd = stranger(there.listener->port());
    const auto greeting = encode_hello(some_hello(), Nonce{});
    CHECK(::send(fd.get(), greeting.data(), greeting.size(), 0) ==
          static_cast<ssize_t>(greeting.size()));
    std::array<std::byte, challenge_bytes> challenge{};
    CHECK(::recv(fd.get(), challenge.data(), challenge.size(), MSG_WAITALL) ==
          static_cast<ssize_t>(challenge.size()));
    // Its own tag sent back to it is no proof.
    CHECK(::send(fd.get(), challenge.data() + 16, proof_bytes, 0) ==
          static_cast<ssize_t>(proof_bytes));
    CHECK(is_closed(fd.get()));
}

TEST_CASE("DataListener: a silent connection keeps nobody out, and junk is closed") {
    Listening there;
    std::vector<base::UniqueFd> silent;
    for (int i = 0; i < 100; ++i) {
        silent.push_back(stranger(there.listener->port()));
    }
    const auto junk = stranger(there.listener->port());
    CHECK(::send(junk.get(), "GET / HTTP/1.1\r\n\r\n", 18, 0) == 18);
    CHECK(is_closed(junk.get()));
    CHECK(connect_channel(there.endpoint(), some_hello(), patience).has_value());
    there.acceptor.wait();
}

TEST_CASE("DataListener: what nobody wants is closed") {
    Listening there;
    there.acceptor.refuses = true;
    const auto refused = connect_channel(there.endpoint(), some_hello(), patience);
    REQUIRE(refused.has_value());
    CHECK(is_closed(refused->get()));
    there.listener->remove("vm1");
    const auto unknown = connect_channel(there.endpoint(), some_hello(), patience);
    REQUIRE(unknown.has_value());
    CHECK(is_closed(unknown->get()));
}

TEST_CASE("DataListener: an address that cannot be had is named") {
    Listening there;
    const auto twice = DataListener::start("127.0.0.1", there.listener->port(), some_key());
    REQUIRE_FALSE(twice.has_value());
    CHECK(twice.error().message().find("127.0.0.1 port") != std::string::npos);
    CHECK_FALSE(DataListener::start("no address", 0, some_key()).has_value());
}

TEST_CASE("Hello: a part of it, or more than it, is refused") {
    const auto good = encode_hello(some_hello(), Nonce{});
    CHECK(decode_hello(good).has_value());
    for (std::size_t length = 0; length < good.size(); ++length) {
        CHECK_FALSE(decode_hello(std::span(good).first(length)).has_value());
    }
    auto longer = good;
    longer.emplace_back();
    CHECK_FALSE(decode_hello(longer).has_value());
}

TEST_CASE("RecordChannel: frames arrive whole, one after the other, however they were cut") {
    Ends ends;
    std::vector<std::byte> all;
    for (std::uint64_t i = 1; i <= 50; ++i) {
        const auto one = frame_bytes(i, std::string(i * 37 % 500, static_cast<char>(i)));
        all.insert(all.end(), one.begin(), one.end());
    }
    std::thread sender([&] {
        for (std::size_t at = 0; at < all.size(); at += 13) {
            ends.put(std::span(all).subspan(at, std::min<std::size_t>(13, all.size() - at)));
        }
        ends.raw.reset();
    });
    for (std::uint64_t i = 1; i <= 50; ++i) {
        const auto frame = ends.channel->receive();
        REQUIRE(frame.has_value());
        REQUIRE(frame->has_value());
        CHECK((*frame)->header.sequence == i);
        CHECK((*frame)->payload.size() == i * 37 % 500);
    }
    const auto end = ends.channel->receive();
    REQUIRE(end.has_value());
    CHECK_FALSE(end->has_value());
    sender.join();
}

TEST_CASE("RecordChannel: the largest record passes, sent from two places in memory") {
    Ends ends;
    RecordChannel other(std::move(ends.raw));
    const std::vector<std::byte> data(limits::record_bytes_max, std::byte{7});
    const std::vector<std::byte> fields(fields_bytes_max, std::byte{8});
    std::thread sender([&] {
        for (std::uint64_t i = 1; i <= 3; ++i) {
            RecordChannel::Turn turn(other);
            CHECK(turn.send(FrameKind::operation, i, fields, data, record_checksum(fields, data))
                      .has_value());
        }
    });
    for (std::uint64_t i = 1; i <= 3; ++i) {
        const auto frame = ends.channel->receive();
        REQUIRE(frame.has_value());
        REQUIRE(frame->has_value());
        CHECK((*frame)->payload.size() == payload_bytes_max);
        CHECK((*frame)->payload.front() == std::byte{8});
        CHECK((*frame)->payload.back() == std::byte{7});
    }
    sender.join();
}

TEST_CASE("RecordChannel: a damaged byte is found, wherever it is") {
    const auto good = frame_bytes(1, "payload");
    for (std::size_t at = 0; at < good.size(); ++at) {
        Ends ends;
        auto bad = good;
        bad[at] ^= std::byte{0x10};
        ends.put(bad);
        const auto frame = ends.channel->receive();
        REQUIRE_FALSE(frame.has_value());
        CHECK(frame.error().code == base::Errc::corrupt);
    }
}

TEST_CASE(
    "RecordChannel: an end within a record is an error, and shutting down wakes the receiver") {
    Ends ends;
    const auto good = frame_bytes(1, "payload");
    ends.put(std::span(good).first(good.size() - 1));
    ends.raw.reset();
    const auto cut = ends.channel->receive();
    REQUIRE_FALSE(cut.has_value());
    CHECK(cut.error().code == base::Errc::peer_unreachable);

    Ends waiting;
    std::thread closer([&] { waiting.channel->shut_down(); });
    const auto woken = waiting.channel->receive();
    CHECK((!woken || !woken->has_value()));
    closer.join();
    CHECK_FALSE(waiting.channel->send(FrameKind::heartbeat, 0, {}).has_value());
}
