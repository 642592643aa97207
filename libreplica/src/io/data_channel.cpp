// The listening end of the data channels. One thread with poll(2): connections are few and their
// handshakes short; what follows happens on threads of the folders.
#include "io/handshake.hpp"

#include <safepair/base/bytes.hpp>
#include <safepair/base/system_time.hpp>
#include <safepair/replica/data_channel.hpp>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

namespace safepair::replica {

namespace {

constexpr base::Duration handshake_patience = std::chrono::seconds(5);
/// Connections that have not proved themselves; above it the oldest is closed.
constexpr std::size_t strangers_max = 64;

/// One connection until it is handed over or closed.
struct Stranger {
    enum class Stage : std::uint8_t { length, hello, proof };
    base::UniqueFd fd;
    base::Instant deadline{};
    Stage stage = Stage::length;
    std::vector<std::byte> received;
    /// Never read more than the handshake: what follows belongs to the session.
    std::size_t wanted = hello_length_bytes;
    ChannelHello hello;
    Tag expected{};
};

class Listener final : public DataListener {
  public:
    Listener(base::UniqueFd socket,
             base::UniqueFd wake,
             std::uint16_t bound_port,
             const ChannelKey& key)
        : socket_(std::move(socket)), wake_(std::move(wake)), port_(bound_port), key_(key) {
        thread_ = std::thread([this] { run(); });
    }

    ~Listener() override {
        const std::uint64_t one = 1;
        while (::write(wake_.get(), &one, sizeof(one)) < 0 && errno == EINTR) {
        }
        thread_.join();
    }

    void add(const std::string& module, ChannelAcceptor& acceptor) override {
        const std::lock_guard lock(mutex_);
        acceptors_[module] = &acceptor;
    }

    void remove(const std::string& module) override {
        // accept() runs under the lock.
        const std::lock_guard lock(mutex_);
        acceptors_.erase(module);
    }

    [[nodiscard]] std::uint16_t port() const override { return port_; }

  private:
    void run();
    void welcome_strangers();
    /// False: the connection is done with.
    bool advance(Stranger& stranger);
    bool challenge(Stranger& stranger);
    void hand_over(Stranger& stranger);

    const base::UniqueFd socket_;
    const base::UniqueFd wake_;
    const std::uint16_t port_;
    const ChannelKey key_;
    std::vector<Stranger> strangers_;  // of the thread

    std::mutex mutex_;
    std::map<std::string, ChannelAcceptor*> acceptors_;  // guarded by mutex_
    std::thread thread_;
};

void Listener::run() {
    for (;;) {
        std::vector<pollfd> watched{{socket_.get(), POLLIN, 0}, {wake_.get(), POLLIN, 0}};
        for (const auto& stranger : strangers_) {
            watched.push_back({stranger.fd.get(), POLLIN, 0});
        }
        auto patience = -1;
        const auto now = base::boot_time_now();
        for (const auto& stranger : strangers_) {
            const auto left =
                std::chrono::duration_cast<std::chrono::milliseconds>(stranger.deadline - now)
                    .count();
            const auto wait = static_cast<int>(std::max<std::int64_t>(left, 0)) + 1;
            patience = patience < 0 ? wait : std::min(patience, wait);
        }
        if (::poll(watched.data(), watched.size(), patience) < 0 && errno != EINTR) {
            return;
        }
        if (watched[1].revents != 0) {
            return;
        }
        const auto later = base::boot_time_now();
        std::vector<Stranger> kept;
        for (std::size_t i = 0; i < strangers_.size(); ++i) {
            auto& stranger = strangers_[i];
            const bool goes_on = watched[i + 2].revents == 0 || advance(stranger);
            if (goes_on && later < stranger.deadline) {
                kept.push_back(std::move(stranger));
            }
        }
        strangers_ = std::move(kept);
        if (watched[0].revents != 0) {
            welcome_strangers();
        }
    }
}

void Listener::welcome_strangers() {
    for (;;) {
        base::UniqueFd fd(::accept4(socket_.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
        if (!fd) {
            if (errno == EMFILE || errno == ENFILE) {
                // Without this the socket stays readable and the thread spins.
                strangers_.clear();
                const timespec pause{0, 50'000'000};
                nanosleep(&pause, nullptr);
            }
            return;
        }
        if (strangers_.size() >= strangers_max) {
            strangers_.erase(strangers_.begin());
        }
        tune_socket(fd.get());
        Stranger stranger;
        stranger.fd = std::move(fd);
        stranger.deadline = base::boot_time_now() + handshake_patience;
        strangers_.push_back(std::move(stranger));
    }
}

bool Listener::advance(Stranger& stranger) {
    const auto before = stranger.received.size();
    stranger.received.resize(stranger.wanted);
    const auto got =
        ::recv(stranger.fd.get(), stranger.received.data() + before, stranger.wanted - before, 0);
    stranger.received.resize(before + static_cast<std::size_t>(std::max<ssize_t>(got, 0)));
    if (got <= 0) {
        return got < 0 && (errno == EAGAIN || errno == EINTR);
    }
    if (stranger.received.size() < stranger.wanted) {
        return true;
    }
    switch (stranger.stage) {
        case Stranger::Stage::length:
            stranger.wanted += base::ByteReader(stranger.received).u16();
            stranger.stage = Stranger::Stage::hello;
            return stranger.wanted > hello_length_bytes && stranger.wanted <= hello_bytes_max;
        case Stranger::Stage::hello:
            return challenge(stranger);
        case Stranger::Stage::proof:
            if (same_tag(stranger.expected, stranger.received)) {
                hand_over(stranger);
            }
            return false;
    }
    return false;
}

bool Listener::challenge(Stranger& stranger) {
    auto decoded = decode_hello(stranger.received);
    if (!decoded) {
        return false;
    }
    stranger.hello = std::move(*decoded);
    const Nonce nonce = base::random_bytes16();
    const auto tag = make_tag(key_, End::follower, stranger.received, nonce);
    stranger.expected = make_tag(key_, End::leader, stranger.received, nonce);
    std::array<std::byte, challenge_bytes> bytes{};
    std::memcpy(bytes.data(), nonce.data(), nonce.size());
    std::memcpy(bytes.data() + nonce.size(), tag.data(), tag.size());
    stranger.received.clear();
    stranger.wanted = proof_bytes;
    stranger.stage = Stranger::Stage::proof;
    // A fresh socket has room for this.
    return ::send(stranger.fd.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL) ==
           static_cast<ssize_t>(bytes.size());
}

void Listener::hand_over(Stranger& stranger) {
    const int flags = fcntl(stranger.fd.get(), F_GETFL);
    fcntl(stranger.fd.get(), F_SETFL, flags & ~O_NONBLOCK);
    const std::lock_guard lock(mutex_);
    const auto found = acceptors_.find(stranger.hello.module);
    if (found != acceptors_.end()) {
        // Refused or not, the connection is no longer ours; a refused one is closed with what it
        // was handed to.
        found->second->accept(stranger.hello, std::move(stranger.fd));
    }
}

base::Result<base::UniqueFd> bind_and_listen(const std::string& address, std::uint16_t port) {
    const auto where =
        (address.empty() ? "any address" : address) + " port " + std::to_string(port);
    addrinfo hints{};
    hints.ai_socktype = SOCK_STREAM;
    hints.ai_flags = AI_PASSIVE | AI_NUMERICHOST | AI_NUMERICSERV;
    addrinfo* found = nullptr;
    const int failure = getaddrinfo(
        address.empty() ? nullptr : address.c_str(), std::to_string(port).c_str(), &hints, &found);
    if (failure != 0) {
        return base::error(base::Errc::bad_input,
                           "listen on " + where + ": " + gai_strerror(failure));
    }
    const std::unique_ptr<addrinfo, void (*)(addrinfo*)> owner(found, freeaddrinfo);
    base::UniqueFd fd(
        ::socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_TCP));
    if (!fd) {
        return base::error_from_errno(errno, "socket for " + where);
    }
    const int yes = 1;
    setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
    if (::bind(fd.get(), found->ai_addr, found->ai_addrlen) != 0) {
        return base::error_from_errno(errno, "bind data channel to " + where);
    }
    if (::listen(fd.get(), SOMAXCONN) != 0) {
        return base::error_from_errno(errno, "listen on " + where);
    }
    return fd;
}

std::uint16_t port_of(int fd) {
    sockaddr_storage bound{};
    socklen_t length = sizeof(bound);
    getsockname(fd, reinterpret_cast<sockaddr*>(&bound), &length);
    if (bound.ss_family == AF_INET6) {
        return ntohs(reinterpret_cast<const sockaddr_in6*>(&bound)->sin6_port);
    }
    return ntohs(reinterpret_cast<const sockaddr_in*>(&bound)->sin_port);
}

}  // namespace

base::Result<std::unique_ptr<DataListener>> DataListener::start(const std::string& address,
                                                                std::uint16_t port,
                                                                const ChannelKey& key) {
    SAFEPAIR_TRY(auto fd, bind_and_listen(address, port));
    base::UniqueFd wake(::eventfd(0, EFD_CLOEXEC));
    if (!wake) {
        return base::error_from_errno(errno, "eventfd");
    }
    const auto bound = port_of(fd.get());
    return std::unique_ptr<DataListener>(
        std::make_unique<Listener>(std::move(fd), std::move(wake), bound, key));
}

}  // namespace safepair::replica
