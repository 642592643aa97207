#pragma once

#include <cstdint>

namespace safepair::guard {

/// Field 22 of /proc/PID/stat: start time in clock ticks since boot; 0 when there is no such
/// process. Together with the number it names one process. Allocates nothing.
[[nodiscard]] std::uint64_t process_start_ticks(int pid) noexcept;

}  // namespace safepair::guard
