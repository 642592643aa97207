#pragma once

#include <safepair/base/error.hpp>

#include <cerrno>
#include <cstdint>
#include <ctime>
#include <string>
#include <string_view>

/// Small helpers for code that speaks to the kernel: errors with errno and context, paths that address a descriptor.
namespace safepair::replica {

/// The current errno as an Error. `context` names what was attempted on which object.
[[nodiscard]] inline base::Error errno_error(std::string context) {
    return base::error_from_errno(errno, std::move(context));
}

/// A path that reaches what an O_PATH descriptor stands for, also a symbolic link itself, for the calls that take no
/// AT_EMPTY_PATH (xattrs, chmod, reopening).
[[nodiscard]] inline std::string descriptor_path(int fd) {
    return "/proc/self/fd/" + std::to_string(fd);
}

[[nodiscard]] inline std::string descriptor_path(int directory, std::string_view name) {
    return descriptor_path(directory) + "/" + std::string(name);
}

inline constexpr std::int64_t nanoseconds_per_second = 1'000'000'000;

/// Floors, so that times before 1970 survive the round trip.
[[nodiscard]] inline timespec to_timespec(std::int64_t nanoseconds) {
    auto seconds = nanoseconds / nanoseconds_per_second;
    auto rest = nanoseconds % nanoseconds_per_second;
    if (rest < 0) {
        rest += nanoseconds_per_second;
        --seconds;
    }
    return {seconds, rest};
}

[[nodiscard]] inline std::int64_t to_nanoseconds(const timespec& time) {
    return std::int64_t{time.tv_sec} * nanoseconds_per_second + time.tv_nsec;
}

}  // namespace safepair::replica
