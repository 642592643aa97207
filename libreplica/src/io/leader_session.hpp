#pragma once

#include "io/leader.hpp"
#include "io/record_channel.hpp"

#include <atomic>
#include <map>
#include <memory>
#include <thread>

namespace safepair::replica {

/// One follower, from the connection to its loss (R2: never resumed). The link of its resync.
class LeaderSession final : public ResyncLink, public std::enable_shared_from_this<LeaderSession> {
  public:
    LeaderSession(
        Leader& leader, SessionId session, std::uint64_t term, DataEndpoint peer, SyncMode mode);
    ~LeaderSession() override = default;

    void start();
    /// Whoever waits in it returns. Thread-safe, idempotent.
    void end() noexcept;

    [[nodiscard]] bool has_ended_threads() const noexcept { return threads_ended_.load(); }

    void join();

    [[nodiscard]] SessionId id() const noexcept { return session_; }

    /// Null until connected.
    [[nodiscard]] std::shared_ptr<RecordChannel> channel() const;
    [[nodiscard]] Progress progress() const;

    // ResyncLink
    [[nodiscard]] std::unique_ptr<Lock> lock_range(FileId file,
                                                   std::uint64_t offset,
                                                   std::uint64_t length) override;
    [[nodiscard]] std::unique_ptr<Lock> lock_everything() override;
    [[nodiscard]] base::Result<void> send(const ResyncRecord& record) override;
    void ask(std::span<const std::byte> question, Answer answer) override;
    [[nodiscard]] DirtyMap attach_application() override;
    [[nodiscard]] base::Result<void> flush_both() override;

    [[nodiscard]] bool cancelled() const override { return ended_.load(); }

  private:
    friend class Leader;
    class HeldLock;

    void run();
    [[nodiscard]] base::Result<void> connect();
    [[nodiscard]] base::Result<void> synchronise();
    [[nodiscard]] base::Result<void> settle();
    void receive();
    /// What ended the session: errors are passed on, an acknowledged failure of the follower sets
    /// `apply_failed`.
    [[nodiscard]] base::Result<void> handle(const RecordChannel::Frame& frame, bool& apply_failed);
    [[nodiscard]] base::Result<void> take_acknowledgements(std::span<const std::byte> payload,
                                                           bool& apply_failed);
    [[nodiscard]] base::Result<void> take_answer(const RecordChannel::Frame& frame);
    [[nodiscard]] std::unique_ptr<Lock> lock(std::vector<Claim> claims);
    /// Sends a record of our own once there is room. 0 when the session is gone.
    std::uint64_t send_record(FrameKind kind,
                              std::span<const std::byte> fields,
                              std::span<const std::byte> data,
                              Answer answer);

    Leader& leader_;
    const SessionId session_;
    const std::uint64_t term_;
    const DataEndpoint peer_;
    const SyncMode mode_;

    std::atomic<bool> ended_{false};
    std::atomic<bool> threads_ended_{false};

    mutable std::mutex mutex_;
    std::shared_ptr<RecordChannel> channel_;  // guarded by mutex_
    std::shared_ptr<ResyncDriver> driver_;    // guarded by mutex_

    /// Guarded by the leader's mutex.
    std::map<std::uint64_t, Answer> questions_;
    std::size_t resync_bytes_ = 0;
    std::deque<std::pair<std::uint64_t, std::size_t>> resync_in_flight_;

    std::thread main_;
    std::thread receiver_;
};

}  // namespace safepair::replica
