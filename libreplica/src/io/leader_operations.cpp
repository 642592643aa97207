// How one operation goes: its turn, its record, its effect here, its answer.
#include "io/leader.hpp"
#include "io/leader_session.hpp"

#include <safepair/base/system_time.hpp>

#include <algorithm>
#include <cerrno>
#include <utility>

#include <linux/falloc.h>

namespace safepair::replica {

namespace {

/// File systems differ in the largest file they keep; above this a write is tried here before it is
/// sent.
constexpr std::uint64_t surely_possible_bytes = std::uint64_t{1} << 40U;
/// While more than this is free nobody counts exactly.
constexpr std::int64_t plenty_bytes = 256 * 1024 * 1024;
/// Besides the data, in the account of what is in flight.
constexpr std::size_t record_overhead_bytes = 128;
constexpr base::Duration late_by = std::chrono::seconds(1);
constexpr std::size_t late_max = 1024;

/// The storage is broken, as opposed to an operation that no node would carry out.
bool is_storage_failure(int error) {
    switch (error) {
        case EIO:
        case EROFS:
        case ENXIO:
        case ENODEV:
        case EUCLEAN:
        case EBADF:
        case ENOMEM:
        case EMFILE:
        case ENFILE:
        case ESHUTDOWN:
        case EREMOTEIO:
        case ETIMEDOUT:
        case ENOTCONN:
            return true;
        default:
            return false;
    }
}

bool is_about_names(OperationKind kind) {
    switch (kind) {
        case OperationKind::create:
        case OperationKind::link:
        case OperationKind::rename:
        case OperationKind::unlink:
        case OperationKind::rmdir:
            return true;
        case OperationKind::write:
        case OperationKind::allocate:
        case OperationKind::set_attributes:
        case OperationKind::set_xattr:
        case OperationKind::remove_xattr:
        case OperationKind::flush:
            return false;
    }
    return false;
}

bool takes_space(const Operation& operation) {
    switch (operation.kind) {
        case OperationKind::write:
        case OperationKind::create:
        case OperationKind::link:
        case OperationKind::set_xattr:
            return true;
        case OperationKind::allocate:
            return (operation.flags & FALLOC_FL_PUNCH_HOLE) == 0;
        case OperationKind::set_attributes:
        case OperationKind::rename:
        case OperationKind::unlink:
        case OperationKind::rmdir:
        case OperationKind::remove_xattr:
        case OperationKind::flush:
            return false;
    }
    return false;
}

/// What has to be flushed for `operation` to be durable.
FileId flushed_by(const Operation& operation) {
    return is_about_names(operation.kind) ? operation.parent : operation.file;
}

constexpr auto sets_time = attribute::modified | attribute::size;

}  // namespace

void Leader::submit(const Operation& operation, Completion done) {
    if (const int error = check_limits(operation); error != 0) {
        done(error);
        return;
    }
    if (operation.kind == OperationKind::flush) {
        submit_flush(operation, done);
        return;
    }
    request_and_carry_out(operation, done);
}

void Leader::request_and_carry_out(const Operation& operation, Completion done) {
    auto claims = claims_of(operation);
    Ticket ticket = 0;
    {
        std::unique_lock lock(mutex_);
        if (done.call == nullptr && !core_.has_room(0)) {
            // Our own: it is tried again, and must not keep the thread that looks at the clock.
            return;
        }
        if (!core_.has_room(operation.data.size())) {
            ++waiting_;
            progress_.wait(lock, [&] { return core_.has_room(operation.data.size()); });
            --waiting_;
        }
        ticket = ++last_ticket_;
        if (!locks_.request(ticket, std::move(claims))) {
            core_.park(operation.data.size());
            parked_.emplace(ticket, Parked{OwnedOperation(operation), done});
            return;
        }
    }
    carry_out(ticket, operation, done);
}

void Leader::carry_out(Ticket ticket, const Operation& operation, Completion done) {
    if (done.call == nullptr) {
        // Our own: the time to set is that of the last write before its turn came.
        Operation timed = operation;
        {
            const std::lock_guard lock(mutex_);
            const auto time = core_.write_time(operation.file);
            if (!time || core_.state() == LeaderState::failed) {
                release_ticket(ticket);
                return;
            }
            timed.attributes.modified = *time;
        }
        carry_out_planned(ticket, timed, plan(timed), done);
        return;
    }
    const auto how = plan(operation);
    if (how.durable == operation.durable) {
        carry_out_planned(ticket, operation, how, done);
        return;
    }
    Operation changed = operation;
    changed.durable = how.durable;
    carry_out_planned(ticket, changed, how, done);
}

/// Writes are sent before they are tried, so what no store would do must be known before.
int Leader::refusal_of(const Operation& operation) {
    if (operation.kind != OperationKind::write) {
        return store_.knows(operation.file) ? 0 : ENOENT;
    }
    const auto attributes = store_.attributes(operation.file);
    if (!attributes) {
        return errno_of(attributes.error());
    }
    switch (attributes->type) {
        case NodeType::file:
            return 0;
        case NodeType::directory:
            return EISDIR;
        case NodeType::symlink:
        case NodeType::fifo:
        case NodeType::socket:
        case NodeType::character_device:
        case NodeType::block_device:
            return EINVAL;
    }
    return EINVAL;
}

Leader::Plan Leader::plan(const Operation& operation) {
    Plan how;
    if (!is_about_names(operation.kind)) {
        how.refused = refusal_of(operation);
        if (how.refused != 0) {
            return how;
        }
        how.orphan = store_.is_orphan(operation.file);
    }
    const auto end = operation.offset + operation.data.size();
    if (end < operation.offset) {
        how.refused = EFBIG;
        return how;
    }
    if (takes_space(operation) && is_full_for(operation)) {
        how.refused = ENOSPC;
        return how;
    }
    how.effects = effects_of(operation, look_before(operation));
    how.effects.local = how.orphan;
    const bool is_data =
        operation.kind == OperationKind::write || operation.kind == OperationKind::allocate;
    how.durable = operation.durable || (is_data && options_.durability == Durability::every_write);
    how.ships_first = operation.kind == OperationKind::write && end <= surely_possible_bytes;
    return how;
}

Before Leader::look_before(const Operation& operation) {
    Before before;
    const auto child = [this](FileId parent, const std::string& name) -> std::optional<FileId> {
        const auto found = store_.lookup(parent, name);
        return found ? std::optional(*found) : std::nullopt;
    };
    switch (operation.kind) {
        case OperationKind::set_attributes:
            if ((operation.valid & attribute::size) == 0) {
                break;
            }
            [[fallthrough]];
        case OperationKind::allocate:
            if (const auto found = store_.attributes(operation.file)) {
                before.size = found->size;
            }
            break;
        case OperationKind::rename:
            before.replaced = child(operation.new_parent, operation.new_name);
            [[fallthrough]];
        case OperationKind::unlink:
        case OperationKind::rmdir:
            before.target = child(operation.parent, operation.name);
            break;
        case OperationKind::write:
        case OperationKind::create:
        case OperationKind::link:
        case OperationKind::set_xattr:
        case OperationKind::remove_xattr:
        case OperationKind::flush:
            break;
    }
    return before;
}

void Leader::carry_out_planned(Ticket ticket,
                               const Operation& operation,
                               const Plan& how,
                               Completion done) {
    Primary::Answers answers;
    Primary::Handle handle = 0;
    bool ships = false;
    bool late = false;
    bool refused = false;
    {
        const std::lock_guard lock(mutex_);
        refused = how.refused != 0 || core_.state() == LeaderState::failed;
        const bool replicated = !refused && !how.orphan && core_.attached();
        late = replicated && options_.faults.acknowledge_without_peer &&
               core_.state() == LeaderState::in_sync;
        ships = replicated && !late;
        Primary::Work work;
        work.effects = how.effects;
        work.done = done;
        work.bytes = operation.data.size() + record_overhead_bytes;
        work.begun = base::boot_time_now();
        work.ships = ships;
        work.waits_for_peer = ships && core_.promises();
        work.flushes_here = how.durable && !refused;
        work.flushes_there = ships && how.durable;
        handle = core_.begin(work, answers);
        if (refused) {
            core_.keep_here(handle);
            [[maybe_unused]] const bool held = core_.local_done(handle, how.refused, answers);
            if (done.call == nullptr) {
                core_.forget_write_time(operation.file);
            }
            release_ticket(ticket);
            notify_progress();
        }
    }
    deliver(answers);
    if (refused) {
        return;
    }

    const auto fields = ships ? encode_operation(operation) : std::vector<std::byte>{};
    if (ships && how.ships_first) {
        ship(handle, FrameKind::operation, fields, operation.data);
    }
    base::Result<void> result;
    if (operation.durable) {
        // Flushed apart, so that a slow disk keeps neither this thread nor the turn.
        Operation quick = operation;
        quick.durable = false;
        result = store_.apply(quick);
    } else {
        result = store_.apply(operation);
    }
    const int error = errno_of(result);
    if (ships && !how.ships_first && error == 0) {
        ship(handle, FrameKind::operation, fields, operation.data);
    }
    if (late && error == 0) {
        fault_late(operation, how.effects);
    }
    if (operation.durable && error == 0) {
        Operation flush;
        flush.kind = OperationKind::flush;
        flush.file = flushed_by(operation);
        flush.flags = operation.kind == OperationKind::write ? 1 : 0;
        flush_locally(handle, flush);
    }
    Outcome outcome;
    outcome.error = error;
    outcome.replicated = ships;
    const bool is_write = operation.kind == OperationKind::write;
    outcome.changed_nothing =
        error != 0 && !is_storage_failure(error) && (!is_write || (ships && !how.ships_first));
    if (is_write && outcome.changed_nothing && outcome_is_partial(operation)) {
        // Only the follower can be made equal again, by a resync.
        outcome.changed_nothing = false;
        lose_session("a write was carried out in part: " + result.error().message());
    }
    finish_operation(ticket, handle, operation, outcome);
}

/// A write at the limit of the file system may leave its first half.
bool Leader::outcome_is_partial(const Operation& operation) {
    const auto attributes = store_.attributes(operation.file);
    return attributes && attributes->size > operation.offset;
}

void Leader::finish_operation(Ticket ticket,
                              Primary::Handle handle,
                              const Operation& operation,
                              const Outcome& outcome) {
    const int error = outcome.error;
    Primary::Answers answers;
    bool failed = false;
    {
        const std::lock_guard lock(mutex_);
        if (operation.kind == OperationKind::write || operation.kind == OperationKind::allocate) {
            if (outcome.replicated && core_.attached()) {
                core_.note_write_time(operation.file, operation.time, base::boot_time_now());
            }
        } else if (operation.kind == OperationKind::set_attributes &&
                   (operation.valid & sets_time) != 0 && (error == 0 || error == ENOENT)) {
            core_.forget_write_time(operation.file);
        }
        if (outcome.changed_nothing) {
            core_.keep_here(handle);
        }
        if (error != 0 && operation.durable) {
            [[maybe_unused]] const bool held = core_.flush_done(handle, 0, answers);
        }
        failed = core_.local_done(handle, error, answers);
        release_ticket(ticket);
        notify_progress();
    }
    if (failed) {
        events_.local_store_failed(
            base::error_from_errno(error, store_.path_of(operation.file)).message());
    }
    deliver(answers);
}

bool Leader::ship(Primary::Handle handle,
                  FrameKind kind,
                  std::span<const std::byte> fields,
                  std::span<const std::byte> data) {
    // The book knows by itself when the session that the entry was for is gone.
    return send_numbered(
        kind, fields, data, [this, handle] { return core_.number(handle, base::boot_time_now()); });
}

bool Leader::send_numbered(FrameKind kind,
                           std::span<const std::byte> fields,
                           std::span<const std::byte> data,
                           const std::function<std::uint64_t()>& number) {
    const auto checksum = record_checksum(fields, data);
    SessionPointer session;
    {
        const std::lock_guard lock(mutex_);
        session = session_up_ ? session_ : nullptr;
    }
    if (!session) {
        return false;
    }
    base::Result<void> sent;
    {
        RecordChannel::Turn turn(*session->channel());
        std::uint64_t sequence = 0;
        {
            const std::lock_guard lock(mutex_);
            sequence = session_ == session ? number() : 0;
        }
        if (sequence == 0) {
            return false;
        }
        sent = turn.send(kind, sequence, fields, data, checksum);
    }
    if (!sent) {
        lose(*session, sent.error().message(), false, true);
    }
    return sent.has_value();
}

// Flushes

void Leader::submit_flush(const Operation& operation, Completion done) {
    const bool orphan = operation.file != root_file && store_.is_orphan(operation.file);
    if ((operation.flags & 1U) == 0 && operation.file != root_file && !orphan) {
        sync_time(operation.file);
    }
    Primary::Answers answers;
    Primary::Handle handle = 0;
    bool ships = false;
    bool nothing_to_do = false;
    {
        std::unique_lock lock(mutex_);
        if (!core_.has_room(0)) {
            ++waiting_;
            progress_.wait(lock, [&] { return core_.has_room(0); });
            --waiting_;
        }
        // R15: each write was flushed before it was answered.
        nothing_to_do = options_.durability == Durability::every_write &&
                        operation.file != root_file &&
                        !core_.has_unflushed_metadata(operation.file);
        nothing_to_do = nothing_to_do || core_.state() == LeaderState::failed;
        ships = core_.attached() && core_.promises() && !orphan && !nothing_to_do &&
                !options_.faults.acknowledge_without_peer;
        Primary::Work work;
        work.done = done;
        work.bytes = record_overhead_bytes;
        work.begun = base::boot_time_now();
        work.ships = ships;
        work.waits_for_peer = ships;
        work.runs_here = nothing_to_do;
        work.flushes_here = !nothing_to_do;
        work.flushes_there = ships && options_.durability != Durability::received;
        work.flush_of = operation.file;
        work.metadata_mark = nothing_to_do ? 0 : core_.metadata_mark();
        handle = core_.begin(work, answers);
        if (nothing_to_do) {
            [[maybe_unused]] const bool held = core_.local_done(handle, 0, answers);
        }
    }
    deliver(answers);
    if (nothing_to_do) {
        return;
    }
    if (ships) {
        FlushRequest request;
        request.file = operation.file;
        request.data_only = (operation.flags & 1U) != 0;
        request.answer_on_receipt = options_.durability == Durability::received;
        ship(handle, FrameKind::flush, encode_flush(request), {});
    }
    Operation flush;
    flush.kind = OperationKind::flush;
    flush.file = operation.file;
    flush.flags = operation.flags & 1U;
    flush_locally(handle, flush);
}

void Leader::flush_locally(Primary::Handle handle, const Operation& flush) {
    flushes_.post([this, handle, flush] {
        const auto result = store_.apply(flush);
        // A file that went meanwhile has nothing left to keep.
        const int error = errno_of(result) == ENOENT ? 0 : errno_of(result);
        Primary::Answers answers;
        bool failed = false;
        {
            const std::lock_guard lock(mutex_);
            if (error != 0) {
                // Which pages were lost is not known.
                DirtyMap lost;
                lost.mark_whole(flush.file);
                core_.merge_dirty(lost);
            }
            failed = core_.flush_done(handle, error, answers);
            notify_progress();
        }
        if (failed) {
            events_.local_store_failed(result.error().message());
        }
        deliver(answers);
    });
}

// Times

void Leader::sync_time(FileId file) {
    {
        const std::lock_guard lock(mutex_);
        if (!core_.write_time(file)) {
            return;
        }
    }
    Operation operation;
    operation.kind = OperationKind::set_attributes;
    operation.file = file;
    operation.valid = attribute::modified;
    request_and_carry_out(operation, {});
}

// Space

std::uint64_t Leader::free_bytes() {
    const auto bytes = [](const Space& space) {
        const auto unit = std::max<std::uint64_t>(space.block_bytes, 1);
        return std::min(space.blocks_available, static_cast<std::uint64_t>(INT64_MAX) / unit) *
               unit;
    };
    std::uint64_t least = INT64_MAX;
    if (const auto mine = store_.space()) {
        least = bytes(*mine);
    }
    const std::lock_guard lock(mutex_);
    return peer_space_ ? std::min(least, bytes(*peer_space_)) : least;
}

void Leader::refresh_space() {
    free_estimate_.store(static_cast<std::int64_t>(free_bytes()), std::memory_order_relaxed);
}

/// R13: told early, while there still is room for what has to be recorded.
bool Leader::is_full_for(const Operation& operation) {
    const auto bytes = static_cast<std::int64_t>(
        std::min<std::uint64_t>(operation.data.size() + operation.length, INT64_MAX / 2));
    const auto left = free_estimate_.fetch_sub(bytes, std::memory_order_relaxed) - bytes;
    constexpr auto least = static_cast<std::int64_t>(limits::free_bytes_min);
    if (left > plenty_bytes) {
        return false;
    }
    refresh_space();
    if (free_estimate_.load(std::memory_order_relaxed) - bytes >= least) {
        return false;
    }
    if (operation.kind != OperationKind::write) {
        return true;
    }
    // What overwrites blocks that the file has takes no space.
    const auto end = operation.offset + operation.data.size();
    if (const auto found = store_.attributes(operation.file);
        found && end <= found->size && found->blocks * 512 >= found->size) {
        return false;
    }
    const auto extents =
        store_.data_extents(operation.file, operation.offset, operation.data.size());
    return !extents || extents->size() != 1 || extents->front().offset != operation.offset ||
           extents->front().length != operation.data.size();
}

// The fault that tests look for

void Leader::fault_late(const Operation& operation, const Effects& effects) {
    bool all = false;
    {
        const std::lock_guard lock(mutex_);
        late_.push_back({OwnedOperation(operation), base::boot_time_now() + late_by});
        core_.mark_unflushed(effects);
        all = late_.size() > late_max;
    }
    if (all) {
        ship_late(true);
    }
}

void Leader::ship_late(bool all) {
    for (;;) {
        std::optional<Late> next;
        {
            const std::lock_guard lock(mutex_);
            if (late_.empty() || !session_up_ ||
                (!all && base::boot_time_now() < late_.front().due)) {
                return;
            }
            next.emplace(std::move(late_.front()));
            late_.pop_front();
        }
        const auto& operation = next->operation.get();
        send_numbered(FrameKind::operation, encode_operation(operation), operation.data, [this] {
            return number_record(record_overhead_bytes, false);
        });
    }
}

}  // namespace safepair::replica
