#pragma once

#include "io/follower.hpp"
#include "io/record_channel.hpp"

#include <atomic>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace safepair::replica {

/// One connection of a leader. Applies only after the thread of the session before it has ended
/// (R2).
class FollowerSession final : public std::enable_shared_from_this<FollowerSession> {
  public:
    FollowerSession(Follower& follower,
                    SessionId session,
                    std::uint64_t term,
                    base::UniqueFd connection,
                    std::shared_ptr<FollowerSession> before);

    void start();
    /// Nothing is received or acknowledged any more. Thread-safe.
    void end() noexcept;
    void join();

    [[nodiscard]] SessionId id() const noexcept { return session_; }

    void send_heartbeat(const Space& space);

  private:
    void run();
    [[nodiscard]] base::Result<void> work();
    [[nodiscard]] base::Result<void> handle(const RecordChannel::Frame& frame);
    [[nodiscard]] base::Result<void> apply(const RecordChannel::Frame& frame);
    [[nodiscard]] base::Result<void> apply_resync(const RecordChannel::Frame& frame);
    [[nodiscard]] base::Result<void> flush(const RecordChannel::Frame& frame);
    [[nodiscard]] base::Result<void> answer(const RecordChannel::Frame& frame);
    void flush_later(std::uint64_t sequence,
                     const Operation& flush,
                     bool acknowledges,
                     std::uint64_t token);
    void note_applied(std::uint64_t sequence);
    /// R13: says so to the leader and to the owner; nothing comes after it.
    void fail(std::uint64_t sequence, const base::Error& error);
    /// Tells the owner, unless it has let go of this session.
    void lose(const std::string& why);
    void acknowledge(const Acknowledgement& acknowledgement, bool at_once);
    void send_acknowledgements();

    Follower& follower_;
    const SessionId session_;
    const std::uint64_t term_;
    RecordChannel channel_;
    std::shared_ptr<FollowerSession> before_;     // of the thread
    std::unique_ptr<ResyncResponder> responder_;  // of the thread
    std::atomic<bool> ended_{false};
    std::atomic<bool> apply_failed_{false};

    /// Held while they are sent, so that acknowledgements leave in the order in which they were
    /// given.
    std::mutex acknowledgement_mutex_;
    std::vector<Acknowledgement> acknowledgements_;  // guarded by acknowledgement_mutex_

    std::thread thread_;
};

}  // namespace safepair::replica
