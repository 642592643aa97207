#include <safepair/base/system_time.hpp>

#include <array>
#include <cstdio>
#include <ctime>

namespace safepair::base {

namespace {

std::int64_t read(clockid_t clock) noexcept {
    timespec now{};
    clock_gettime(clock, &now);
    return std::int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

}  // namespace

Instant boot_time_now() noexcept {
    return Instant(Duration(read(CLOCK_BOOTTIME)));
}

WallNanoseconds wall_clock_now() noexcept {
    return read(CLOCK_REALTIME);
}

std::string format_utc(WallNanoseconds time) {
    const std::time_t seconds = static_cast<std::time_t>(time / 1'000'000'000);
    const auto milliseconds = static_cast<int>(time / 1'000'000 % 1000);
    std::tm parts{};
    gmtime_r(&seconds, &parts);
    std::array<char, 64> text{};
    const int length = std::snprintf(text.data(),
                                     text.size(),
                                     "%04d-%02d-%02dT%02d:%02d:%02d.%03dZ",
                                     parts.tm_year + 1900,
                                     parts.tm_mon + 1,
                                     parts.tm_mday,
                                     parts.tm_hour,
                                     parts.tm_min,
                                     parts.tm_sec,
                                     milliseconds);
    return {text.data(), static_cast<std::size_t>(length)};
}

}  // namespace safepair::base
