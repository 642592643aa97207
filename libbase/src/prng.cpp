#include <safepair/base/prng.hpp>

#include <bit>

namespace safepair::base {

Prng::Prng(std::uint64_t seed) noexcept : state_{} {
    for (auto& word : state_) {
        seed += 0x9E3779B97F4A7C15U;
        std::uint64_t z = seed;
        z = (z ^ (z >> 30U)) * 0xBF58476D1CE4E5B9U;
        z = (z ^ (z >> 27U)) * 0x94D049BB133111EBU;
        word = z ^ (z >> 31U);
    }
}

std::uint64_t Prng::next() noexcept {
    const std::uint64_t result = std::rotl(state_[1] * 5, 7) * 9;
    const std::uint64_t t = state_[1] << 17U;
    state_[2] ^= state_[0];
    state_[3] ^= state_[1];
    state_[1] ^= state_[2];
    state_[0] ^= state_[3];
    state_[2] ^= t;
    state_[3] = std::rotl(state_[3], 45);
    return result;
}

std::uint64_t Prng::below(std::uint64_t bound) noexcept {
    SAFEPAIR_ASSERT(bound != 0, "an empty range has no member");
    // Rejection keeps it uniform: values under `threshold` would be drawn once too often.
    const std::uint64_t threshold = (0 - bound) % bound;
    std::uint64_t value = next();
    while (value < threshold) {
        value = next();
    }
    return value % bound;
}

}  // namespace safepair::base
