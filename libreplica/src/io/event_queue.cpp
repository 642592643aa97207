#include "io/event_queue.hpp"

#include <safepair/base/system_time.hpp>

#include <utility>

namespace safepair::replica {

namespace {

constexpr base::Duration heard_pause = std::chrono::milliseconds(100);

}  // namespace

EventQueue::EventQueue(FolderEvents& events) : events_(events), thread_([this] { run(); }) {}

EventQueue::~EventQueue() {
    {
        const std::lock_guard lock(mutex_);
        ended_ = true;
    }
    filled_.notify_one();
    thread_.join();
}

void EventQueue::push(std::function<void(FolderEvents&)> event) {
    {
        const std::lock_guard lock(mutex_);
        queue_.push_back(std::move(event));
    }
    filled_.notify_one();
}

void EventQueue::run() {
    std::unique_lock lock(mutex_);
    for (;;) {
        filled_.wait(lock, [this] { return ended_ || !queue_.empty(); });
        if (queue_.empty()) {
            return;
        }
        const auto event = std::move(queue_.front());
        queue_.pop_front();
        lock.unlock();
        event(events_);
        lock.lock();
    }
}

void EventQueue::session_opened(SessionId session) {
    push([session](FolderEvents& events) { events.session_opened(session); });
}

void EventQueue::session_lost(SessionId session, const std::string& why, bool apply_failed) {
    push([session, why, apply_failed](FolderEvents& events) {
        events.session_lost(session, why, apply_failed);
    });
}

void EventQueue::resync_finished(SessionId session) {
    push([session](FolderEvents& events) { events.resync_finished(session); });
}

void EventQueue::local_store_failed(const std::string& why) {
    push([why](FolderEvents& events) { events.local_store_failed(why); });
}

void EventQueue::note(const std::string& text) {
    push([text](FolderEvents& events) { events.note(text); });
}

void EventQueue::peer_heard() {
    const auto now = base::boot_time_now();
    {
        const std::lock_guard lock(mutex_);
        if (last_heard_ != base::Instant{} && now - last_heard_ < heard_pause) {
            return;
        }
        last_heard_ = now;
    }
    push([](FolderEvents& events) { events.peer_heard(); });
}

}  // namespace safepair::replica
