#pragma once

#include "core/effects.hpp"
#include "core/frame_codec.hpp"

#include <safepair/base/ids.hpp>
#include <safepair/base/result.hpp>
#include <safepair/replica/dirty_map.hpp>

#include <cstdint>
#include <map>
#include <vector>

/// The follower's book: what came, what of it is flushed, what is to be acknowledged, which times
/// are still to be set. A value: its owner receives, applies and flushes.
namespace safepair::replica {

class Secondary {
  public:
    explicit Secondary(DirtyMap dirty) : dirty_(std::move(dirty)) {}

    /// A new session begins at number 1.
    void session_up(base::SessionId session);

    [[nodiscard]] base::SessionId session() const noexcept { return session_; }

    /// A frame came. Errors: Errc::corrupt when its number is not the next one, or its kind is not
    /// for a follower.
    [[nodiscard]] base::Result<void> received(const FrameHeader& header);

    /// The frame with this number is carried out, and so is everything before it.
    void applied(std::uint64_t sequence) noexcept { applied_ = sequence; }

    [[nodiscard]] std::uint64_t applied_sequence() const noexcept { return applied_; }

    /// Something could not be carried out or flushed: nothing of this copy counts any more (R13).
    void set_failed() noexcept { failed_ = true; }

    [[nodiscard]] bool failed() const noexcept { return failed_; }

    /// R17: everything up to `sequence` of `session` is applied, and no failure is known.
    [[nodiscard]] bool has_applied(base::SessionId session, std::uint64_t sequence) const noexcept {
        return session == session_ && !session.is_nil() && !failed_ && applied_ >= sequence;
    }

    /// What an operation of the application changed; keeps the time that a write carries (R25).
    void changed(const Operation& operation, const Effects& effects);
    /// What a resync changed.
    void changed_by_resync(const Operation& operation);

    [[nodiscard]] std::uint64_t begin_flush_all();
    void end_flush_all(std::uint64_t token, bool flushed);

    /// The leader has merged and copied all of it: this copy is whole.
    void complete() {
        dirty_.clear();
        completed_ = true;
    }

    /// A resync ended since this object was made: the map covers every difference.
    [[nodiscard]] bool completed() const noexcept { return completed_; }

    /// Own changes from an earlier time as leader.
    [[nodiscard]] const DirtyMap& dirty() const noexcept { return dirty_; }

    /// R10: dirty and not flushed.
    [[nodiscard]] DirtyMap uncertain() const;

    /// mtimes that were received and not set yet; forgets them.
    [[nodiscard]] std::map<FileId, std::int64_t> take_times() { return std::exchange(times_, {}); }

  private:
    base::SessionId session_;
    std::uint64_t received_ = 0;
    std::uint64_t applied_ = 0;
    bool failed_ = false;
    bool completed_ = false;
    DirtyMap dirty_;
    UnflushedMap unflushed_;
    std::uint64_t flush_all_ = 0;
    std::uint64_t last_flush_all_ = 0;
    std::map<FileId, std::int64_t> times_;
};

}  // namespace safepair::replica
