#include "core/rate.hpp"

#include <algorithm>

namespace safepair::replica {

namespace {

constexpr base::Duration sample_time = std::chrono::milliseconds(500);
/// Weight of the newest sample.
constexpr double newest_weight = 0.3;

double seconds(base::Duration duration) { return std::chrono::duration<double>(duration).count(); }

}  // namespace

void RateMeter::add(base::Instant time, std::uint64_t bytes) {
    if (!sample_begin_) {
        sample_begin_ = time;
    }
    sample_bytes_ += bytes;
    const auto elapsed = time - *sample_begin_;
    if (elapsed < sample_time) {
        return;
    }
    const auto sample = static_cast<double>(sample_bytes_) / seconds(elapsed);
    const auto mean =
        first_sample_ ? sample
                      : newest_weight * sample + (1 - newest_weight) * static_cast<double>(rate_);
    rate_ = static_cast<std::uint64_t>(mean);
    first_sample_ = false;
    sample_begin_ = time;
    sample_bytes_ = 0;
}

base::Duration Throttle::pause_after(base::Instant time, std::uint64_t bytes) {
    if (limit_ == 0) {
        return {};
    }
    const auto cost = std::chrono::duration_cast<base::Duration>(
        std::chrono::duration<double>(static_cast<double>(bytes) / static_cast<double>(limit_)));
    free_at_ = std::max(free_at_, time) + cost;
    return free_at_ - time;
}

}  // namespace safepair::replica
