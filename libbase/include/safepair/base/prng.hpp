#pragma once

#include <cstdint>

#include <safepair/base/assert.hpp>

namespace safepair::base {

/// xoshiro256** seeded by splitmix64 (Blackman and Vigna, https://prng.di.unimi.it). Small, specified, equal on every
/// platform, which the standard distributions are not. Not for secrets.
class Prng {
  public:
    explicit Prng(std::uint64_t seed) noexcept;

    /// 64 uniformly random bits.
    std::uint64_t next() noexcept;

    /// Uniform in [0, bound). `bound` must not be 0.
    std::uint64_t below(std::uint64_t bound) noexcept;

    /// True `numerator` times out of `denominator`.
    bool chance(std::uint64_t numerator, std::uint64_t denominator) noexcept {
        return below(denominator) < numerator;
    }

  private:
    std::uint64_t state_[4];
};

}  // namespace safepair::base
