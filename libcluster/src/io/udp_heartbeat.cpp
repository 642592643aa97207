#include "io/peer_incarnations.hpp"

#include <safepair/base/ids.hpp>
#include <safepair/base/system_time.hpp>
#include <safepair/base/unique_fd.hpp>
#include <safepair/cluster/heartbeat.hpp>
#include <safepair/cluster/limits.hpp>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <map>
#include <mutex>
#include <system_error>
#include <thread>
#include <utility>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

namespace safepair::cluster {

namespace {

/// Datagrams taken from one socket before the next one gets its turn.
constexpr int datagrams_per_turn_max = 64;

struct Address {
    sockaddr_storage storage{};
    socklen_t length = 0;

    [[nodiscard]] const sockaddr* get() const {
        return reinterpret_cast<const sockaddr*>(&storage);
    }
};

base::Result<Address> parse_address(const std::string& text, std::uint16_t port) {
    Address address;
    sockaddr_in v4{};
    sockaddr_in6 v6{};
    if (inet_pton(AF_INET, text.c_str(), &v4.sin_addr) == 1) {
        v4.sin_family = AF_INET;
        v4.sin_port = htons(port);
        std::memcpy(&address.storage, &v4, sizeof v4);
        address.length = sizeof v4;
    } else if (inet_pton(AF_INET6, text.c_str(), &v6.sin6_addr) == 1) {
        v6.sin6_family = AF_INET6;
        v6.sin6_port = htons(port);
        std::memcpy(&address.storage, &v6, sizeof v6);
        address.length = sizeof v6;
    } else {
        return base::error(base::Errc::bad_input, "'" + text + "' is not an IPv4 or IPv6 address");
    }
    return address;
}

/// A bound non-blocking socket, or none while the address is missing.
base::UniqueFd bind_socket(const Address& local) {
    base::UniqueFd fd(
        ::socket(local.storage.ss_family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    if (!fd) {
        return {};
    }
    // Ahead of replicated data on a link that a resync fills.
    const int priority = 6;
    ::setsockopt(fd.get(), SOL_SOCKET, SO_PRIORITY, &priority, sizeof priority);
    if (::bind(fd.get(), local.get(), local.length) != 0) {
        return {};
    }
    return fd;
}

std::uint64_t random_u64() {
    const auto bytes = base::random_bytes16();
    std::uint64_t value = 0;
    std::memcpy(&value, bytes.data(), sizeof value);
    return value;
}

/// Of two times of one sender, whose offset may let them wrap around.
bool is_later(std::int64_t a, std::int64_t b) {
    return static_cast<std::int64_t>(static_cast<std::uint64_t>(a) -
                                     static_cast<std::uint64_t>(b)) > 0;
}

class UdpHeartbeat final : public HeartbeatTransport {
  public:
    struct Network {
        std::string name;
        Address local;
        Address peer;
        base::UniqueFd socket;       // set by the thread under mutex_, read by the thread without
        std::uint64_t counter = 0;   // guarded by mutex_
        HeartbeatCounters counters;  // guarded by mutex_
        base::Instant heard_at{};    // guarded by mutex_; zero: never
    };

    UdpHeartbeat(NodeId self,
                 NodeId peer,
                 Incarnation incarnation,
                 std::vector<Network> networks,
                 HeartbeatKey key,
                 Received received,
                 base::UniqueFd wake)
        : self_(std::move(self)),
          peer_(std::move(peer)),
          incarnation_(incarnation),
          key_(key),
          received_(std::move(received)),
          wake_(std::move(wake)),
          started_(base::boot_time_now()),
          clock_offset_(random_u64()),
          networks_(std::move(networks)),
          incarnations_(networks_.size()) {
        bind_missing();
        thread_ = std::thread([this] { run(); });
    }

    ~UdpHeartbeat() override {
        const std::uint64_t one = 1;
        stopping_ = true;
        // The counter of an eventfd cannot be full here, so the write cannot fail.
        [[maybe_unused]] const auto written = ::write(wake_.get(), &one, sizeof one);
        thread_.join();
    }

    void send(const std::string& module, const PeerStatus& status) override {
        Heartbeat heartbeat;
        heartbeat.module = module;
        heartbeat.status = status;
        send_everywhere(std::move(heartbeat));
    }

    void send_bare() override { send_everywhere(Heartbeat{}); }

    [[nodiscard]] HeartbeatCounters counters(const std::string& network) const override {
        const std::lock_guard lock(mutex_);
        for (const auto& candidate : networks_) {
            if (candidate.name == network) {
                return candidate.counters;
            }
        }
        return {};
    }

    [[nodiscard]] std::int64_t echoed() const override { return echoed_; }

  private:
    void send_everywhere(Heartbeat heartbeat);
    void run();
    void bind_missing();
    [[nodiscard]] bool any_missing() const;
    void receive_from(std::size_t index);
    void take(std::size_t index, std::span<const std::byte> datagram);
    [[nodiscard]] std::int64_t own_time_of(std::int64_t echo) const;

    // Constant after construction.
    const NodeId self_;
    const NodeId peer_;
    const Incarnation incarnation_;
    const HeartbeatKey key_;
    const Received received_;
    const base::UniqueFd wake_;
    const base::Instant started_;
    /// Added to the clock in what we send, so that an echo recorded in another life of this node is
    /// recognised.
    const std::uint64_t clock_offset_;

    // Self-synchronised.
    std::atomic<bool> stopping_ = false;
    std::atomic<std::int64_t> echoed_ = 0;

    mutable std::mutex mutex_;
    std::vector<Network> networks_;  // the vector is constant, its members as noted above
    Incarnation echo_of_;            // guarded by mutex_
    std::int64_t echo_ = 0;          // guarded by mutex_

    // Owned by the thread.
    PeerIncarnations incarnations_;
    std::thread thread_;
};

void UdpHeartbeat::send_everywhere(Heartbeat heartbeat) {
    heartbeat.from = self_;
    heartbeat.incarnation = incarnation_;
    // The sends are inside the lock: they do not block, and counters must leave in their order.
    const std::lock_guard lock(mutex_);
    const base::Instant now = base::boot_time_now();
    heartbeat.sent = static_cast<std::int64_t>(
        static_cast<std::uint64_t>(now.time_since_epoch().count()) + clock_offset_);
    heartbeat.echo = echo_;
    for (const auto& network : networks_) {
        if (network.heard_at != base::Instant{} &&
            now - network.heard_at < limits::heard_on_window) {
            heartbeat.heard_on.push_back(network.name);
        }
    }
    for (auto& network : networks_) {
        if (!network.socket) {
            continue;
        }
        heartbeat.network = network.name;
        heartbeat.counter = ++network.counter;
        const auto datagram = encode(heartbeat, key_);
        const auto count = ::sendto(network.socket.get(),
                                    datagram.data(),
                                    datagram.size(),
                                    MSG_DONTWAIT | MSG_NOSIGNAL,
                                    network.peer.get(),
                                    network.peer.length);
        if (count == static_cast<ssize_t>(datagram.size())) {
            ++network.counters.sent;
        }
    }
}

void UdpHeartbeat::run() {
    ::pthread_setname_np(::pthread_self(), "heartbeat");
    // Where it is not allowed the thread runs like any other.
    sched_param parameters{};
    parameters.sched_priority = 1;
    ::pthread_setschedparam(::pthread_self(), SCHED_FIFO, &parameters);
    base::Instant bind_tried = started_;
    while (!stopping_) {
        if (any_missing() && base::boot_time_now() - bind_tried >= limits::bind_retry_pause) {
            bind_missing();
            bind_tried = base::boot_time_now();
        }
        std::vector<pollfd> waits;
        waits.push_back({wake_.get(), POLLIN, 0});
        for (const auto& network : networks_) {
            // poll(2) ignores negative descriptors.
            waits.push_back({network.socket ? network.socket.get() : -1, POLLIN, 0});
        }
        constexpr int retry_ms = static_cast<int>(
            std::chrono::duration_cast<std::chrono::milliseconds>(limits::bind_retry_pause)
                .count());
        if (::poll(waits.data(), waits.size(), any_missing() ? retry_ms : -1) <= 0) {
            continue;
        }
        for (std::size_t index = 0; index < networks_.size() && !stopping_; ++index) {
            if (waits[index + 1].revents != 0) {
                receive_from(index);
            }
        }
    }
}

bool UdpHeartbeat::any_missing() const {
    return std::ranges::any_of(networks_, [](const Network& n) { return !n.socket; });
}

void UdpHeartbeat::bind_missing() {
    for (auto& network : networks_) {
        if (!network.socket) {
            auto fd = bind_socket(network.local);
            const std::lock_guard lock(mutex_);
            network.socket = std::move(fd);
        }
    }
}

void UdpHeartbeat::receive_from(std::size_t index) {
    std::array<std::byte, limits::heartbeat_bytes_max + 1> buffer{};
    for (int turn = 0; turn < datagrams_per_turn_max && !stopping_; ++turn) {
        // A longer datagram is cut to the buffer, which is one byte over the limit: decode refuses
        // it.
        const ssize_t count =
            ::recv(networks_[index].socket.get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
        if (count < 0) {
            return;
        }
        take(index, std::span(buffer).first(static_cast<std::size_t>(count)));
    }
}

/// The time of ours that `echo` stands for, 0 when this process did not send it.
std::int64_t UdpHeartbeat::own_time_of(std::int64_t echo) const {
    const auto time = static_cast<std::int64_t>(static_cast<std::uint64_t>(echo) - clock_offset_);
    const bool ours = time >= started_.time_since_epoch().count() &&
                      time <= base::boot_time_now().time_since_epoch().count();
    return ours ? time : 0;
}

void UdpHeartbeat::take(std::size_t index, std::span<const std::byte> datagram) {
    auto decoded = decode(datagram, key_);
    const bool authentic =
        decoded.has_value() && decoded->from == peer_ && decoded->network == networks_[index].name;
    if (!authentic) {
        const std::lock_guard lock(mutex_);
        ++networks_[index].counters.forged;
        return;
    }
    Heartbeat& heartbeat = *decoded;
    // What is handed on speaks of our own clock again.
    heartbeat.echo = own_time_of(heartbeat.echo);
    const auto freshness =
        incarnations_.judge({heartbeat.incarnation, heartbeat.counter, index, heartbeat.echo != 0});
    {
        const std::lock_guard lock(mutex_);
        auto& network = networks_[index];
        if (freshness == PeerIncarnations::Freshness::replayed) {
            ++network.counters.replayed;
            return;
        }
        // An unproven incarnation is echoed too: that is how it can prove itself.
        if (echo_of_ != heartbeat.incarnation || is_later(heartbeat.sent, echo_)) {
            echo_of_ = heartbeat.incarnation;
            echo_ = heartbeat.sent;
        }
        if (freshness == PeerIncarnations::Freshness::unproven) {
            return;
        }
        ++network.counters.received;
        network.heard_at = base::boot_time_now();
    }
    if (heartbeat.echo > echoed_) {
        echoed_ = heartbeat.echo;
    }
    received_(heartbeat);
}

}  // namespace

base::Result<std::unique_ptr<HeartbeatTransport>> HeartbeatTransport::start(
    NodeId self,
    NodeId peer,
    Incarnation incarnation,
    std::vector<HeartbeatNetwork> networks,
    HeartbeatKey key,
    Received received) {
    std::vector<UdpHeartbeat::Network> parsed;
    for (const auto& network : networks) {
        UdpHeartbeat::Network entry;
        entry.name = network.name;
        SAFEPAIR_TRY(entry.local, parse_address(network.local_address, network.port));
        SAFEPAIR_TRY(entry.peer, parse_address(network.peer_address, network.port));
        if (entry.local.storage.ss_family != entry.peer.storage.ss_family) {
            return base::error(base::Errc::bad_input,
                               "network " + network.name + " mixes IPv4 and IPv6 addresses");
        }
        parsed.push_back(std::move(entry));
    }
    base::UniqueFd wake(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (!wake) {
        return base::error_from_errno(errno, "create the wake-up of the heartbeat thread");
    }
    try {
        std::unique_ptr<HeartbeatTransport> transport =
            std::make_unique<UdpHeartbeat>(std::move(self),
                                           std::move(peer),
                                           incarnation,
                                           std::move(parsed),
                                           key,
                                           std::move(received),
                                           std::move(wake));
        return transport;
    } catch (const std::system_error& failure) {
        return base::Error{failure.code(), "start the heartbeat thread"};
    }
}

}  // namespace safepair::cluster
