#include "support/catch.hpp"

#include <safepair/base/system_time.hpp>

#include <ctime>

using namespace safepair::base;

TEST_CASE("format_utc: known instants, in UTC with milliseconds") {
    struct Row {
        std::int64_t nanoseconds;
        const char* text;
        const char* because;
    };

    const Row rows[] = {
        {0, "1970-01-01T00:00:00.000Z", "the epoch"},
        {951'782'399'999'000'000, "2000-02-28T23:59:59.999Z", "the last moment before a leap day"},
        {951'782'400'000'000'000, "2000-02-29T00:00:00.000Z", "a leap day"},
        {4'102'444'800'000'000'000, "2100-01-01T00:00:00.000Z", "far away"},
        {1'000'999'999, "1970-01-01T00:00:01.000Z", "microseconds are cut, not rounded"},
        {1'001'000'000, "1970-01-01T00:00:01.001Z", "one millisecond"},
    };
    for (const auto& row : rows) {
        DYNAMIC_SECTION(row.because) { CHECK(format_utc(row.nanoseconds) == row.text); }
    }
}

TEST_CASE("boot_time_now: does not run backwards and counts what CLOCK_BOOTTIME counts") {
    auto last = boot_time_now();
    for (int i = 0; i < 1000; ++i) {
        const auto now = boot_time_now();
        REQUIRE(now >= last);
        last = now;
    }
    timespec boot{};
    REQUIRE(clock_gettime(CLOCK_BOOTTIME, &boot) == 0);
    const auto reference =
        Instant(std::chrono::seconds(boot.tv_sec) + std::chrono::nanoseconds(boot.tv_nsec));
    CHECK(reference >= last);
    CHECK(boot_time_now() >= reference);
}

TEST_CASE("wall_clock_now: is the wall clock, in nanoseconds") {
    const auto before = std::time(nullptr);
    const auto now = wall_clock_now();
    const auto after = std::time(nullptr);
    CHECK(now / 1'000'000'000 >= before - 1);
    CHECK(now / 1'000'000'000 <= after + 1);
}
