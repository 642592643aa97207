#include "process_home.hpp"
#include "wake.hpp"

#include <safepair/base/system_time.hpp>
#include <safepair/base/unique_fd.hpp>

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <csignal>
#include <fstream>
#include <sstream>

#include <fcntl.h>
#include <unistd.h>

namespace safepair::hyperv {

namespace {

constexpr base::Duration freeze_limit = std::chrono::seconds(2);

base::Result<void> write_file(const std::filesystem::path& path, std::string_view text) {
    const base::UniqueFd fd(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
    if (!fd || ::write(fd.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size())) {
        return base::error_from_errno(errno,
                                      fmt::format("cannot write {} to {}", text, path.string()));
    }
    return {};
}

/// The value of `key` in cgroup.events, read through `fd`; -1 when the cgroup is gone.
int event_value(const base::UniqueFd& fd, std::string_view key) {
    std::array<char, 256> bytes{};
    const auto count = fd ? ::pread(fd.get(), bytes.data(), bytes.size(), 0) : -1;
    if (count <= 0) {
        return -1;
    }
    const std::string_view text(bytes.data(), static_cast<std::size_t>(count));
    const auto found = text.find(key);
    if (found == std::string_view::npos || found + key.size() + 1 >= text.size()) {
        return -1;
    }
    return text[found + key.size() + 1] - '0';
}

class CgroupWatch final : public HomeWatch {
  public:
    explicit CgroupWatch(base::UniqueFd events) : events_(std::move(events)) {}

    std::vector<pollfd> entries() override { return {{events_.get(), POLLPRI, 0}}; }

    bool populated() override { return event_value(events_, "populated") == 1; }

    /// Waits until `key` has `value`, at most `limit`.
    bool wait_for(std::string_view key, int value, base::Duration limit) {
        const auto end = base::boot_time_now() + limit;
        for (;;) {
            const int now = event_value(events_, key);
            const auto left = end - base::boot_time_now();
            if (now == value || now < 0 || left <= base::Duration::zero()) {
                return now == value || now < 0;
            }
            pollfd entry{events_.get(), POLLPRI, 0};
            ::poll(&entry, 1, poll_milliseconds(left));
        }
    }

  private:
    base::UniqueFd events_;
};

class CgroupHome final : public ProcessHome {
  public:
    explicit CgroupHome(std::filesystem::path directory) : directory_(std::move(directory)) {}

    base::Result<void> create() override {
        std::error_code failure;
        std::filesystem::create_directories(directory_, failure);
        if (failure) {
            return base::Error{failure, "cannot make the cgroup " + directory_.string()};
        }
        return {};
    }

    base::Result<base::UniqueFd> birthplace() override {
        base::UniqueFd fd(::open(directory_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
        if (!fd) {
            return base::error_from_errno(errno, "cannot open the cgroup " + directory_.string());
        }
        return fd;
    }

    std::vector<std::string> environment() const override { return {}; }

    std::string cgroup() const override { return directory_.string(); }

    std::vector<int> processes() override {
        std::vector<int> found;
        collect(directory_, found);
        std::error_code failure;
        for (std::filesystem::recursive_directory_iterator at(directory_, failure), end; at != end;
             at.increment(failure)) {
            if (at->is_directory(failure)) {
                collect(at->path(), found);
            }
        }
        return found;
    }

    bool populated() override { return event_value(events(), "populated") == 1; }

    base::Result<void> freeze() override {
        if (!std::filesystem::exists(directory_)) {
            return {};
        }
        SAFEPAIR_CHECK(write_file(directory_ / "cgroup.freeze", "1"));
        if (!CgroupWatch(events()).wait_for("frozen", 1, freeze_limit)) {
            return base::error(
                base::Errc::timed_out,
                fmt::format("the cgroup {} does not freeze: a process of it waits in the kernel",
                            directory_.string()));
        }
        return {};
    }

    base::Result<void> thaw() override {
        if (!std::filesystem::exists(directory_)) {
            return {};
        }
        return write_file(directory_ / "cgroup.freeze", "0");
    }

    void terminate() override {
        for (const int process : processes()) {
            ::kill(process, SIGTERM);
        }
    }

    base::Result<void> kill(base::Duration limit) override {
        if (!std::filesystem::exists(directory_)) {
            return {};
        }
        const auto end = base::boot_time_now() + limit;
        const bool by_kernel = write_file(directory_ / "cgroup.kill", "1").has_value();
        if (!by_kernel) {
            kill_one_by_one(end);
        }
        CgroupWatch watch(events());
        if (!watch.wait_for(
                "populated", 0, std::max(end - base::boot_time_now(), base::Duration::zero()))) {
            const auto left = processes();
            return base::error(
                base::Errc::timed_out,
                fmt::format(
                    "process {} of {} cannot die: it waits in the kernel, probably for its disk",
                    left.empty() ? 0 : left.front(),
                    directory_.string()));
        }
        // It is empty, which is what was asked for; the next start reports a cgroup that does not
        // thaw.
        static_cast<void>(thaw());
        return {};
    }

    std::unique_ptr<HomeWatch> watch() override { return std::make_unique<CgroupWatch>(events()); }

    void remove() override {
        // Deepest first; the kernel refuses what still holds a process.
        std::error_code ignored;
        std::vector<std::filesystem::path> below;
        for (std::filesystem::recursive_directory_iterator at(directory_, ignored), end; at != end;
             at.increment(ignored)) {
            if (at->is_directory(ignored)) {
                below.push_back(at->path());
            }
        }
        for (auto path = below.rbegin(); path != below.rend(); ++path) {
            ::rmdir(path->c_str());
        }
        ::rmdir(directory_.c_str());
    }

  private:
    base::UniqueFd events() const {
        return base::UniqueFd(::open((directory_ / "cgroup.events").c_str(), O_RDONLY | O_CLOEXEC));
    }

    static void collect(const std::filesystem::path& directory, std::vector<int>& found) {
        std::ifstream file(directory / "cgroup.procs");
        int process = 0;
        while (file >> process) {
            found.push_back(process);
        }
    }

    /// For kernels before 5.14. Frozen first, so that nothing forks ahead of the signals.
    void kill_one_by_one(base::Instant end) {
        static_cast<void>(write_file(directory_ / "cgroup.freeze", "1"));
        static_cast<void>(CgroupWatch(events()).wait_for("frozen", 1, freeze_limit));
        for (const int process : processes()) {
            ::kill(process, SIGKILL);
        }
        static_cast<void>(thaw());
        while (populated() && base::boot_time_now() < end) {
            for (const int process : processes()) {
                ::kill(process, SIGKILL);
            }
            static_cast<void>(
                CgroupWatch(events()).wait_for("populated", 0, std::chrono::milliseconds(50)));
        }
    }

    const std::filesystem::path directory_;
};

}  // namespace

std::filesystem::path cgroup2_mount_point() {
    // mountinfo: "... mount-point options [optional fields] - type source options" (proc(5));
    // blanks are \040.
    std::ifstream file("/proc/self/mountinfo");
    std::string line;
    while (std::getline(file, line)) {
        const auto dash = line.find(" - ");
        if (dash == std::string::npos || line.compare(dash + 3, 8, "cgroup2 ") != 0) {
            continue;
        }
        std::istringstream words(line);
        std::string word;
        for (int i = 0; i < 5; ++i) {
            words >> word;
        }
        return word;
    }
    return {};
}

std::unique_ptr<ProcessHome> make_cgroup_home(std::filesystem::path directory) {
    return std::make_unique<CgroupHome>(std::move(directory));
}

}  // namespace safepair::hyperv
