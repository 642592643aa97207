#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>

namespace safepair::agent {

/// A thread that runs jobs one after the other, made when the first job comes. Effects that may not
/// overtake each other share a lane; effects that must not wait for each other (a kill and the stop
/// it cuts short) have lanes of their own.
class Lane {
  public:
    using Job = std::function<void()>;

    Lane() = default;
    Lane(const Lane&) = delete;
    Lane& operator=(const Lane&) = delete;

    /// Runs what is still queued, then joins.
    ~Lane() { finish(); }

    /// Returns the job's ticket for wait_for().
    std::uint64_t post(Job job) {
        const std::lock_guard lock(mutex_);
        if (!thread_.joinable() && !finishing_) {
            thread_ = std::thread([this] { run(); });
        }
        jobs_.push_back(std::move(job));
        changed_.notify_all();
        return ++posted_;
    }

    /// Ticket of the newest job so far, 0 for none.
    [[nodiscard]] std::uint64_t last_ticket() const {
        const std::lock_guard lock(mutex_);
        return posted_;
    }

    /// Returns when the job with this ticket, and all before it, have run.
    void wait_for(std::uint64_t ticket) {
        std::unique_lock lock(mutex_);
        changed_.wait(lock, [&] { return done_ >= ticket || (finishing_ && jobs_.empty()); });
    }

    void finish() {
        {
            const std::lock_guard lock(mutex_);
            finishing_ = true;
            changed_.notify_all();
        }
        if (thread_.joinable()) {
            thread_.join();
        }
    }

  private:
    void run() {
        std::unique_lock lock(mutex_);
        for (;;) {
            changed_.wait(lock, [&] { return finishing_ || !jobs_.empty(); });
            if (jobs_.empty()) {
                return;
            }
            const Job job = std::move(jobs_.front());
            jobs_.pop_front();
            lock.unlock();
            job();
            lock.lock();
            ++done_;
            changed_.notify_all();
        }
    }

    mutable std::mutex mutex_;
    std::condition_variable changed_;
    std::deque<Job>
        jobs_;  // guarded by mutex_; bounded by the role machine, which awaits each result
    std::uint64_t posted_ = 0;  // guarded by mutex_
    std::uint64_t done_ = 0;    // guarded by mutex_
    bool finishing_ = false;    // guarded by mutex_
    std::thread thread_;
};

}  // namespace safepair::agent
