#include "support/catch.hpp"

#include <safepair/base/prng.hpp>

#include <array>
#include <limits>

using safepair::base::Prng;

TEST_CASE("Prng: seed 0 gives the published sequence of xoshiro256** over splitmix64") {
    // The values that the reference sources (https://prng.di.unimi.it) print, as other
    // implementations test them too.
    Prng prng(0);
    for (const std::uint64_t expected : {0x99EC5F36CB75F2B4U,
                                         0xBF6E1F784956452AU,
                                         0x1A5F849D4933E6E0U,
                                         0x6AA594F1262D2D2CU,
                                         0xBBA5AD4A1F842E59U}) {
        CHECK(prng.next() == expected);
    }
}

TEST_CASE("Prng: equal seeds give equal sequences, other seeds others") {
    Prng a(42);
    Prng b(42);
    Prng c(43);
    bool differs = false;
    for (int i = 0; i < 100; ++i) {
        const auto value = a.next();
        CHECK(value == b.next());
        differs = differs || value != c.next();
    }
    CHECK(differs);
}

TEST_CASE("Prng: below stays below and reaches every value") {
    Prng prng(1);
    std::array<int, 7> seen{};
    for (int i = 0; i < 7000; ++i) {
        const auto value = prng.below(seen.size());
        REQUIRE(value < seen.size());
        ++seen[value];
    }
    for (const int count : seen) {
        CHECK(count > 800);
        CHECK(count < 1200);
    }
}

TEST_CASE("Prng: a range of one and the largest range work") {
    Prng prng(2);
    CHECK(prng.below(1) == 0);
    const auto largest = std::numeric_limits<std::uint64_t>::max();
    for (int i = 0; i < 1000; ++i) {
        REQUIRE(prng.below(largest) < largest);
    }
    // A quarter of all 64-bit values must be rejected for this range; without that its lower third
    // would be drawn half of the time.
    const std::uint64_t awkward = std::uint64_t{3} << 62U;
    int low = 0;
    for (int i = 0; i < 10000; ++i) {
        low += prng.below(awkward) < awkward / 3 ? 1 : 0;
    }
    CHECK(low > 3100);
    CHECK(low < 3570);
}

TEST_CASE(
    "Prng: chance is never at 0, always at the denominator, and in between as often as said") {
    Prng prng(3);
    int hits = 0;
    for (int i = 0; i < 10000; ++i) {
        REQUIRE_FALSE(prng.chance(0, 10));
        REQUIRE(prng.chance(10, 10));
        hits += prng.chance(1, 4) ? 1 : 0;
    }
    CHECK(hits > 2300);
    CHECK(hits < 2700);
}
