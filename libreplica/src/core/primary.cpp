#include "core/primary.hpp"

#include <algorithm>
#include <cerrno>
#include <utility>

namespace safepair::replica {

namespace {

/// Files with nothing in flight whose list is kept, so that a steady writer allocates nothing.
constexpr std::size_t idle_lists_max = 256;
constexpr std::size_t metadata_files_max = 65536;

}  // namespace

bool Primary::has_room(std::size_t bytes) const noexcept {
    if (state_ == LeaderState::failed) {
        return true;
    }
    const auto busy = bytes_ + parked_bytes_;
    return used_ + parked_ < limits::in_flight_operations_max &&
           (busy == 0 || busy + bytes <= limits::in_flight_bytes_max);
}

void Primary::park(std::size_t bytes) noexcept {
    ++parked_;
    parked_bytes_ += bytes;
}

void Primary::unpark(std::size_t bytes) noexcept {
    --parked_;
    parked_bytes_ -= bytes;
}

Primary::Handle Primary::begin(Work work, Answers& answers) {
    Handle handle = none;
    if (free_.empty()) {
        handle = static_cast<Handle>(entries_.size());
        entries_.emplace_back();
    } else {
        handle = free_.back();
        free_.pop_back();
    }
    ++used_;
    auto& entry = entries_[handle];
    entry.work = work;
    entry.used = true;
    entry.answered = work.done.call == nullptr;
    entry.acknowledged = false;
    entry.held_failure = false;
    entry.error = 0;
    entry.sequence = 0;
    if (!entry.answered) {
        for (const auto& touch : entry.work.effects.all()) {
            by_file_[touch.file].push_back(handle);
        }
        if (state_ == LeaderState::failed) {
            answer(handle, EIO, answers);
        }
    }
    return handle;
}

std::uint64_t Primary::number(Handle handle, base::Instant now) {
    auto& entry = entries_[handle];
    const bool has_session = state_ == LeaderState::resyncing || state_ == LeaderState::settling ||
                             state_ == LeaderState::in_sync;
    if (!entry.work.ships || !has_session) {
        entry.work.ships = false;
        retire(handle);
        return 0;
    }
    by_sequence_.push_back(handle);
    entry.sequence = last_sequence();
    entry.numbered_at = now;
    bytes_ += entry.work.bytes;
    return entry.sequence;
}

void Primary::keep_here(Handle handle) noexcept {
    entries_[handle].work.ships = false;
    entries_[handle].work.waits_for_peer = false;
    entries_[handle].work.effects.local = true;
}

bool Primary::failed_here(Entry& entry, int error) {
    entry.error = entry.error != 0 ? entry.error : error;
    if (entry.work.waits_for_peer && state_ == LeaderState::in_sync) {
        entry.held_failure = true;
        return true;
    }
    return false;
}

bool Primary::local_done(Handle handle, int error, Answers& answers) {
    auto& entry = entries_[handle];
    entry.work.runs_here = false;
    bool failed = false;
    if (error != 0) {
        failed = failed_here(entry, error);
        if (entry.sequence == 0) {
            entry.work.ships = false;
        }
    }
    // A failed write may have changed a part; a failed change of names has changed nothing.
    if (error == 0 || !entry.work.effects.names) {
        if (state_ != LeaderState::in_sync || error != 0) {
            entry.work.effects.mark(dirty_);
        }
        note_metadata(entry.work.effects);
    }
    if (entry.acknowledged) {
        finished_on_both(entry);
    }
    try_answer(handle, answers);
    retire(handle);
    return failed;
}

bool Primary::flush_done(Handle handle, int error, Answers& answers) {
    auto& entry = entries_[handle];
    entry.work.flushes_here = false;
    const bool failed = error != 0 && failed_here(entry, error);
    if (error != 0) {
        entry.work.effects.mark(dirty_);
    }
    try_answer(handle, answers);
    retire(handle);
    return failed;
}

base::Result<void> Primary::acknowledge(const Acknowledgement& acknowledgement, Answers& answers) {
    const auto sequence = acknowledgement.sequence;
    if (sequence < first_sequence_ || sequence > last_sequence()) {
        return base::error(
            base::Errc::corrupt,
            "acknowledgement of " + std::to_string(sequence) + ", which is not in flight");
    }
    auto& slot = by_sequence_[sequence - first_sequence_];
    if (slot == none) {
        return base::error(base::Errc::corrupt,
                           "second acknowledgement of " + std::to_string(sequence));
    }
    const auto handle = slot;
    auto& entry = entries_[handle];
    if (entry.work.flushes_there && !acknowledgement.flushed) {
        return base::error(base::Errc::corrupt, "unflushed acknowledgement of a flush");
    }
    slot = none;
    while (!by_sequence_.empty() && by_sequence_.front() == none) {
        by_sequence_.pop_front();
        ++first_sequence_;
    }
    bytes_ -= entry.work.bytes;
    entry.acknowledged = true;
    entry.sequence = 0;
    entry.work.ships = false;
    if (!entry.work.runs_here) {
        finished_on_both(entry);
    }
    try_answer(handle, answers);
    retire(handle);
    return {};
}

/// The change is in both kernels; what is not on both disks is remembered until a flush of
/// everything.
void Primary::finished_on_both(const Entry& entry) {
    if (!entry.work.flushes_there) {
        entry.work.effects.mark(unflushed_.current());
    }
}

void Primary::note_metadata(const Effects& effects) {
    if (!effects.metadata || effects.local) {
        return;
    }
    ++metadata_clock_;
    for (const auto& touch : effects.all()) {
        metadata_[touch.file] = metadata_clock_;
    }
    if (metadata_.size() > metadata_files_max) {
        metadata_.clear();
        metadata_overflow_ = true;
    }
}

void Primary::try_answer(Handle handle, Answers& answers) {
    auto& entry = entries_[handle];
    if (!entry.used || entry.answered || entry.work.runs_here || entry.work.flushes_here ||
        entry.held_failure || !gate_open()) {
        return;
    }
    if (entry.work.waits_for_peer && !entry.acknowledged) {
        return;
    }
    answer(handle, entry.error, answers);
}

void Primary::answer(Handle handle, int error, Answers& answers) {
    auto& entry = entries_[handle];
    entry.answered = true;
    answers.push_back({entry.work.done, error});
    if (error == 0 && entry.work.flush_of) {
        metadata_flushed(*entry.work.flush_of, entry.work.metadata_mark);
    }
    for (const auto& touch : entry.work.effects.all()) {
        const auto found = by_file_.find(touch.file);
        auto& list = found->second;
        // The same file may be touched twice (a rename within one directory); each takes one away.
        const auto place = std::find(list.begin(), list.end(), handle);
        *place = list.back();
        list.pop_back();
        if (list.empty() && by_file_.size() > idle_lists_max) {
            by_file_.erase(found);
        }
    }
    for (const auto index : entry.fences) {
        if (--fences_[index].waits_for == 0) {
            free_fence(index, state_ == LeaderState::failed ? EIO : 0, answers);
        }
    }
    entry.fences.clear();
}

void Primary::free_fence(std::uint32_t index, int error, Answers& answers) {
    const auto done = fences_[index].done;
    free_fences_.push_back(index);
    if (gate_open() || state_ == LeaderState::failed) {
        answers.push_back({done, error});
    } else {
        gated_.push_back(done);
    }
}

/// Gives the slot back once nothing will be said about it any more.
void Primary::retire(Handle handle) {
    auto& entry = entries_[handle];
    if (!entry.used || !entry.answered || entry.work.runs_here || entry.work.flushes_here ||
        entry.work.ships) {
        return;
    }
    entry.used = false;
    free_.push_back(handle);
    --used_;
}

void Primary::fence(const Footprint& read, Completion done, Answers& answers) {
    if (state_ == LeaderState::failed) {
        answers.push_back({done, EIO});
        return;
    }
    std::uint32_t index = 0;
    std::size_t waits_for = 0;
    if (const auto found = by_file_.find(read.file); found != by_file_.end()) {
        for (const auto handle : found->second) {
            auto& entry = entries_[handle];
            const bool again =
                waits_for > 0 && !entry.fences.empty() && entry.fences.back() == index;
            if (again || !entry.work.effects.overlaps(read)) {
                continue;
            }
            if (waits_for == 0) {
                if (free_fences_.empty()) {
                    fences_.emplace_back();
                    index = static_cast<std::uint32_t>(fences_.size() - 1);
                } else {
                    index = free_fences_.back();
                    free_fences_.pop_back();
                }
            }
            entry.fences.push_back(index);
            ++waits_for;
        }
    }
    if (waits_for > 0) {
        fences_[index] = {done, waits_for};
    } else if (gate_open()) {
        answers.push_back({done, 0});
    } else {
        gated_.push_back(done);
    }
}

void Primary::answer_all_ready(Answers& answers) {
    if (!gate_open()) {
        return;
    }
    for (Handle handle = 0; handle < entries_.size(); ++handle) {
        if (entries_[handle].used) {
            try_answer(handle, answers);
            retire(handle);
        }
    }
    for (const auto& done : gated_) {
        answers.push_back({done, 0});
    }
    gated_.clear();
}

std::optional<base::Instant> Primary::oldest_unacknowledged() const {
    if (by_sequence_.empty()) {
        return std::nullopt;
    }
    return entries_[by_sequence_.front()].numbered_at;
}

bool Primary::is_stalled(base::Instant now, base::Duration patience) const noexcept {
    return state_ == LeaderState::in_sync &&
           std::any_of(entries_.begin(), entries_.end(), [&](const Entry& entry) {
               return entry.used && (entry.work.runs_here || entry.work.flushes_here) &&
                      now - entry.work.begun > patience;
           });
}

bool Primary::has_held_failure() const noexcept {
    return std::any_of(entries_.begin(), entries_.end(), [](const Entry& entry) {
        return entry.used && entry.held_failure;
    });
}

DirtyMap Primary::everything_uncertain() const {
    auto map = dirty_;
    auto unflushed = unflushed_;
    map.merge(unflushed.take());
    for (const auto& entry : entries_) {
        if (entry.used && (entry.work.ships || entry.work.runs_here || !entry.answered)) {
            entry.work.effects.mark(map);
        }
    }
    return map;
}

std::uint64_t Primary::begin_flush_all() {
    unflushed_.begin_flush();
    flush_all_ = ++last_flush_all_;
    return flush_all_;
}

void Primary::end_flush_all(std::uint64_t token, bool flushed) {
    if (token == flush_all_) {
        unflushed_.end_flush(flushed);
        flush_all_ = 0;
    }
}

bool Primary::has_unflushed_metadata(FileId file) const {
    return metadata_overflow_ || metadata_.count(file) != 0;
}

void Primary::metadata_flushed(FileId file, std::uint64_t mark) {
    if (file != root_file) {
        if (const auto found = metadata_.find(file);
            found != metadata_.end() && found->second <= mark) {
            metadata_.erase(found);
        }
        return;
    }
    metadata_overflow_ = false;
    std::erase_if(metadata_, [mark](const auto& item) { return item.second <= mark; });
}

void Primary::note_write_time(FileId file, std::int64_t time, base::Instant now) {
    if (time != 0) {
        times_[file] = {time, now};
    }
}

std::optional<std::int64_t> Primary::write_time(FileId file) const {
    const auto found = times_.find(file);
    return found == times_.end() ? std::nullopt : std::optional(found->second.time);
}

std::vector<FileId> Primary::idle_files(base::Instant now, base::Duration idle) const {
    std::vector<FileId> files;
    for (const auto& [file, last] : times_) {
        if (now - last.written >= idle) {
            files.push_back(file);
        }
    }
    return files;
}

}  // namespace safepair::replica
