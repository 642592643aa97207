#include "io/handshake.hpp"

#include <safepair/base/bytes.hpp>
#include <safepair/base/system_time.hpp>
#include <safepair/replica/limits.hpp>

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>

#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>

namespace safepair::replica {

namespace {

constexpr std::uint32_t hello_magic = 0x48525053;  // "SPRH"
constexpr std::uint8_t handshake_version = 1;
constexpr std::size_t text_bytes_max = 63;
constexpr int send_buffer_bytes = 4 * 1024 * 1024;

base::Error errno_error(const std::string& what) { return base::error_from_errno(errno, what); }

struct AddressList {
    AddressList(const std::string& address, std::uint16_t port, int flags) {
        addrinfo hints{};
        hints.ai_socktype = SOCK_STREAM;
        hints.ai_flags = flags | AI_NUMERICHOST | AI_NUMERICSERV;
        failure = getaddrinfo(address.empty() ? nullptr : address.c_str(),
                              std::to_string(port).c_str(),
                              &hints,
                              &first);
    }

    ~AddressList() {
        if (first != nullptr) {
            freeaddrinfo(first);
        }
    }

    AddressList(const AddressList&) = delete;
    AddressList& operator=(const AddressList&) = delete;

    addrinfo* first = nullptr;
    int failure = 0;
};

/// One non-blocking connection with a deadline for all that is done with it.
class Dialogue {
  public:
    Dialogue(base::UniqueFd fd, base::Instant deadline, std::string peer)
        : fd_(std::move(fd)), deadline_(deadline), peer_(std::move(peer)) {}

    base::Result<void> wait(short events) {
        const auto left =
            std::chrono::duration_cast<std::chrono::milliseconds>(deadline_ - base::boot_time_now())
                .count();
        pollfd one{fd_.get(), events, 0};
        const int ready = left <= 0 ? 0 : ::poll(&one, 1, static_cast<int>(left));
        if (ready < 0 && errno != EINTR) {
            return errno_error("poll");
        }
        if (ready == 0) {
            return base::error(base::Errc::timed_out, peer_ + " does not answer");
        }
        return {};
    }

    base::Result<void> send(std::span<const std::byte> bytes) {
        while (!bytes.empty()) {
            const auto put = ::send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
            if (put > 0) {
                bytes = bytes.subspan(static_cast<std::size_t>(put));
            } else if (errno == EAGAIN) {
                SAFEPAIR_CHECK(wait(POLLOUT));
            } else if (errno != EINTR) {
                return errno_error("send to " + peer_);
            }
        }
        return {};
    }

    base::Result<void> receive(std::span<std::byte> bytes) {
        while (!bytes.empty()) {
            const auto got = ::recv(fd_.get(), bytes.data(), bytes.size(), 0);
            if (got > 0) {
                bytes = bytes.subspan(static_cast<std::size_t>(got));
            } else if (got == 0) {
                return base::error(
                    base::Errc::refused,
                    peer_ +
                        " closed the channel; it has another key or does not expect this session");
            } else if (errno == EAGAIN) {
                SAFEPAIR_CHECK(wait(POLLIN));
            } else if (errno != EINTR) {
                return errno_error("receive from " + peer_);
            }
        }
        return {};
    }

    [[nodiscard]] int fd() const { return fd_.get(); }

    base::UniqueFd take() { return std::move(fd_); }

  private:
    base::UniqueFd fd_;
    base::Instant deadline_;
    std::string peer_;
};

base::Result<base::UniqueFd> begin_connect(const DataEndpoint& peer) {
    const AddressList remote(peer.address, peer.port, 0);
    if (remote.failure != 0) {
        return base::error(base::Errc::bad_input,
                           "address " + peer.address + ": " + gai_strerror(remote.failure));
    }
    base::UniqueFd fd(
        ::socket(remote.first->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_TCP));
    if (!fd) {
        return errno_error("socket");
    }
    tune_socket(fd.get());
    if (!peer.local_address.empty()) {
        const AddressList local(peer.local_address, 0, AI_PASSIVE);
        if (local.failure != 0) {
            return base::error(
                base::Errc::bad_input,
                "address " + peer.local_address + ": " + gai_strerror(local.failure));
        }
        if (::bind(fd.get(), local.first->ai_addr, local.first->ai_addrlen) != 0) {
            return errno_error("bind to " + peer.local_address);
        }
    }
    if (::connect(fd.get(), remote.first->ai_addr, remote.first->ai_addrlen) != 0 &&
        errno != EINPROGRESS) {
        return errno_error("connect to " + peer.address + " port " + std::to_string(peer.port));
    }
    return fd;
}

void append(std::vector<std::byte>& bytes, std::span<const std::byte> more) {
    bytes.insert(bytes.end(), more.begin(), more.end());
}

}  // namespace

void tune_socket(int fd) {
    const int yes = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes));
    const unsigned patience = static_cast<unsigned>(
        std::chrono::duration_cast<std::chrono::milliseconds>(limits::io_timeout).count());
    setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &patience, sizeof(patience));
    // Above the limit of ordinary users; without the right to it the kernel sizes the buffer
    // itself.
    setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &send_buffer_bytes, sizeof(send_buffer_bytes));
}

std::vector<std::byte> encode_hello(const ChannelHello& hello, const Nonce& nonce) {
    base::ByteWriter body;
    body.u32(hello_magic);
    body.u8(handshake_version);
    body.text(hello.module);
    body.text(hello.node);
    body.id(hello.session.bytes);
    body.u64(hello.term);
    body.id(nonce);
    base::ByteWriter whole;
    whole.u16(static_cast<std::uint16_t>(body.bytes().size()));
    whole.raw(body.bytes());
    return whole.take();
}

base::Result<ChannelHello> decode_hello(std::span<const std::byte> bytes) {
    base::ByteReader reader(bytes);
    const std::size_t length = reader.u16();
    const bool whole =
        reader.ok() && reader.remaining() == length && bytes.size() <= hello_bytes_max;
    const auto magic = reader.u32();
    const auto version = reader.u8();
    ChannelHello hello;
    hello.module = reader.text(text_bytes_max);
    hello.node = reader.text(text_bytes_max);
    hello.session = base::SessionId{reader.id()};
    hello.term = reader.u64();
    reader.id();
    if (!whole || !reader.finished() || magic != hello_magic || version != handshake_version) {
        return base::error(base::Errc::corrupt, "hello");
    }
    return hello;
}

Tag make_tag(const ChannelKey& key,
             End end,
             std::span<const std::byte> hello,
             const Nonce& follower_nonce) {
    // The role keeps one end's tag from being sent back as the other's.
    base::ByteWriter writer;
    writer.text(end == End::leader ? "safepair channel leader" : "safepair channel follower");
    writer.blob(hello);
    writer.id(follower_nonce);
    const auto& text = writer.bytes();
    Tag tag{};
    unsigned length = 0;
    HMAC(EVP_sha256(),
         key.data(),
         static_cast<int>(key.size()),
         reinterpret_cast<const unsigned char*>(text.data()),
         text.size(),
         tag.data(),
         &length);
    SAFEPAIR_ASSERT(length == tag.size(), "HMAC-SHA-256 is always available");
    return tag;
}

bool same_tag(const Tag& one, std::span<const std::byte> other) {
    return other.size() == one.size() && CRYPTO_memcmp(one.data(), other.data(), one.size()) == 0;
}

base::Result<base::UniqueFd> connect_channel(const DataEndpoint& peer,
                                             const ChannelHello& hello,
                                             base::Duration patience) {
    if (hello.module.size() > text_bytes_max || hello.node.size() > text_bytes_max) {
        return base::error(base::Errc::bad_input, "module or node name is longer than 63 bytes");
    }
    SAFEPAIR_TRY(auto fd, begin_connect(peer));
    Dialogue dialogue(std::move(fd),
                      base::boot_time_now() + patience,
                      peer.address + " port " + std::to_string(peer.port));
    SAFEPAIR_CHECK(dialogue.wait(POLLOUT));
    int failure = 0;
    socklen_t length = sizeof(failure);
    getsockopt(dialogue.fd(), SOL_SOCKET, SO_ERROR, &failure, &length);
    if (failure != 0) {
        return base::error_from_errno(
            failure, "connect to " + peer.address + " port " + std::to_string(peer.port));
    }

    const auto greeting = encode_hello(hello, base::random_bytes16());
    SAFEPAIR_CHECK(dialogue.send(greeting));
    std::array<std::byte, challenge_bytes> challenge{};
    SAFEPAIR_CHECK(dialogue.receive(challenge));
    base::ByteReader reader(challenge);
    const Nonce nonce = reader.id();
    if (!same_tag(make_tag(peer.key, End::follower, greeting, nonce), reader.raw(proof_bytes))) {
        return base::error(base::Errc::refused, peer.address + " has another channel key");
    }
    const auto proof = make_tag(peer.key, End::leader, greeting, nonce);
    std::vector<std::byte> bytes;
    append(bytes, std::as_bytes(std::span(proof)));
    SAFEPAIR_CHECK(dialogue.send(bytes));

    const int flags = fcntl(dialogue.fd(), F_GETFL);
    fcntl(dialogue.fd(), F_SETFL, flags & ~O_NONBLOCK);
    return dialogue.take();
}

}  // namespace safepair::replica
