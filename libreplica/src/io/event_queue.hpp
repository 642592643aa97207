#pragma once

#include <safepair/base/time.hpp>
#include <safepair/replica/replicated_folder.hpp>

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <string>
#include <thread>

namespace safepair::replica {

/// Tells the owner what happened, in the order in which it happened, from a thread of its own:
/// events are put in while locks are held, so that their order is that of the states.
class EventQueue {
  public:
    explicit EventQueue(FolderEvents& events);
    /// Tells what is left.
    ~EventQueue();
    EventQueue(const EventQueue&) = delete;
    EventQueue& operator=(const EventQueue&) = delete;

    void session_opened(SessionId session);
    void session_lost(SessionId session, const std::string& why, bool apply_failed);
    void resync_finished(SessionId session);
    void local_store_failed(const std::string& why);
    void note(const std::string& text);
    /// Passed on at most once per 100 ms.
    void peer_heard();

  private:
    void push(std::function<void(FolderEvents&)> event);
    void run();

    FolderEvents& events_;
    std::mutex mutex_;
    std::condition_variable filled_;
    std::deque<std::function<void(FolderEvents&)>> queue_;  // guarded by mutex_
    bool ended_ = false;                                    // guarded by mutex_
    base::Instant last_heard_{};                            // guarded by mutex_
    std::thread thread_;
};

}  // namespace safepair::replica
