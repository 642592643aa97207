#include "process_home.hpp"
#include "wake.hpp"

#include <safepair/base/system_time.hpp>
#include <safepair/base/unique_fd.hpp>

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <csignal>
#include <cstdio>
#include <map>
#include <set>

#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace safepair::hyperv {

namespace {

constexpr const char* variable = "SAFEPAIR_SERVICE=";
/// Between two looks for processes that appeared while others were killed.
constexpr base::Duration kill_pause = std::chrono::milliseconds(20);
constexpr base::Duration look_pause = std::chrono::milliseconds(10);
constexpr int looks_max = 5;

struct Process {
    int parent = 0;
    int session = 0;
    bool marked = false;
    /// Its environment is empty, as it is for a moment within execve(2).
    bool unclear = false;
};

std::string read_all(const std::string& path) {
    const base::UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    std::string text;
    std::array<char, 4096> bytes{};
    for (;;) {
        // A process that ends in the meantime is an error here, and no different from one that was
        // never there.
        const auto count = file ? ::read(file.get(), bytes.data(), bytes.size()) : -1;
        if (count <= 0) {
            return text;
        }
        text.append(bytes.data(), static_cast<std::size_t>(count));
    }
}

/// False for one that is gone or a zombie.
bool read_process(int pid, const std::string& entry, Process& process) {
    const auto directory = fmt::format("/proc/{}/", pid);
    const auto stat = read_all(directory + "stat");
    const auto name_end = stat.rfind(')');
    if (name_end == std::string::npos) {
        return false;
    }
    char state = 0;
    int group = 0;
    if (std::sscanf(stat.c_str() + name_end + 1,
                    " %c %d %d %d",
                    &state,
                    &process.parent,
                    &group,
                    &process.session) != 4 ||
        state == 'Z' || state == 'X') {
        return false;
    }
    const auto environment = '\0' + read_all(directory + "environ") + '\0';
    // "0 ..." is a thread of the kernel, which has no memory of its own.
    process.unclear = environment.size() == 2 && read_all(directory + "statm").rfind("0 ", 0) != 0;
    process.marked = environment.find('\0' + entry + '\0') != std::string::npos;
    return true;
}

std::map<int, Process> read_processes(const std::string& entry) {
    std::map<int, Process> processes;
    std::error_code failure;
    for (std::filesystem::directory_iterator at("/proc", failure), end; at != end;
         at.increment(failure)) {
        const auto name = at->path().filename().string();
        int pid = 0;
        const auto parsed = std::from_chars(name.data(), name.data() + name.size(), pid);
        Process process;
        if (parsed.ec == std::errc{} && parsed.ptr == name.data() + name.size() &&
            read_process(pid, entry, process)) {
            processes.emplace(pid, process);
        }
    }
    return processes;
}

std::vector<int> members_among(const std::map<int, Process>& all) {
    const int own_session = ::getsid(0);
    std::set<int> sessions;
    std::set<int> found;
    for (const auto& [pid, process] : all) {
        if (process.marked && pid != ::getpid()) {
            found.insert(pid);
            if (process.session != own_session) {
                sessions.insert(process.session);
            }
        }
    }
    for (const auto& [pid, process] : all) {
        if (sessions.count(process.session) != 0) {
            found.insert(pid);
        }
    }
    for (bool grown = true; grown;) {
        grown = false;
        for (const auto& [pid, process] : all) {
            grown = (found.count(process.parent) != 0 && found.insert(pid).second) || grown;
        }
    }
    return {found.begin(), found.end()};
}

/// Every process of the service. Whether there is none is looked at again while one may be in the
/// middle of execve(2).
std::vector<int> members(const std::string& entry) {
    const Wake pause;
    for (int look = 0;; ++look) {
        const auto all = read_processes(entry);
        auto found = members_among(all);
        const bool unclear = std::any_of(
            all.begin(), all.end(), [](const auto& item) { return item.second.unclear; });
        if (!found.empty() || !unclear || look == looks_max) {
            return found;
        }
        pause.wait(look_pause);
    }
}

class MarkedWatch final : public HomeWatch {
  public:
    explicit MarkedWatch(std::string entry) : entry_(std::move(entry)) {}

    std::vector<pollfd> entries() override {
        // Waiting for one is enough: while it lives the home is populated.
        if (!one_) {
            return {};
        }
        return {{one_.get(), POLLIN, 0}};
    }

    bool populated() override {
        one_.reset();
        for (auto found = members(entry_); !found.empty(); found = members(entry_)) {
            for (const int pid : found) {
                one_ = base::UniqueFd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
                if (one_) {
                    return true;
                }
            }
        }
        return false;
    }

  private:
    const std::string entry_;
    base::UniqueFd one_;
};

class MarkedHome final : public ProcessHome {
  public:
    explicit MarkedHome(const std::string& mark) : entry_(variable + mark) {}

    base::Result<void> create() override { return {}; }

    base::Result<base::UniqueFd> birthplace() override { return base::UniqueFd(); }

    std::vector<std::string> environment() const override { return {entry_}; }

    std::string cgroup() const override { return {}; }

    std::vector<int> processes() override { return members(entry_); }

    bool populated() override { return !members(entry_).empty(); }

    base::Result<void> freeze() override {
        // Until a look finds nobody new: a process may fork while the others are being stopped.
        std::set<int> stopped;
        for (bool grown = true; grown;) {
            grown = false;
            for (const int pid : members(entry_)) {
                if (stopped.insert(pid).second) {
                    ::kill(pid, SIGSTOP);
                    grown = true;
                }
            }
        }
        return {};
    }

    base::Result<void> thaw() override {
        signal_all(SIGCONT);
        return {};
    }

    void terminate() override { signal_all(SIGTERM); }

    base::Result<void> kill(base::Duration limit) override {
        const auto end = base::boot_time_now() + limit;
        const Wake pause;
        for (auto left = members(entry_); !left.empty(); left = members(entry_)) {
            for (const int pid : left) {
                ::kill(pid, SIGKILL);
            }
            if (base::boot_time_now() >= end) {
                return base::error(base::Errc::timed_out,
                                   fmt::format("process {} of the service cannot die: it waits in "
                                               "the kernel, probably for its disk",
                                               left.front()));
            }
            pause.wait(kill_pause);
        }
        return {};
    }

    std::unique_ptr<HomeWatch> watch() override { return std::make_unique<MarkedWatch>(entry_); }

    void remove() override {}

  private:
    void signal_all(int number) const {
        for (const int pid : members(entry_)) {
            ::kill(pid, number);
        }
    }

    const std::string entry_;
};

}  // namespace

std::unique_ptr<ProcessHome> make_marked_home(std::string mark) {
    return std::make_unique<MarkedHome>(mark);
}

}  // namespace safepair::hyperv
