// The leader's states: how a follower comes, is waited for, and goes.
#include "core/primary.hpp"

#include <cerrno>
#include <utility>

namespace safepair::replica {

void Primary::session_up() {
    SAFEPAIR_ASSERT(state_ == LeaderState::alone && by_sequence_.empty(),
                    "one session at a time, begun while nobody waits for a follower");
    state_ = LeaderState::resyncing;
    attached_ = false;
    first_sequence_ = 1;
}

DirtyMap Primary::attach() {
    SAFEPAIR_ASSERT(state_ == LeaderState::resyncing, "a follower is attached once, by its resync");
    attached_ = true;
    return dirty_;
}

void Primary::settle() {
    SAFEPAIR_ASSERT(state_ == LeaderState::resyncing && attached_, "settling ends a resync");
    state_ = LeaderState::settling;
}

bool Primary::settled() const noexcept {
    for (const auto& entry : entries_) {
        if (entry.used && entry.work.ships && !entry.work.waits_for_peer) {
            return false;
        }
    }
    return true;
}

void Primary::become_in_sync() {
    SAFEPAIR_ASSERT(state_ == LeaderState::settling, "in sync only after everything settled");
    state_ = LeaderState::in_sync;
}

void Primary::session_lost(Answers& answers) {
    for (Handle handle = 0; handle < entries_.size(); ++handle) {
        auto& entry = entries_[handle];
        if (!entry.used) {
            continue;
        }
        if (entry.work.ships || !entry.answered) {
            entry.work.effects.mark(dirty_);
        }
        entry.work.ships = false;
        entry.sequence = 0;
        retire(handle);
    }
    by_sequence_.clear();
    first_sequence_ = 1;
    bytes_ = 0;
    dirty_.merge(unflushed_.take());
    flush_all_ = 0;
    times_.clear();
    attached_ = false;
    switch (state_) {
        case LeaderState::in_sync:
            state_ = LeaderState::holding;
            return;
        case LeaderState::resyncing:
        case LeaderState::settling:
            state_ = LeaderState::alone;
            stop_waiting_for_peer();
            answer_all_ready(answers);
            return;
        case LeaderState::alone:
        case LeaderState::holding:
        case LeaderState::failed:
            return;
    }
}

void Primary::stop_waiting_for_peer() {
    for (auto& entry : entries_) {
        entry.work.waits_for_peer = false;
        entry.held_failure = false;
    }
}

void Primary::release_held(Answers& answers) {
    if (state_ != LeaderState::holding) {
        return;
    }
    state_ = LeaderState::alone;
    stop_waiting_for_peer();
    answer_all_ready(answers);
}

void Primary::fail(Answers& answers) {
    session_lost(answers);
    state_ = LeaderState::failed;
    frozen_ = false;
    stop_waiting_for_peer();
    for (Handle handle = 0; handle < entries_.size(); ++handle) {
        if (entries_[handle].used && !entries_[handle].answered) {
            answer(handle, EIO, answers);
            retire(handle);
        }
    }
    for (const auto& done : gated_) {
        answers.push_back({done, EIO});
    }
    gated_.clear();
}

void Primary::thaw(Answers& answers) {
    frozen_ = false;
    answer_all_ready(answers);
}

}  // namespace safepair::replica
