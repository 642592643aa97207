#include "wake.hpp"

#include <safepair/base/assert.hpp>
#include <safepair/base/system_time.hpp>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <limits>

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

namespace safepair::hyperv {

Wake::Wake() : fd_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
    SAFEPAIR_ASSERT(static_cast<bool>(fd_), "no descriptor left for an eventfd");
}

void Wake::raise() const noexcept {
    const std::uint64_t one = 1;
    // It can only fail when the counter is full, and then the flag is up already.
    [[maybe_unused]] const auto written = ::write(fd_.get(), &one, sizeof one);
}

void Wake::clear() const noexcept {
    std::uint64_t count = 0;
    [[maybe_unused]] const auto read = ::read(fd_.get(), &count, sizeof count);
}

bool Wake::wait(base::Duration limit) const noexcept {
    const auto end = base::boot_time_now() + std::max(limit, base::Duration::zero());
    for (;;) {
        pollfd entry{fd_.get(), POLLIN, 0};
        const auto left = limit < base::Duration::zero() ? limit : end - base::boot_time_now();
        const int ready = ::poll(
            &entry, 1, limit < base::Duration::zero() ? -1 : std::max(0, poll_milliseconds(left)));
        if (ready >= 0 || errno != EINTR) {
            return ready > 0;
        }
    }
}

int poll_milliseconds(base::Duration limit) noexcept {
    if (limit < base::Duration::zero()) {
        return -1;
    }
    const auto rounded = std::chrono::ceil<std::chrono::milliseconds>(limit).count();
    return static_cast<int>(std::min<std::int64_t>(rounded, std::numeric_limits<int>::max()));
}

}  // namespace safepair::hyperv
