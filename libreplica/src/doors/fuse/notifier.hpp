#pragma once

#include "doors/fuse/library.hpp"

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>

namespace safepair::replica::fuse_door {

/// Tells the kernel to drop pages. The kernel may wait in there for answers to reads and for dirty
/// pages to be written, so it happens on a thread of its own that holds no lock and that no such
/// answer depends on. What is queued belongs to a request that the kernel waits for, or to a closed
/// file, so the kernel bounds it.
class Notifier {
  public:
    struct Range {
        fuse_ino_t inode = 0;
        /// Below 0: attributes only.
        std::int64_t offset = 0;
        /// 0: to the end.
        std::int64_t length = 0;
    };

    ~Notifier() { stop(); }

    void start(fuse_session* session);
    /// Returns when the thread is gone; what is still queued is dropped. The kernel must have ended
    /// the session.
    void stop();

    /// Calls `then()` on the notifier's thread once the kernel has dropped the range.
    template <typename Then>
    void invalidate(const Range& range, Then then) {
        push(std::make_unique<JobOf<Then>>(range, std::move(then)));
    }

  private:
    struct Job {
        explicit Job(const Range& to_drop) : range(to_drop) {}

        virtual ~Job() = default;
        Job(const Job&) = delete;
        Job& operator=(const Job&) = delete;
        virtual void run() = 0;

        Range range;
    };

    template <typename Then>
    struct JobOf final : Job {
        JobOf(const Range& to_drop, Then what) : Job(to_drop), then(std::move(what)) {}

        void run() override { then(); }

        Then then;
    };

    void push(std::unique_ptr<Job> job);
    void work();

    fuse_session* session_ = nullptr;
    std::mutex mutex_;
    std::condition_variable filled_;
    std::deque<std::unique_ptr<Job>> jobs_;  // guarded by mutex_
    bool stopped_ = false;                   // guarded by mutex_
    std::thread thread_;
};

}  // namespace safepair::replica::fuse_door
