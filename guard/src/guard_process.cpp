#include "guard_loop.hpp"
#include "page_layout.hpp"

#include <safepair/base/system_time.hpp>
#include <safepair/base/unique_fd.hpp>
#include <safepair/guard/guard_process.hpp>

#include <array>
#include <cerrno>
#include <csignal>
#include <string>
#include <thread>

#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

extern char** environ;

namespace safepair::guard {

namespace {

constexpr auto start_patience = std::chrono::seconds(10);

/// Waits until the safe-guard that holds the lock has shown that it stays: it makes another round
/// after `quit` was withdrawn. 0 when it ended instead.
base::Result<int> adopt(const std::filesystem::path& path, const MappedPage& page) {
    const auto deadline = base::boot_time_now() + start_patience;
    const auto rounds = page->rounds.load();
    while (base::boot_time_now() < deadline) {
        SAFEPAIR_TRY(const bool watched, is_locked(path));
        if (!watched) {
            return 0;
        }
        const int pid = page->guard_pid.load();
        if (pid != 0 && page->rounds.load() != rounds) {
            return pid;
        }
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    return base::error(base::Errc::timed_out,
                       "the safe-guard that holds " + lock_path(path).string() +
                           " does not watch " + path.string());
}

/// The safe-guard becomes a child of nobody in particular: a short-lived process in between starts
/// it, so that it is reaped by the system and not by this program, which may have other plans for
/// SIGCHLD.
base::Result<void> start_detached(const std::filesystem::path& program,
                                  const std::filesystem::path& page,
                                  int ready_fd) {
    const std::string ready = std::to_string(ready_fd);
    const std::string page_text = page.string();
    const std::string program_text = program.string();
    std::array<char*, 7> arguments{const_cast<char*>(program_text.c_str()),
                                   const_cast<char*>("--detach"),
                                   const_cast<char*>("--page"),
                                   const_cast<char*>(page_text.c_str()),
                                   const_cast<char*>("--ready-fd"),
                                   const_cast<char*>(ready.c_str()),
                                   nullptr};
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    ::posix_spawn_file_actions_init(&actions);
    ::posix_spawnattr_init(&attributes);
    // Whoever reads our output to its end must not wait for the guard.
    for (const int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
        ::posix_spawn_file_actions_addopen(&actions, fd, "/dev/null", O_RDWR, 0);
    }
    // The same number on both sides only takes close-on-exec away.
    ::posix_spawn_file_actions_adddup2(&actions, ready_fd, ready_fd);
    sigset_t none;
    ::sigemptyset(&none);
    ::posix_spawnattr_setsigmask(&attributes, &none);
    ::posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSID);
    pid_t pid = 0;
    const int failure =
        ::posix_spawn(&pid, program_text.c_str(), &actions, &attributes, arguments.data(), environ);
    ::posix_spawn_file_actions_destroy(&actions);
    ::posix_spawnattr_destroy(&attributes);
    if (failure != 0) {
        return base::error_from_errno(failure, "start " + program_text);
    }
    int status = 0;
    while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    return {};
}

base::Result<void> wait_until_ready(const base::UniqueFd& ready,
                                    const std::filesystem::path& program) {
    pollfd wait{ready.get(), POLLIN, 0};
    const auto patience_ms =
        std::chrono::duration_cast<std::chrono::milliseconds>(start_patience).count();
    char byte = 0;
    if (::poll(&wait, 1, static_cast<int>(patience_ms)) != 1) {
        return base::error(base::Errc::timed_out, program.string() + " did not begin to watch");
    }
    if (::read(ready.get(), &byte, 1) != 1) {
        return base::error(base::Errc::refused,
                           program.string() + " ended instead of watching its page");
    }
    return {};
}

}  // namespace

base::Result<std::unique_ptr<GuardProcess>> GuardProcess::spawn(
    const std::filesystem::path& program, const std::filesystem::path& page) {
    auto mapped = MappedPage::open(page);
    if (!mapped.has_value()) {
        return mapped.error();
    }
    (*mapped)->quit.store(0);
    SAFEPAIR_TRY(const bool watched, is_locked(page));
    if (watched) {
        SAFEPAIR_TRY(const int pid, adopt(page, *mapped));
        if (pid != 0) {
            return std::unique_ptr<GuardProcess>(
                new GuardProcess(page, pid, true));  // NOLINT: private constructor
        }
    }
    std::array<int, 2> ends{};
    if (::pipe2(ends.data(), O_CLOEXEC) != 0) {
        return base::error_from_errno(errno, "make a pipe for " + program.string());
    }
    const base::UniqueFd ready(ends[0]);
    base::UniqueFd to_guard(ends[1]);
    SAFEPAIR_CHECK(start_detached(program, page, to_guard.get()));
    to_guard.reset();
    SAFEPAIR_CHECK(wait_until_ready(ready, program));
    const int pid = (*mapped)->guard_pid.load();
    return std::unique_ptr<GuardProcess>(
        new GuardProcess(page, pid, false));  // NOLINT: private constructor
}

GuardProcess::~GuardProcess() {
    if (const auto mapped = MappedPage::open(page_); mapped.has_value()) {
        (*mapped)->quit.store(1);
    }
}

bool GuardProcess::alive() const {
    const auto watched = is_locked(page_);
    return watched.has_value() && *watched;
}

}  // namespace safepair::guard
