#include "process.hpp"

#include "wake.hpp"

#include <safepair/base/system_time.hpp>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <cstring>
#include <string_view>

#include <fcntl.h>
#include <linux/close_range.h>
#include <linux/sched.h>
#include <poll.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

extern char** environ;  // NOLINT: POSIX name

namespace safepair::hyperv {

namespace {

struct Pipe {
    base::UniqueFd read;
    base::UniqueFd write;
};

base::Result<Pipe> make_pipe() {
    std::array<int, 2> ends{};
    if (::pipe2(ends.data(), O_CLOEXEC) != 0) {
        return base::error_from_errno(errno, "cannot make a pipe");
    }
    return Pipe{base::UniqueFd(ends[0]), base::UniqueFd(ends[1])};
}

std::string_view variable_name(std::string_view entry) { return entry.substr(0, entry.find('=')); }

/// What systemd told this process about itself is not for the service: it would speak in our name.
bool is_private(std::string_view name) {
    constexpr std::array<std::string_view, 6> names{"NOTIFY_SOCKET",
                                                    "WATCHDOG_USEC",
                                                    "WATCHDOG_PID",
                                                    "LISTEN_FDS",
                                                    "LISTEN_PID",
                                                    "LISTEN_FDNAMES"};
    return std::find(names.begin(), names.end(), name) != names.end();
}

std::vector<std::string> merged_environment(const std::vector<std::string>& own) {
    std::vector<std::string> merged;
    for (char** entry = environ; entry != nullptr && *entry != nullptr; ++entry) {
        const auto name = variable_name(*entry);
        const bool replaced = std::any_of(own.begin(), own.end(), [&](const std::string& other) {
            return variable_name(other) == name;
        });
        if (!replaced && !is_private(name)) {
            merged.emplace_back(*entry);
        }
    }
    merged.insert(merged.end(), own.begin(), own.end());
    return merged;
}

std::vector<char*> pointers(std::vector<std::string>& words) {
    std::vector<char*> result;
    result.reserve(words.size() + 1);
    for (auto& word : words) {
        result.push_back(word.data());
    }
    result.push_back(nullptr);
    return result;
}

struct ChildPlan {
    char* const* argv;
    char* const* envp;
    int input;
    int output;
    int failure;
    /// -1: stays in ours.
    int cgroup;
};

void fail_child(const ChildPlan& plan) {
    const int reason = errno;
    [[maybe_unused]] const auto written = ::write(plan.failure, &reason, sizeof reason);
    ::_exit(127);
}

/// Runs between clone and exec in a copy of a process with threads: system calls only.
[[noreturn]] void become_executable(const ChildPlan& plan) {
    // Not CLONE_INTO_CGROUP: some kernels (6.18 is one) kill at birth whatever is cloned into a
    // cgroup whose cgroup.kill was ever used.
    if (plan.cgroup >= 0) {
        const int fd = ::openat(plan.cgroup, "cgroup.procs", O_WRONLY | O_CLOEXEC);
        if (fd < 0 || ::write(fd, "0", 1) != 1) {
            fail_child(plan);
        }
    }
    ::setsid();
    for (int number = 1; number < NSIG; ++number) {
        struct sigaction action {};

        action.sa_handler = SIG_DFL;
        ::sigaction(number, &action, nullptr);
    }
    if (::dup2(plan.input, STDIN_FILENO) < 0 || ::dup2(plan.output, STDOUT_FILENO) < 0 ||
        ::dup2(plan.output, STDERR_FILENO) < 0) {
        fail_child(plan);
    }
    // Not every library opens its descriptors with O_CLOEXEC, and an inherited one can keep a mount
    // busy.
    ::syscall(SYS_close_range, 3U, ~0U, CLOSE_RANGE_CLOEXEC);
    sigset_t none;
    sigemptyset(&none);
    ::sigprocmask(SIG_SETMASK, &none, nullptr);
    ::execvpe(plan.argv[0], plan.argv, plan.envp);
    fail_child(plan);
    ::_exit(127);
}

/// fork(2) that also yields a pidfd. 0 in the child.
pid_t clone_process(int* pidfd) {
    clone_args arguments{};
    arguments.flags = CLONE_PIDFD;
    arguments.pidfd = reinterpret_cast<std::uintptr_t>(pidfd);
    arguments.exit_signal = SIGCHLD;
    const auto pid = static_cast<pid_t>(::syscall(SYS_clone3, &arguments, sizeof arguments));
    if (pid >= 0 || (errno != ENOSYS && errno != EINVAL && errno != EPERM)) {
        return pid;
    }
    // Some containers forbid clone3.
    const auto forked = ::fork();
    if (forked > 0) {
        *pidfd = static_cast<int>(::syscall(SYS_pidfd_open, forked, 0));
    }
    return forked;
}

/// The errno that the child sent before it gave up; 0 when it executes.
int failure_of(const base::UniqueFd& failure) {
    int reason = 0;
    ssize_t count = 0;
    do {
        count = ::read(failure.get(), &reason, sizeof reason);
    } while (count < 0 && errno == EINTR);
    return count == static_cast<ssize_t>(sizeof reason) ? reason : 0;
}

}  // namespace

base::Result<Child> spawn(const SpawnOptions& options) {
    if (options.argv.empty() || options.argv[0].empty()) {
        return base::error(base::Errc::bad_input, "no executable is named");
    }
    auto argv_words = options.argv;
    auto environment_words = merged_environment(options.environment);
    const auto argv = pointers(argv_words);
    const auto envp = pointers(environment_words);
    SAFEPAIR_TRY(auto output, make_pipe());
    SAFEPAIR_TRY(auto failure, make_pipe());
    const base::UniqueFd input(::open("/dev/null", O_RDONLY | O_CLOEXEC));
    if (!input) {
        return base::error_from_errno(errno, "cannot open /dev/null");
    }
    ::fcntl(output.read.get(), F_SETFL, O_NONBLOCK);

    ChildPlan plan{argv.data(),
                   envp.data(),
                   input.get(),
                   output.write.get(),
                   failure.write.get(),
                   options.cgroup};
    // No handler of ours may run in the child.
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    ::pthread_sigmask(SIG_SETMASK, &all, &before);
    int pidfd = -1;
    const auto pid = clone_process(&pidfd);
    if (pid == 0) {
        become_executable(plan);
    }
    const int clone_errno = errno;
    ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
    if (pid < 0) {
        return base::error_from_errno(clone_errno, "cannot start " + options.argv[0]);
    }

    failure.write.reset();
    Child child{pid, base::UniqueFd(pidfd), std::move(output.read)};
    if (const int reason = failure_of(failure.read); reason != 0) {
        static_cast<void>(reap(child));
        return base::error_from_errno(reason, "cannot execute " + options.argv[0]);
    }
    return child;
}

Ending reap(const Child& child) {
    int status = 0;
    pid_t found = 0;
    do {
        found = ::waitpid(child.pid, &status, 0);
    } while (found < 0 && errno == EINTR);
    if (found < 0) {
        return {false, "ended, and somebody else took its exit status"};
    }
    if (WIFEXITED(status)) {
        return {WEXITSTATUS(status) == 0, "exit status " + std::to_string(WEXITSTATUS(status))};
    }
    return {false, "killed by signal " + std::to_string(WTERMSIG(status))};
}

base::Result<std::string> run_tool(const std::vector<std::string>& argv,
                                   base::Duration deadline,
                                   std::size_t limit) {
    SpawnOptions options;
    options.argv = argv;
    SAFEPAIR_TRY(const auto child, spawn(options));
    const auto end = base::boot_time_now() + deadline;
    CapturedOutput output(limit, 0);
    bool open = true;
    for (;;) {
        std::array<pollfd, 2> entries{pollfd{child.pidfd.get(), POLLIN, 0},
                                      pollfd{open ? child.output.get() : -1, POLLIN, 0}};
        const auto left = end - base::boot_time_now();
        ::poll(entries.data(),
               entries.size(),
               poll_milliseconds(std::max(left, base::Duration::zero())));
        open = open && drain(child.output, output);
        if (entries[0].revents != 0) {
            break;
        }
        if (left <= base::Duration::zero()) {
            ::kill(-child.pid, SIGKILL);
            static_cast<void>(reap(child));
            return base::error(base::Errc::timed_out, argv.front() + " does not end");
        }
    }
    // One call takes no more than a part of what a full pipe holds.
    for (int i = 0; open && i < 64; ++i) {
        open = drain(child.output, output);
    }
    const auto ending = reap(child);
    if (!ending.succeeded) {
        return base::error(base::Errc::refused,
                           argv.front() + ": " + ending.text + ": " + output.text());
    }
    return output.text();
}

bool drain(const base::UniqueFd& output, CapturedOutput& captured) {
    std::array<char, 16384> bytes{};
    // Bounded, so that a process that writes without end does not keep its reader here.
    for (int round = 0; round < 16; ++round) {
        const auto count = ::read(output.get(), bytes.data(), bytes.size());
        if (count > 0) {
            captured.append({bytes.data(), static_cast<std::size_t>(count)});
        } else if (count == 0) {
            return false;
        } else if (errno != EINTR) {
            return errno == EAGAIN;
        }
    }
    return true;
}

}  // namespace safepair::hyperv
