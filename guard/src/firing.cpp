#include "firing.hpp"

#include "process_identity.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <string_view>

#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace safepair::guard {

namespace {

/// Opens `name` in the cgroup; none when the cgroup is not there.
base::UniqueFd open_in_cgroup(const Order& order, const char* name, int flags) noexcept {
    std::array<char, 640> path{};
    const auto cgroup = view(order.cgroup);
    std::snprintf(
        path.data(), path.size(), "%.*s/%s", static_cast<int>(cgroup.size()), cgroup.data(), name);
    return base::UniqueFd(::open(path.data(), flags | O_CLOEXEC));
}

/// True also when the cgroup does not exist: then nothing runs in it.
bool write_to_cgroup(const Order& order, const char* name, char value) noexcept {
    if (view(order.cgroup).empty()) {
        return true;
    }
    const auto fd = open_in_cgroup(order, name, O_WRONLY);
    if (!fd) {
        return errno == ENOENT;
    }
    return ::write(fd.get(), &value, 1) == 1 || errno == ENODEV;
}

bool populated(const Order& order) noexcept {
    const auto fd = open_in_cgroup(order, "cgroup.events", O_RDONLY);
    std::array<char, 256> text{};
    return fd && ::read(fd.get(), text.data(), text.size() - 1) > 0 &&
           std::strstr(text.data(), "populated 1") != nullptr;
}

/// The process of the order, or none when it is gone. The start time is read after the descriptor
/// was opened: if they belong together then, the descriptor can mean no other process.
base::UniqueFd open_process(const Order& order) noexcept {
    if (order.process <= 0) {
        return {};
    }
    base::UniqueFd fd(static_cast<int>(::syscall(SYS_pidfd_open, order.process, 0)));
    if (fd && process_start_ticks(order.process) != order.process_start) {
        fd.reset();
    }
    return fd;
}

bool send_signal(const base::UniqueFd& process, int signal) noexcept {
    return !process || ::syscall(SYS_pidfd_send_signal, process.get(), signal, nullptr, 0) == 0 ||
           errno == ESRCH;
}

/// A mount of fusectl that is attached nowhere: needs no mount point and is there in every
/// namespace.
base::UniqueFd open_fuse_control() noexcept {
    const base::UniqueFd context(::fsopen("fusectl", FSOPEN_CLOEXEC));
    if (!context || ::fsconfig(context.get(), FSCONFIG_CMD_CREATE, nullptr, nullptr, 0) != 0) {
        return {};
    }
    return base::UniqueFd(::fsmount(context.get(), FSMOUNT_CLOEXEC, 0));
}

bool abort_fuse(const Order& order) noexcept {
    if (order.fuse_connection == 0) {
        return true;
    }
    const auto control = open_fuse_control();
    std::array<char, 96> path{};
    base::UniqueFd fd;
    if (control) {
        std::snprintf(path.data(), path.size(), "%u/abort", order.fuse_connection);
        fd = base::UniqueFd(::openat(control.get(), path.data(), O_WRONLY | O_CLOEXEC));
    } else {
        std::snprintf(
            path.data(), path.size(), "/sys/fs/fuse/connections/%u/abort", order.fuse_connection);
        fd = base::UniqueFd(::open(path.data(), O_WRONLY | O_CLOEXEC));
    }
    if (!fd) {
        // With the control file system at hand a missing entry is a connection that ended by
        // itself.
        return control && errno == ENOENT;
    }
    return ::write(fd.get(), "1", 1) == 1;
}

struct DeleteAddress {
    nlmsghdr header{};
    ifaddrmsg message{};
    std::array<char, 64> attributes{};
};

void append_attribute(DeleteAddress& request,
                      unsigned short type,
                      const void* value,
                      std::size_t size) noexcept {
    rtattr attribute{};
    attribute.rta_type = type;
    attribute.rta_len = static_cast<unsigned short>(RTA_LENGTH(size));
    char* place = reinterpret_cast<char*>(&request) + NLMSG_ALIGN(request.header.nlmsg_len);
    std::memcpy(place, &attribute, sizeof attribute);
    std::memcpy(place + RTA_LENGTH(0), value, size);
    request.header.nlmsg_len = NLMSG_ALIGN(request.header.nlmsg_len) + RTA_ALIGN(attribute.rta_len);
}

/// Fills `request` from "ADDRESS/PREFIX@INTERFACE". False when it is something else; no such
/// interface: index 0.
bool parse_address(std::string_view text, DeleteAddress& request) noexcept {
    const auto slash = text.find('/');
    const auto at = text.find('@');
    if (slash == std::string_view::npos || at == std::string_view::npos || slash > at) {
        return false;
    }
    std::array<char, 64> address{};
    std::array<char, IF_NAMESIZE> interface {};
    const auto name = text.substr(at + 1);
    if (slash >= address.size() || name.empty() || name.size() >= interface.size()) {
        return false;
    }
    std::copy_n(text.begin(), slash, address.begin());
    std::copy(name.begin(), name.end(), interface.begin());
    unsigned prefix = 0;
    const auto digits = text.substr(slash + 1, at - slash - 1);
    const auto parsed = std::from_chars(digits.data(), digits.data() + digits.size(), prefix);
    if (parsed.ec != std::errc{} || parsed.ptr != digits.data() + digits.size() || prefix > 128) {
        return false;
    }
    std::array<char, 16> binary{};
    const bool v4 = ::inet_pton(AF_INET, address.data(), binary.data()) == 1;
    if (!v4 && ::inet_pton(AF_INET6, address.data(), binary.data()) != 1) {
        return false;
    }
    request.header.nlmsg_len = NLMSG_LENGTH(sizeof(ifaddrmsg));
    request.header.nlmsg_type = RTM_DELADDR;
    request.header.nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK;
    request.message.ifa_family = v4 ? AF_INET : AF_INET6;
    request.message.ifa_prefixlen = static_cast<unsigned char>(prefix);
    request.message.ifa_index = ::if_nametoindex(interface.data());
    append_attribute(request, IFA_LOCAL, binary.data(), v4 ? 4 : 16);
    return true;
}

bool remove_address(int socket, std::string_view text) noexcept {
    DeleteAddress request;
    if (!parse_address(text, request)) {
        return false;
    }
    if (request.message.ifa_index == 0) {
        return true;
    }
    if (::send(socket, &request, request.header.nlmsg_len, 0) < 0) {
        return false;
    }

    // The kernel answers a request on the socket before send() returns, so this does not wait.
    struct {
        nlmsghdr header;
        nlmsgerr answer;
        std::array<char, 256> rest;
    } reply{};

    if (::recv(socket, &reply, sizeof reply, MSG_DONTWAIT) <
        static_cast<ssize_t>(NLMSG_LENGTH(sizeof(nlmsgerr)))) {
        return false;
    }
    return reply.header.nlmsg_type == NLMSG_ERROR &&
           (reply.answer.error == 0 || reply.answer.error == -EADDRNOTAVAIL ||
            reply.answer.error == -ENODEV);
}

bool remove_addresses(const Order& order) noexcept {
    if (order.address_count == 0) {
        return true;
    }
    const base::UniqueFd socket(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE));
    if (!socket) {
        return false;
    }
    bool all = true;
    const std::size_t count = std::min<std::size_t>(order.address_count, order.addresses.size());
    for (std::size_t i = 0; i < count; ++i) {
        all = remove_address(socket.get(), view(order.addresses[i])) && all;
    }
    return all;
}

}  // namespace

std::uint32_t fire(const Order& order) noexcept {
    std::uint32_t done = 0;
    const auto process = open_process(order);
    // Pausing comes first because killing a large guest takes the kernel a while.
    const bool frozen = write_to_cgroup(order, "cgroup.freeze", '1');
    if (send_signal(process, SIGSTOP) && frozen) {
        done |= Step::paused;
    }
    const bool cgroup_killed = write_to_cgroup(order, "cgroup.kill", '1');
    if (send_signal(process, SIGKILL) && cgroup_killed) {
        done |= Step::killed;
    }
    // A process with a held request dies only when the request ends.
    if (abort_fuse(order)) {
        done |= Step::fuse_aborted;
    }
    if (remove_addresses(order)) {
        done |= Step::addresses_removed;
    }
    return done;
}

void enforce(const Order& order) noexcept {
    if (!view(order.cgroup).empty() && populated(order)) {
        static_cast<void>(write_to_cgroup(order, "cgroup.kill", '1'));
    }
    static_cast<void>(send_signal(open_process(order), SIGKILL));
}

void thaw(const Order& order) noexcept {
    static_cast<void>(write_to_cgroup(order, "cgroup.freeze", '0'));
}

}  // namespace safepair::guard
