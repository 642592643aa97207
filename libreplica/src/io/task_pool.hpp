#pragma once

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace safepair::replica {

/// Threads for calls that wait for a disk. A thread is started when a task finds none idle, up to
/// `threads_max`; tasks begin in the order they came. The queue needs no bound of its own: each
/// task stands for an operation that is in flight.
class TaskPool {
  public:
    explicit TaskPool(std::size_t threads_max) : threads_max_(threads_max) {}

    ~TaskPool() { finish(); }

    TaskPool(const TaskPool&) = delete;
    TaskPool& operator=(const TaskPool&) = delete;

    void post(std::function<void()> task);
    /// Carries out what is left and ends the threads. Tasks posted later are carried out by the
    /// caller.
    void finish();

  private:
    void run();

    const std::size_t threads_max_;
    std::mutex mutex_;
    std::condition_variable filled_;
    std::deque<std::function<void()>> tasks_;  // guarded by mutex_
    std::vector<std::thread> threads_;         // guarded by mutex_
    std::size_t idle_ = 0;                     // guarded by mutex_
    bool finished_ = false;                    // guarded by mutex_
};

}  // namespace safepair::replica
