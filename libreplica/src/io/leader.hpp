#pragma once

#include "core/lock_table.hpp"
#include "core/operation_codec.hpp"
#include "core/primary.hpp"
#include "io/event_queue.hpp"
#include "io/resync_driver.hpp"
#include "io/task_pool.hpp"

#include <safepair/replica/door.hpp>
#include <safepair/replica/replicated_folder.hpp>

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

namespace safepair::replica {

class LeaderSession;

struct LeaderOptions {
    std::string module;
    std::string node;
    Durability durability = Durability::flush_durable;
    FolderFaults faults;
    MakeResync make_resync;
};

/// Stands behind the door of the leader: carries operations out here, sends them to the follower,
/// and answers when both are done. The thread of the door does the work itself; only what has to
/// wait for its turn, or for a disk, changes thread.
///
/// Threads: those of the door; one that runs operations whose turn came later; a pool for flushes;
/// one for what is due by the clock; per session one that resynchronises and one that receives.
/// Lock order: a channel's turn, then mutex_. Nothing is sent, written or answered under mutex_.
class Leader final : public Front {
  public:
    Leader(LeaderOptions options, Store& store, DirtyMap dirty, EventQueue& events);
    ~Leader() override;

    // Front
    void submit(const Operation& operation, Completion done) override;
    void fence(const Footprint& footprint, Completion done) override;

    [[nodiscard]] Store& store() noexcept override { return store_; }

    [[nodiscard]] base::Result<Space> space() override;
    void closed(FileId file) noexcept override;

    // What ReplicatedFolder passes on; see there.
    void connect(SessionId session, std::uint64_t term, const DataEndpoint& peer, SyncMode mode);
    void drop(SessionId session);
    void release_held();
    void freeze();
    void thaw();
    void fail();
    [[nodiscard]] base::Result<std::uint64_t> quiesce(base::Duration deadline);
    [[nodiscard]] base::Result<void> finish_resync(SessionId session);

    /// Everything is answered (what is left: EIO), no thread of ours runs any more. Idempotent.
    void stop();
    /// What this node cannot vouch for on the other.
    [[nodiscard]] DirtyMap uncertain() const;
    /// The part of it that stands for being alone.
    [[nodiscard]] DirtyMap dirty() const;
    void add_stats(FolderStats& stats) const;

  private:
    friend class LeaderSession;

    using Ticket = LockTable::Ticket;
    using SessionPointer = std::shared_ptr<LeaderSession>;

    /// An operation that waits for its turn.
    struct Parked {
        OwnedOperation operation;
        Completion done;
    };

    /// Shipped late, on purpose (FolderFaults).
    struct Late {
        OwnedOperation operation;
        base::Instant due{};
    };

    /// How one operation will go.
    struct Plan {
        Effects effects;
        int refused = 0;
        bool orphan = false;
        bool durable = false;
        /// Writes go out before they are carried out here; what may fail for good reasons is tried
        /// here first.
        bool ships_first = false;
    };

    /// How it went here.
    struct Outcome {
        int error = 0;
        /// It travels to the follower.
        bool replicated = false;
        /// It failed as it would on any node.
        bool changed_nothing = false;
    };

    // leader_operations.cpp
    [[nodiscard]] Plan plan(const Operation& operation);
    [[nodiscard]] int refusal_of(const Operation& operation);
    [[nodiscard]] Before look_before(const Operation& operation);
    void submit_flush(const Operation& operation, Completion done);
    void carry_out(Ticket ticket, const Operation& operation, Completion done);
    void carry_out_planned(Ticket ticket,
                           const Operation& operation,
                           const Plan& how,
                           Completion done);
    [[nodiscard]] bool outcome_is_partial(const Operation& operation);
    void finish_operation(Ticket ticket,
                          Primary::Handle handle,
                          const Operation& operation,
                          const Outcome& outcome);
    void flush_locally(Primary::Handle handle, const Operation& flush);
    /// Sets the mtime that the last write carried, on both nodes (R25).
    void sync_time(FileId file);
    void request_and_carry_out(const Operation& operation, Completion done);
    [[nodiscard]] bool is_full_for(const Operation& operation);
    [[nodiscard]] std::uint64_t free_bytes();
    void fault_late(const Operation& operation, const Effects& effects);
    void ship_late(bool all);

    /// Gives the operation its number and sends it. False when there is no session for it.
    bool ship(Primary::Handle handle,
              FrameKind kind,
              std::span<const std::byte> fields,
              std::span<const std::byte> data);
    /// The same for a number that `number` gives under mutex_; 0 is for nothing to send.
    bool send_numbered(FrameKind kind,
                       std::span<const std::byte> fields,
                       std::span<const std::byte> data,
                       const std::function<std::uint64_t()>& number);
    /// Under mutex_: a number for something that is carried out on the follower only. 0 without a
    /// session.
    [[nodiscard]] std::uint64_t number_record(std::size_t bytes, bool flushes_there);

    // leader.cpp
    static void deliver(Primary::Answers& answers);
    void notify_progress();
    void release_ticket(Ticket ticket);
    /// Waits for its turn; false when `session`, unless null, was lost meanwhile.
    [[nodiscard]] bool wait_for_ticket(Ticket ticket,
                                       std::vector<Claim> claims,
                                       const LeaderSession* session);
    void run_parked();

    // leader_upkeep.cpp
    void run_upkeep();
    void upkeep();
    void refresh_space();
    void flush_in_background();
    void set_times_in_background(std::vector<FileId> files);
    [[nodiscard]] base::Result<void> flush_everything(const SessionPointer& session);
    [[nodiscard]] base::Result<void> wait_acknowledged(const SessionPointer& session,
                                                       std::uint64_t sequence);
    void lose(const LeaderSession& session, const std::string& why, bool apply_failed, bool tell);
    void lose_session(const std::string& why);
    void reap_sessions(bool all);

    const LeaderOptions options_;
    Store& store_;
    EventQueue& events_;

    mutable std::mutex mutex_;
    std::condition_variable progress_;  // acknowledgements, answers, grants, changes of state
    std::condition_variable ready_changed_;
    Primary core_;                     // guarded by mutex_
    LockTable locks_;                  // guarded by mutex_
    Ticket last_ticket_ = 0;           // guarded by mutex_
    std::map<Ticket, Parked> parked_;  // guarded by mutex_
    std::deque<Ticket> ready_;         // guarded by mutex_
    std::vector<Ticket> granted_;      // guarded by mutex_; of threads that wait for them
    std::size_t waiting_ = 0;          // guarded by mutex_; threads in progress_
    std::optional<Ticket> freezing_;   // guarded by mutex_
    std::deque<Late> late_;            // guarded by mutex_
    SessionPointer session_;           // guarded by mutex_; the one that counts
    bool session_up_ = false;          // guarded by mutex_
    bool flush_failed_ = false;  // guarded by mutex_; here, in this session: never tried again
    bool stall_told_ = false;    // guarded by mutex_; in this session
    bool stopping_ = false;      // guarded by mutex_
    std::vector<SessionPointer> ended_sessions_;  // guarded by mutex_
    std::optional<Space> peer_space_;             // guarded by mutex_
    std::uint64_t sent_before_ = 0;               // guarded by mutex_; by sessions that ended
    ResyncDriver::Summary last_resync_;           // guarded by mutex_

    /// Counts down with each write, so that most writes need not ask the file system.
    std::atomic<std::int64_t> free_estimate_{0};

    std::mutex upkeep_mutex_;
    std::condition_variable upkeep_wake_;
    bool upkeep_ended_ = false;  // guarded by upkeep_mutex_
    base::Instant next_background_flush_{};
    std::atomic<bool> background_flush_running_{false};
    std::atomic<bool> background_times_running_{false};

    TaskPool flushes_;
    std::thread runner_;
    std::thread upkeep_;
};

/// An errno for a door.
[[nodiscard]] int errno_of(const base::Error& error) noexcept;
/// 0 when it went well.
[[nodiscard]] int errno_of(const base::Result<void>& result) noexcept;

}  // namespace safepair::replica
