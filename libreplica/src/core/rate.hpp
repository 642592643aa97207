#pragma once

#include <safepair/base/time.hpp>

#include <cstdint>
#include <optional>

namespace safepair::replica {

/// How fast something advances lately: an exponentially weighted mean of samples of half a second
/// each.
class RateMeter {
  public:
    void add(base::Instant time, std::uint64_t bytes);

    [[nodiscard]] std::uint64_t bytes_per_second() const noexcept { return rate_; }

  private:
    std::optional<base::Instant> sample_begin_;
    std::uint64_t sample_bytes_ = 0;
    std::uint64_t rate_ = 0;
    bool first_sample_ = true;
};

/// Keeps a mean rate: says how long to pause after each piece. An idle time is not caught up with.
class Throttle {
  public:
    /// 0: no limit.
    explicit Throttle(std::uint64_t bytes_per_second) : limit_(bytes_per_second) {}

    [[nodiscard]] base::Duration pause_after(base::Instant time, std::uint64_t bytes);

  private:
    std::uint64_t limit_;
    base::Instant free_at_{};
};

}  // namespace safepair::replica
