#include "core/rate.hpp"

#include "support/catch.hpp"

#include <chrono>

using namespace safepair;
using namespace safepair::replica;
using namespace std::chrono_literals;

TEST_CASE("RateMeter: a steady flow shows its rate, and a faster one is approached", "[resync]") {
    RateMeter meter;
    base::Instant time{};
    meter.add(time, 0);
    CHECK(meter.bytes_per_second() == 0);
    for (int i = 0; i < 10; ++i) {
        time += 100ms;
        meter.add(time, 100);
    }
    CHECK(meter.bytes_per_second() == 1000);
    time += 500ms;
    meter.add(time, 1000);
    CHECK(meter.bytes_per_second() == 1300);
}

TEST_CASE("RateMeter: time that stands still does no harm", "[resync]") {
    RateMeter meter;
    for (int i = 0; i < 100; ++i) {
        meter.add(base::Instant{}, 1000);
    }
    CHECK(meter.bytes_per_second() == 0);
}

TEST_CASE("Throttle: the mean rate is kept and idle time is not caught up with", "[resync]") {
    Throttle throttle(1000);
    base::Instant time{10s};
    CHECK(throttle.pause_after(time, 500) == 500ms);
    CHECK(throttle.pause_after(time + 500ms, 250) == 250ms);
    CHECK(throttle.pause_after(time + 600ms, 1000) == 1150ms);
    CHECK(throttle.pause_after(time + 100s, 10) == 10ms);
    Throttle none(0);
    CHECK(none.pause_after(time, 1 << 30) == 0s);
}
