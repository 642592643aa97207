#include "doors/fuse/notifier.hpp"

#include <new>

namespace safepair::replica::fuse_door {

void Notifier::start(fuse_session* session) {
    session_ = session;
    thread_ = std::thread([this] { work(); });
}

void Notifier::stop() {
    std::deque<std::unique_ptr<Job>> dropped;
    {
        const std::lock_guard lock(mutex_);
        stopped_ = true;
        dropped.swap(jobs_);
    }
    filled_.notify_all();
    if (thread_.joinable()) {
        thread_.join();
    }
}

void Notifier::push(std::unique_ptr<Job> job) {
    {
        const std::lock_guard lock(mutex_);
        if (stopped_) {
            return;
        }
        jobs_.push_back(std::move(job));
    }
    filled_.notify_one();
}

void Notifier::work() {
    for (;;) {
        std::unique_ptr<Job> job;
        {
            std::unique_lock lock(mutex_);
            filled_.wait(lock, [this] { return stopped_ || !jobs_.empty(); });
            if (stopped_) {
                return;
            }
            job = std::move(jobs_.front());
            jobs_.pop_front();
        }
        // Fails when the kernel has forgotten the inode, and its pages with it.
        fuse_lowlevel_notify_inval_inode(
            session_, job->range.inode, job->range.offset, job->range.length);
        try {
            job->run();
        } catch (const std::bad_alloc&) {
            // The reply it carried answered EIO.
        }
    }
}

}  // namespace safepair::replica::fuse_door
