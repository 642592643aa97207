#include "guard_loop.hpp"

#include "firing.hpp"
#include "page_layout.hpp"

#include <safepair/base/system_time.hpp>
#include <safepair/base/unique_fd.hpp>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdio>

#include <fcntl.h>
#include <sched.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

namespace safepair::guard {

namespace {

constexpr long round_nanoseconds = 10'000'000;
/// Rounds between two looks at the cgroups of modules that were fired at.
constexpr unsigned enforce_rounds = 10;

volatile std::sig_atomic_t asked_to_end = 0;

void on_terminate(int /*signal*/) { asked_to_end = 1; }

/// Nothing of this may stand in the way of a deadline. Each is taken where it is allowed.
void prepare_process() {
    ::mlockall(MCL_CURRENT | MCL_FUTURE);
    sched_param parameters{};
    parameters.sched_priority = 2;
    ::sched_setscheduler(0, SCHED_FIFO, &parameters);
    if (const base::UniqueFd score(::open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC));
        score) {
        [[maybe_unused]] const auto written = ::write(score.get(), "-1000", 5);
    }
    // A folder that it stood in could not be unmounted.
    [[maybe_unused]] const int moved = ::chdir("/");

    struct sigaction action {};

    action.sa_handler = on_terminate;
    ::sigaction(SIGTERM, &action, nullptr);
    ::sigaction(SIGINT, &action, nullptr);
    std::signal(SIGHUP, SIG_IGN);
    std::signal(SIGPIPE, SIG_IGN);
}

void announce(int ready_fd) {
    if (ready_fd >= 0) {
        [[maybe_unused]] const auto written = ::write(ready_fd, "1", 1);
        ::close(ready_fd);
    }
}

/// Of the open file description: it ends with the process whatever it forked, and can be asked for
/// without taking it.
struct flock whole_file_lock() {
    struct flock lock {};

    lock.l_type = F_WRLCK;
    lock.l_whence = SEEK_SET;
    return lock;
}

/// Watches one page. The last order read of each entry is kept, so that what cannot be read now is
/// still known.
class Watch {
  public:
    explicit Watch(Page& page) : page_(page) {}

    /// One look at every entry. True while a module is armed that was not fired at.
    bool round() noexcept {
        ++rounds_;
        bool armed = false;
        for (std::size_t i = 0; i < entry_count; ++i) {
            armed = look(page_.entries[i], orders_[i]) || armed;
        }
        return armed;
    }

  private:
    bool look(Entry& entry, Order& order) noexcept {
        static_cast<void>(entry.order.load(order));
        if (order.armed == 0) {
            return false;
        }
        if (entry.fired_generation.load(std::memory_order_relaxed) == order.generation) {
            if (rounds_ % enforce_rounds == 0) {
                enforce(order);
            }
            return false;
        }
        const auto now = base::boot_time_now().time_since_epoch().count();
        if (now < entry.deadline.load(std::memory_order_acquire)) {
            return true;
        }
        // The agent may have disarmed it since it was read.
        const auto generation = order.generation;
        static_cast<void>(entry.order.load(order));
        if (order.armed == 0 || order.generation != generation) {
            return order.armed != 0;
        }
        const auto done = fire(order);
        entry.fired_at.store(now, std::memory_order_relaxed);
        entry.done.store(done, std::memory_order_relaxed);
        entry.fired_generation.store(order.generation, std::memory_order_release);
        return false;
    }

    Page& page_;
    std::array<Order, entry_count> orders_{};
    unsigned rounds_ = 0;
};

}  // namespace

std::filesystem::path lock_path(const std::filesystem::path& page) {
    auto path = page;
    path += ".pid";
    return path;
}

base::Result<int> take_lock(const std::filesystem::path& page) {
    const auto path = lock_path(page);
    base::UniqueFd fd(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
    if (!fd) {
        return base::error_from_errno(errno, "open " + path.string());
    }
    auto lock = whole_file_lock();
    if (::fcntl(fd.get(), F_OFD_SETLK, &lock) != 0) {
        if (errno == EAGAIN || errno == EACCES) {
            return base::error(base::Errc::busy,
                               "guard page " + page.string() + " is watched already");
        }
        return base::error_from_errno(errno, "lock " + path.string());
    }
    return fd.release();
}

base::Result<bool> is_locked(const std::filesystem::path& page) {
    const auto path = lock_path(page);
    const base::UniqueFd fd(::open(path.c_str(), O_RDWR | O_CLOEXEC));
    if (!fd && errno == ENOENT) {
        return false;
    }
    auto lock = whole_file_lock();
    if (!fd || ::fcntl(fd.get(), F_OFD_GETLK, &lock) != 0) {
        return base::error_from_errno(errno, "look at the lock " + path.string());
    }
    return lock.l_type != F_UNLCK;
}

base::Result<void> run_guard(const LoopOptions& options) {
    SAFEPAIR_TRY(const int lock_fd, take_lock(options.page));
    const base::UniqueFd lock(lock_fd);
    SAFEPAIR_TRY(const auto page, MappedPage::create(options.page));
    prepare_process();
    std::array<char, 16> text{};
    const int length = std::snprintf(text.data(), text.size(), "%d\n", ::getpid());
    if (::ftruncate(lock.get(), 0) != 0 ||
        ::pwrite(lock.get(), text.data(), static_cast<std::size_t>(length), 0) != length) {
        return base::error_from_errno(
            errno, "write the process number into " + lock_path(options.page).string());
    }
    Watch watch(*page);
    page->guard_pid.store(::getpid());
    announce(options.ready_fd);
    for (;;) {
        const bool armed = watch.round();
        const bool asked = asked_to_end != 0 || page->quit.load() != 0;
        if (asked && !armed) {
            page->guard_pid.store(0);
            return {};
        }
        page->rounds.fetch_add(1);
        const timespec pause{0, round_nanoseconds};
        ::clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, nullptr);
    }
}

}  // namespace safepair::guard
