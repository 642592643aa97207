#include "io/resync_progress.hpp"

#include <algorithm>
#include <utility>

namespace safepair::replica {

ResyncProgress::ResyncProgress(std::function<base::Instant()> clock) : clock_(std::move(clock)) {}

void ResyncProgress::begin(SyncMode mode) {
    const auto time = clock_();
    const std::lock_guard lock(mutex_);
    progress_ = {};
    progress_.running = true;
    progress_.mode = mode;
    rate_ = {};
    rate_.add(time, 0);
}

void ResyncProgress::end() {
    const std::lock_guard lock(mutex_);
    progress_.running = false;
    progress_.bytes_per_second = 0;
    progress_.file.clear();
}

void ResyncProgress::set_total(std::uint64_t bytes) {
    const std::lock_guard lock(mutex_);
    progress_.bytes_total = bytes;
}

void ResyncProgress::set_file(std::string path) {
    const std::lock_guard lock(mutex_);
    progress_.file = std::move(path);
}

void ResyncProgress::add_done(std::uint64_t bytes) {
    const auto time = clock_();
    const std::lock_guard lock(mutex_);
    progress_.bytes_done = std::min(progress_.bytes_done + bytes, progress_.bytes_total);
    rate_.add(time, bytes);
    progress_.bytes_per_second = rate_.bytes_per_second();
}

void ResyncProgress::add_copied(std::uint64_t bytes) {
    const std::lock_guard lock(mutex_);
    progress_.bytes_copied += bytes;
}

Progress ResyncProgress::get() const {
    const std::lock_guard lock(mutex_);
    return progress_;
}

}  // namespace safepair::replica
