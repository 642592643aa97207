#include "io/task_pool.hpp"

#include <utility>

namespace safepair::replica {

void TaskPool::post(std::function<void()> task) {
    {
        const std::lock_guard lock(mutex_);
        if (!finished_) {
            tasks_.push_back(std::move(task));
            if (idle_ < tasks_.size() && threads_.size() < threads_max_) {
                threads_.emplace_back([this] { run(); });
            }
            filled_.notify_one();
            return;
        }
    }
    task();
}

void TaskPool::run() {
    std::unique_lock lock(mutex_);
    for (;;) {
        ++idle_;
        filled_.wait(lock, [this] { return finished_ || !tasks_.empty(); });
        --idle_;
        if (tasks_.empty()) {
            return;
        }
        const auto task = std::move(tasks_.front());
        tasks_.pop_front();
        lock.unlock();
        task();
        lock.lock();
    }
}

void TaskPool::finish() {
    std::vector<std::thread> threads;
    {
        const std::lock_guard lock(mutex_);
        finished_ = true;
        threads.swap(threads_);
    }
    filled_.notify_all();
    for (auto& thread : threads) {
        thread.join();
    }
}

}  // namespace safepair::replica
