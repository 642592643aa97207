#include "emulator.hpp"

#include "../service/wake.hpp"
#include "folder_files.hpp"

#include <safepair/base/system_time.hpp>

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <filesystem>

#include <poll.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace safepair::hyperv {

namespace {

constexpr std::size_t command_line_max = 1024 * 1024;

std::string command_line(int pid) {
    return read_file(fmt::format("/proc/{}/cmdline", pid), command_line_max)
        .value_or(std::string());
}

/// A comma within a name is doubled on QEMU's command line.
std::string escaped(const std::string& name) {
    std::string text;
    for (const char c : name) {
        text.append(c == ',' ? 2 : 1, c);
    }
    return text;
}

bool is_emulator_of(const std::string& line, const std::string& name, const std::string& uuid) {
    const auto program = line.substr(0, line.find('\0'));
    const auto base = program.substr(program.rfind('/') + 1);
    if (base.compare(0, 4, "qemu") != 0 && base != "kvm") {
        return false;
    }
    if (!uuid.empty() &&
        line.find(std::string("\0-uuid\0", 7) + uuid + '\0') != std::string::npos) {
        return true;
    }
    const auto guest = "guest=" + escaped(name);
    const auto at = line.find(guest);
    return at != std::string::npos &&
           (line[at + guest.size()] == ',' || line[at + guest.size()] == '\0');
}

/// Whether `pid` sees the run directory that we see: hosts in other mount namespaces have their
/// own.
bool is_of_this_host(const HostPlaces& places, int pid, const std::string& line) {
    if (!places.embed_root.empty()) {
        return line.find(places.embed_root.string() + "/") != std::string::npos;
    }

    struct stat ours {};

    struct stat theirs {};

    const auto seen = fmt::format("/proc/{}/root{}", pid, places.run.string());
    return ::stat(places.run.c_str(), &ours) == 0 && ::stat(seen.c_str(), &theirs) == 0 &&
           ours.st_dev == theirs.st_dev && ours.st_ino == theirs.st_ino;
}

int number(std::string_view text) {
    int value = 0;
    const auto parsed = std::from_chars(text.data(), text.data() + text.size(), value);
    return parsed.ec == std::errc{} ? value : 0;
}

bool is_zombie(int pid) {
    const auto stat =
        read_file(fmt::format("/proc/{}/stat", pid), command_line_max).value_or(std::string());
    const auto name_end = stat.rfind(')');
    return name_end == std::string::npos || stat.compare(name_end + 1, 3, " Z ") == 0;
}

}  // namespace

int find_emulator(const HostPlaces& places, const std::string& name, const std::string& uuid) {
    if (places.run.empty()) {
        return 0;
    }
    if (const auto text = read_file(places.run / (name + ".pid"), 64)) {
        const int pid = number(*text);
        if (pid > 0 && is_emulator_of(command_line(pid), name, uuid) && !is_zombie(pid)) {
            return pid;
        }
    }
    std::error_code failure;
    for (std::filesystem::directory_iterator at("/proc", failure), end; at != end;
         at.increment(failure)) {
        const int pid = number(at->path().filename().string());
        if (pid > 0) {
            const auto line = command_line(pid);
            if (is_emulator_of(line, name, uuid) && is_of_this_host(places, pid, line) &&
                !is_zombie(pid)) {
                return pid;
            }
        }
    }
    return 0;
}

base::UniqueFd open_process(int pid) noexcept {
    return pid <= 0 ? base::UniqueFd()
                    : base::UniqueFd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
}

bool send_signal(const base::UniqueFd& process, int signal) noexcept {
    return process && ::syscall(SYS_pidfd_send_signal, process.get(), signal, nullptr, 0) == 0;
}

bool wait_for_end(const base::UniqueFd& process, base::Duration limit) noexcept {
    if (!process) {
        return true;
    }
    const auto end = base::boot_time_now() + limit;
    for (;;) {
        pollfd entry{process.get(), POLLIN, 0};
        const auto left = std::max(end - base::boot_time_now(), base::Duration::zero());
        const int ready = ::poll(&entry, 1, poll_milliseconds(left));
        if (ready > 0 || (ready < 0 && errno != EINTR)) {
            return ready > 0;
        }
        if (ready == 0 && left <= base::Duration::zero()) {
            return false;
        }
    }
}

}  // namespace safepair::hyperv
