#pragma once

#include <chrono>
#include <cstdint>

namespace safepair::base {

/// Time since boot, suspend included. Has no now() on purpose: a core that wants the time must be given it.
/// Shells read it with boot_time_now() of <safepair/base/system_time.hpp>.
struct MonotonicClock {
    using rep = std::int64_t;
    using period = std::nano;
    using duration = std::chrono::nanoseconds;
    using time_point = std::chrono::time_point<MonotonicClock>;
    static constexpr bool is_steady = true;
};

using Instant = MonotonicClock::time_point;
using Duration = MonotonicClock::duration;

/// Wall-clock nanoseconds since 1970-01-01T00:00:00Z. For people and mtimes only; it decides nothing.
using WallNanoseconds = std::int64_t;

}  // namespace safepair::base
