#pragma once

#include "core/effects.hpp"
#include "core/frame_codec.hpp"

#include <safepair/base/result.hpp>
#include <safepair/base/time.hpp>
#include <safepair/replica/dirty_map.hpp>
#include <safepair/replica/door.hpp>
#include <safepair/replica/limits.hpp>

#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <vector>

/// The leader's book of what is in flight: which number it has on the wire, who waits for it, what
/// may be answered now, and what would have to be copied if the follower were gone this moment. A
/// value: its owner locks, sends and writes.
namespace safepair::replica {

enum class LeaderState : std::uint8_t {
    alone,      ///< answers by the local result; everything is marked dirty
    resyncing,  ///< a session is there; still answers by the local result and marks
    settling,   ///< waits for both nodes, but nobody was told yet: a lost session leads back to
                ///< alone
    in_sync,    ///< waits for both nodes
    holding,    ///< the session of in_sync is lost: no answer until release_held() or fail()
    failed,     ///< every answer is EIO
};

class Primary {
  public:
    using Handle = std::uint32_t;

    struct Answer {
        Completion done;
        int error = 0;
    };

    using Answers = std::vector<Answer>;

    /// Something that is about to be carried out here, there, or both.
    struct Work {
        Effects effects;
        /// Nobody waits when `done.call` is null.
        Completion done{};
        std::size_t bytes = 0;
        base::Instant begun{};
        /// number() will be called for it.
        bool ships = false;
        /// Answered only when the follower has it too.
        bool waits_for_peer = false;
        /// local_done() will come.
        bool runs_here = true;
        /// flush_done() will come.
        bool flushes_here = false;
        /// The acknowledgement has to say that it is on stable storage.
        bool flushes_there = false;
        /// A flush of this file on behalf of the application; when it ended well, see
        /// metadata_mark().
        std::optional<FileId> flush_of;
        std::uint64_t metadata_mark = 0;
    };

    explicit Primary(DirtyMap dirty) : dirty_(std::move(dirty)) {}

    [[nodiscard]] LeaderState state() const noexcept { return state_; }

    [[nodiscard]] bool frozen() const noexcept { return frozen_; }

    /// Operations of the application travel to the follower.
    [[nodiscard]] bool attached() const noexcept { return attached_; }

    /// ... and are answered when it has them.
    [[nodiscard]] bool promises() const noexcept {
        return state_ == LeaderState::settling || state_ == LeaderState::in_sync ||
               state_ == LeaderState::holding;
    }

    // Operations

    /// False: the caller has to wait until something was answered or acknowledged.
    [[nodiscard]] bool has_room(std::size_t bytes) const noexcept;
    /// An operation that waits for its turn, data and all.
    void park(std::size_t bytes) noexcept;
    void unpark(std::size_t bytes) noexcept;

    [[nodiscard]] Handle begin(Work work, Answers& answers);
    /// The next number of the session; 0 when it is gone, and nothing is to be sent. Callers send
    /// in the order of these calls.
    [[nodiscard]] std::uint64_t number(Handle handle, base::Instant now);
    /// It failed as it would on any node, and changed nothing: not shipped, not marked, answered at
    /// once.
    void keep_here(Handle handle) noexcept;
    /// Carried out here, or failed with an errno. True when the failure must not be answered
    /// because a follower that has everything can go on where this node cannot (R13):
    /// local_store_failed.
    [[nodiscard]] bool local_done(Handle handle, int error, Answers& answers);
    [[nodiscard]] bool flush_done(Handle handle, int error, Answers& answers);
    /// Errors: Errc::corrupt for a number that is not in flight.
    [[nodiscard]] base::Result<void> acknowledge(const Acknowledgement& acknowledgement,
                                                 Answers& answers);
    void fence(const Footprint& read, Completion done, Answers& answers);

    // Session

    /// A follower is there; the map of this moment is what a resync begins with.
    void session_up();
    /// From now on operations are shipped. Nothing may be running. The map of this moment.
    [[nodiscard]] DirtyMap attach();
    /// From now on operations wait for both nodes.
    void settle();
    /// Everything that was answered without the follower is acknowledged by it.
    [[nodiscard]] bool settled() const noexcept;
    void become_in_sync();
    void session_lost(Answers& answers);

    /// R8: what the map held is equal and durable on both nodes.
    void finish_resync() { dirty_.clear(); }

    // Orders of the owner

    void release_held(Answers& answers);
    void fail(Answers& answers);

    void freeze() noexcept { frozen_ = true; }

    void thaw(Answers& answers);

    // Maps

    [[nodiscard]] const DirtyMap& dirty() const noexcept { return dirty_; }

    void merge_dirty(const DirtyMap& map) { dirty_.merge(map); }

    /// What this node cannot vouch for on the other: dirty, not flushed on both, in flight.
    [[nodiscard]] DirtyMap everything_uncertain() const;

    /// Something is written and not yet flushed on both.
    [[nodiscard]] bool has_unflushed() const noexcept { return !unflushed_.empty(); }

    /// Changed but neither shipped nor marked in any other way.
    void mark_unflushed(const Effects& effects) { effects.mark(unflushed_.current()); }

    /// One flush of everything at a time. The result is given back to end_flush_all().
    [[nodiscard]] std::uint64_t begin_flush_all();
    void end_flush_all(std::uint64_t token, bool flushed);

    [[nodiscard]] bool flushing_all() const noexcept { return flush_all_ != 0; }

    /// R15: something but data changed since the last flush of the file.
    [[nodiscard]] bool has_unflushed_metadata(FileId file) const;

    /// Stands for what was changed up to now; a flush that begins now covers it.
    [[nodiscard]] std::uint64_t metadata_mark() const noexcept { return metadata_clock_; }

    /// Nil root: of everything.
    void metadata_flushed(FileId file, std::uint64_t mark);

    // Times (R25)

    void note_write_time(FileId file, std::int64_t time, base::Instant now);

    void forget_write_time(FileId file) { times_.erase(file); }

    [[nodiscard]] std::optional<std::int64_t> write_time(FileId file) const;
    /// Files whose last write is at least `idle` ago.
    [[nodiscard]] std::vector<FileId> idle_files(base::Instant now, base::Duration idle) const;

    // What is shown

    /// Nothing is shipped and not acknowledged, running, or held.
    [[nodiscard]] bool idle() const noexcept { return used_ == 0 && parked_ == 0; }

    [[nodiscard]] std::size_t bytes_in_flight() const noexcept { return bytes_; }

    /// When the oldest number without acknowledgement was given.
    [[nodiscard]] std::optional<base::Instant> oldest_unacknowledged() const;

    /// The last number given.
    [[nodiscard]] std::uint64_t last_sequence() const noexcept {
        return first_sequence_ + by_sequence_.size() - 1;
    }

    /// Everything up to it is acknowledged.
    [[nodiscard]] std::uint64_t acknowledged_sequence() const noexcept {
        return first_sequence_ - 1;
    }

    /// Something has been carried out or flushed here for longer than `patience` while a follower
    /// could go on (R13).
    [[nodiscard]] bool is_stalled(base::Instant now, base::Duration patience) const noexcept;
    /// A local failure is being held (R13).
    [[nodiscard]] bool has_held_failure() const noexcept;

  private:
    struct Entry {
        Work work;
        bool used = false;
        bool answered = false;
        bool acknowledged = false;
        /// Failed here while a follower could take over.
        bool held_failure = false;
        int error = 0;
        std::uint64_t sequence = 0;
        base::Instant numbered_at{};
        std::vector<std::uint32_t> fences;
    };

    struct Fence {
        Completion done;
        std::size_t waits_for = 0;
    };

    struct WriteTime {
        std::int64_t time = 0;
        base::Instant written{};
    };

    static constexpr Handle none = UINT32_MAX;

    [[nodiscard]] bool gate_open() const noexcept {
        return !frozen_ && state_ != LeaderState::holding;
    }

    [[nodiscard]] bool failed_here(Entry& entry, int error);
    void try_answer(Handle handle, Answers& answers);
    void answer(Handle handle, int error, Answers& answers);
    void answer_all_ready(Answers& answers);
    void retire(Handle handle);
    void finished_on_both(const Entry& entry);
    void note_metadata(const Effects& effects);
    void stop_waiting_for_peer();
    void free_fence(std::uint32_t index, int error, Answers& answers);

    LeaderState state_ = LeaderState::alone;
    bool frozen_ = false;
    bool attached_ = false;

    std::vector<Entry> entries_;
    std::vector<Handle> free_;
    std::size_t used_ = 0;
    std::size_t bytes_ = 0;
    std::size_t parked_ = 0;
    std::size_t parked_bytes_ = 0;
    /// Entry of each number from first_sequence_ on; none when acknowledged.
    std::deque<Handle> by_sequence_;
    std::uint64_t first_sequence_ = 1;
    /// Those that are not answered yet.
    std::map<FileId, std::vector<Handle>> by_file_;

    std::vector<Fence> fences_;
    std::vector<std::uint32_t> free_fences_;
    /// Nothing in flight concerns them any more, but no answer may be given.
    std::vector<Completion> gated_;

    DirtyMap dirty_;
    UnflushedMap unflushed_;
    std::uint64_t flush_all_ = 0;
    std::uint64_t last_flush_all_ = 0;
    std::map<FileId, std::uint64_t> metadata_;
    std::uint64_t metadata_clock_ = 0;
    /// Too many files to remember: until the next flush of everything every file counts.
    bool metadata_overflow_ = false;
    std::map<FileId, WriteTime> times_;
};

}  // namespace safepair::replica
