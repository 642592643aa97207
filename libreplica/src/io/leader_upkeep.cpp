// What is due by the clock, and what waits for both nodes.
#include "io/leader.hpp"
#include "io/leader_session.hpp"

#include <safepair/base/system_time.hpp>

#include <cerrno>
#include <chrono>
#include <utility>

namespace safepair::replica {

namespace {

constexpr auto upkeep_pause = std::chrono::milliseconds(250);

base::Error session_gone() {
    return base::error(base::Errc::peer_unreachable, "the session is lost");
}

std::chrono::steady_clock::time_point steady_deadline(base::Duration patience) {
    return std::chrono::steady_clock::now() +
           std::chrono::duration_cast<std::chrono::steady_clock::duration>(patience);
}

}  // namespace

void Leader::run_upkeep() {
    std::unique_lock lock(upkeep_mutex_);
    while (!upkeep_ended_) {
        upkeep_wake_.wait_for(lock, upkeep_pause);
        if (upkeep_ended_) {
            return;
        }
        lock.unlock();
        upkeep();
        lock.lock();
    }
}

void Leader::upkeep() {
    const auto now = base::boot_time_now();
    refresh_space();
    reap_sessions(false);
    SessionPointer session;
    std::vector<FileId> idle;
    bool silent = false;
    bool quiet = false;
    {
        const std::lock_guard lock(mutex_);
        session = session_up_ ? session_ : nullptr;
        const auto oldest = core_.oldest_unacknowledged();
        silent = oldest && now - *oldest > limits::io_timeout;
        quiet = !oldest;
        if (core_.is_stalled(now, limits::io_timeout) && !std::exchange(stall_told_, true)) {
            events_.local_store_failed("the storage of this node does not finish an operation");
        }
        if (!core_.frozen()) {
            idle = core_.idle_files(now, limits::times_idle);
        }
    }
    if (session && silent) {
        lose(*session,
             "no acknowledgement for " +
                 std::to_string(
                     std::chrono::duration_cast<std::chrono::seconds>(limits::io_timeout).count()) +
                 " s",
             false,
             true);
        return;
    }
    if (session && quiet) {
        // What is in flight says that we live; and a socket that is full would keep this thread.
        if (const auto mine = store_.space()) {
            session->channel()->send_if_idle(FrameKind::heartbeat, encode_space(*mine));
        }
    }
    set_times_in_background(std::move(idle));
    if (session && now >= next_background_flush_) {
        next_background_flush_ = now + limits::background_flush;
        flush_in_background();
    }
}

/// On another thread: each is a record, and a full socket keeps whoever sends.
void Leader::set_times_in_background(std::vector<FileId> files) {
    const bool has_late = options_.faults.acknowledge_without_peer;
    if ((files.empty() && !has_late) || background_times_running_.exchange(true)) {
        return;
    }
    flushes_.post([this, files = std::move(files)] {
        for (const auto file : files) {
            sync_time(file);
        }
        ship_late(false);
        background_times_running_.store(false);
    });
}

/// R9: what is written leaves the account of what may differ only when both nodes have it on disk.
void Leader::flush_in_background() {
    SessionPointer session;
    {
        const std::lock_guard lock(mutex_);
        if (core_.state() != LeaderState::in_sync || !core_.has_unflushed() ||
            core_.flushing_all()) {
            return;
        }
        session = session_;
    }
    if (background_flush_running_.exchange(true)) {
        return;
    }
    flushes_.post([this, session] {
        [[maybe_unused]] const auto flushed = flush_everything(session);
        background_flush_running_.store(false);
    });
}

base::Result<void> Leader::flush_everything(const SessionPointer& session) {
    std::uint64_t token = 0;
    std::uint64_t metadata = 0;
    {
        std::unique_lock lock(mutex_);
        ++waiting_;
        progress_.wait(lock, [&] { return session_ != session || !core_.flushing_all(); });
        --waiting_;
        if (session_ != session || !session_up_) {
            return session_gone();
        }
        if (flush_failed_) {
            return base::error_from_errno(EIO, "an earlier flush failed on this node");
        }
        token = core_.begin_flush_all();
        metadata = core_.metadata_mark();
    }
    std::uint64_t sequence = 0;
    FlushRequest request;
    request.file = root_file;
    const bool sent = send_numbered(FrameKind::flush, encode_flush(request), {}, [&] {
        sequence = session_ == session ? number_record(frame_header_bytes, true) : 0;
        return sequence;
    });
    Operation flush;
    flush.kind = OperationKind::flush;
    flush.file = root_file;
    auto flushed = store_.apply(flush);
    const bool failed_here = !flushed;
    if (flushed) {
        flushed = sent ? wait_acknowledged(session, sequence) : session_gone();
    }
    {
        const std::lock_guard lock(mutex_);
        core_.end_flush_all(token, flushed.has_value());
        flush_failed_ = flush_failed_ || (failed_here && session_ == session);
        if (flushed) {
            core_.metadata_flushed(root_file, metadata);
        }
        notify_progress();
    }
    if (failed_here) {
        events_.local_store_failed(flushed.error().message());
    }
    return flushed;
}

base::Result<void> Leader::wait_acknowledged(const SessionPointer& session,
                                             std::uint64_t sequence) {
    std::unique_lock lock(mutex_);
    ++waiting_;
    progress_.wait(
        lock, [&] { return session_ != session || core_.acknowledged_sequence() >= sequence; });
    --waiting_;
    if (session_ != session) {
        return session_gone();
    }
    return {};
}

base::Result<std::uint64_t> Leader::quiesce(base::Duration deadline) {
    const auto until = steady_deadline(deadline);
    const auto too_late = [] {
        return base::error(base::Errc::timed_out, "what is in flight did not finish in time");
    };
    SessionPointer session;
    std::vector<FileId> files;
    {
        const std::lock_guard lock(mutex_);
        if (core_.state() != LeaderState::in_sync) {
            return base::error(base::Errc::peer_unreachable, "the follower is not in sync");
        }
        session = session_;
        files = core_.idle_files(base::Instant::max(), base::Duration{});
    }
    // Times first: they are operations like any other.
    for (const auto file : files) {
        sync_time(file);
    }
    {
        std::unique_lock lock(mutex_);
        ++waiting_;
        const bool drained =
            progress_.wait_until(lock, until, [&] { return session_ != session || core_.idle(); });
        --waiting_;
        if (!drained) {
            return too_late();
        }
    }
    ship_late(true);
    SAFEPAIR_CHECK(flush_everything(session));
    const std::lock_guard lock(mutex_);
    if (session_ != session) {
        return session_gone();
    }
    if (!core_.idle() || core_.has_unflushed()) {
        return base::error(base::Errc::busy, "something is still written to the folder");
    }
    return core_.last_sequence();
}

}  // namespace safepair::replica
