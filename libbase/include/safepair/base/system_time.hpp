#pragma once

#include <string>

#include <safepair/base/time.hpp>

namespace safepair::base {

/// CLOCK_BOOTTIME (clock_gettime(2)): monotonic and counting suspend. For shells only, never for a core.
[[nodiscard]] Instant boot_time_now() noexcept;

/// CLOCK_REALTIME in nanoseconds. For logs, audit and mtimes only.
[[nodiscard]] WallNanoseconds wall_clock_now() noexcept;

/// "2026-11-22T19:04:11.123Z" (RFC 3339, UTC, milliseconds).
[[nodiscard]] std::string format_utc(WallNanoseconds time);

}  // namespace safepair::base
