#pragma once

#include <safepair/base/system_time.hpp>
#include <safepair/base/unique_fd.hpp>

#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <thread>
#include <utility>

#include <poll.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/// What tests of the guard share: processes to be killed, and waiting with a deadline.
namespace safepair::guard::testing {

inline constexpr auto patience = std::chrono::seconds(20);

/// Asks again and again until `condition` holds; false when it never did.
template <typename Condition>
bool eventually(Condition condition) {
    const auto deadline = base::boot_time_now() + patience;
    while (!condition()) {
        if (base::boot_time_now() > deadline) {
            return false;
        }
        std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
    return true;
}

/// A folder of its own that goes away with the test.
class Folder {
  public:
    Folder() {
        std::string pattern = (std::filesystem::temp_directory_path() / "guard-XXXXXX").string();
        if (::mkdtemp(pattern.data()) == nullptr) {
            std::abort();
        }
        path_ = pattern;
    }

    Folder(const Folder&) = delete;
    Folder& operator=(const Folder&) = delete;

    ~Folder() {
        std::error_code ignored;
        std::filesystem::remove_all(path_, ignored);
    }

    [[nodiscard]] std::filesystem::path page() const { return path_ / "guard.page"; }

    [[nodiscard]] const std::filesystem::path& path() const { return path_; }

  private:
    std::filesystem::path path_;
};

inline base::UniqueFd open_pidfd(pid_t pid) {
    return base::UniqueFd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
}

/// Whether the process of `pidfd` ended within the patience.
inline bool ended(const base::UniqueFd& pidfd) {
    pollfd wait{pidfd.get(), POLLIN, 0};
    const auto limit = std::chrono::duration_cast<std::chrono::milliseconds>(patience).count();
    return ::poll(&wait, 1, static_cast<int>(limit)) == 1;
}

/// A child that runs `body` and then ends, or waits to be killed when there is none.
class Child {
  public:
    Child()
        : Child([] {
              for (;;) {
                  ::pause();
              }
          }) {}

    template <typename Body>
    explicit Child(Body body) : pid_(::fork()) {
        if (pid_ == 0) {
            body();
            ::_exit(0);
        }
        pidfd_ = open_pidfd(pid_);
    }

    Child(const Child&) = delete;
    Child& operator=(const Child&) = delete;

    ~Child() {
        if (!reaped_) {
            ::kill(pid_, SIGKILL);
            static_cast<void>(wait());
        }
    }

    [[nodiscard]] pid_t pid() const { return pid_; }

    [[nodiscard]] bool runs() const {
        pollfd look{pidfd_.get(), POLLIN, 0};
        return ::poll(&look, 1, 0) == 0;
    }

    /// Waits for its end; false when it does not come.
    [[nodiscard]] bool ends() const { return ended(pidfd_); }

    /// Its wait status; blocks.
    int wait() {
        int status = 0;
        while (::waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
        }
        reaped_ = true;
        return status;
    }

    /// True when it was ended by SIGKILL in time.
    [[nodiscard]] bool is_killed() {
        if (!ends()) {
            return false;
        }
        const int status = wait();
        return WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
    }

  private:
    pid_t pid_;
    base::UniqueFd pidfd_;
    bool reaped_ = false;
};

/// A cgroup below the unified hierarchy; `path()` is empty where there is none.
class Cgroup {
  public:
    Cgroup() {
        std::ifstream mounts("/proc/mounts");
        std::string line;
        while (std::getline(mounts, line)) {
            std::istringstream words(line);
            std::string device;
            std::string where;
            std::string type;
            words >> device >> where >> type;
            if (type == "cgroup2") {
                const auto wanted = where + "/safepair-guard-test-" + std::to_string(::getpid());
                std::error_code failure;
                if (std::filesystem::create_directory(wanted, failure)) {
                    path_ = wanted;
                }
                return;
            }
        }
    }

    Cgroup(const Cgroup&) = delete;
    Cgroup& operator=(const Cgroup&) = delete;

    ~Cgroup() {
        if (!path_.empty()) {
            write("cgroup.kill", "1");
            eventually([this] { return ::rmdir(path_.c_str()) == 0; });
        }
    }

    [[nodiscard]] const std::string& path() const { return path_; }

    void add(pid_t pid) const { write("cgroup.procs", std::to_string(pid)); }

    [[nodiscard]] std::string read(const char* name) const {
        std::ifstream stream(path_ + "/" + name);
        return {std::istreambuf_iterator<char>(stream), {}};
    }

  private:
    void write(const char* name, const std::string& value) const {
        std::ofstream(path_ + "/" + name) << value;
    }

    std::string path_;
};

}  // namespace safepair::guard::testing
