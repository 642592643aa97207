#include "io/leader.hpp"

#include "io/leader_session.hpp"

#include <safepair/base/system_time.hpp>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <utility>

namespace safepair::replica {

namespace {

/// Flushes at a time: enough for the journal of a file system to write many of them at once.
constexpr std::size_t flush_threads_max = 8;

}  // namespace

int errno_of(const base::Error& error) noexcept {
    const auto& code = error.code;
    return code.category() == std::generic_category() && code.value() > 0 ? code.value() : EIO;
}

int errno_of(const base::Result<void>& result) noexcept {
    return result ? 0 : errno_of(result.error());
}

Leader::Leader(LeaderOptions options, Store& store, DirtyMap dirty, EventQueue& events)
    : options_(std::move(options)),
      store_(store),
      events_(events),
      core_(std::move(dirty)),
      flushes_(flush_threads_max) {
    refresh_space();
    next_background_flush_ = base::boot_time_now() + limits::background_flush;
    runner_ = std::thread([this] { run_parked(); });
    upkeep_ = std::thread([this] { run_upkeep(); });
}

Leader::~Leader() { stop(); }

void Leader::stop() {
    fail();
    {
        const std::lock_guard lock(mutex_);
        stopping_ = true;
        ready_changed_.notify_all();
    }
    {
        const std::lock_guard lock(upkeep_mutex_);
        upkeep_ended_ = true;
    }
    upkeep_wake_.notify_all();
    if (upkeep_.joinable()) {
        upkeep_.join();
    }
    reap_sessions(true);
    if (runner_.joinable()) {
        runner_.join();
    }
    flushes_.finish();
}

void Leader::deliver(Primary::Answers& answers) {
    for (const auto& answer : answers) {
        answer.done(answer.error);
    }
    answers.clear();
}

void Leader::notify_progress() {
    if (waiting_ > 0) {
        progress_.notify_all();
    }
}

void Leader::fence(const Footprint& footprint, Completion done) {
    Primary::Answers answers;
    {
        const std::lock_guard lock(mutex_);
        core_.fence(footprint, done, answers);
    }
    deliver(answers);
}

base::Result<Space> Leader::space() {
    SAFEPAIR_TRY(const auto mine, store_.space());
    std::optional<Space> theirs;
    {
        const std::lock_guard lock(mutex_);
        theirs = peer_space_;
    }
    if (!theirs || theirs->block_bytes == 0) {
        return mine;
    }
    // In blocks of this node, so that the application sees one size of block.
    const auto convert = [&](std::uint64_t blocks) {
        const auto most = UINT64_MAX / theirs->block_bytes;
        return std::min(blocks, most) * theirs->block_bytes /
               std::max<std::uint64_t>(mine.block_bytes, 1);
    };
    Space smaller = mine;
    smaller.blocks = std::min(mine.blocks, convert(theirs->blocks));
    smaller.blocks_free = std::min(mine.blocks_free, convert(theirs->blocks_free));
    smaller.blocks_available = std::min(mine.blocks_available, convert(theirs->blocks_available));
    smaller.files = std::min(mine.files, theirs->files);
    smaller.files_free = std::min(mine.files_free, theirs->files_free);
    return smaller;
}

void Leader::closed(FileId file) noexcept { sync_time(file); }

// Turns

void Leader::release_ticket(Ticket ticket) {
    std::vector<Ticket> granted;
    locks_.release(ticket, granted);
    for (const auto next : granted) {
        if (parked_.count(next) != 0) {
            ready_.push_back(next);
            ready_changed_.notify_one();
        } else {
            granted_.push_back(next);
        }
    }
    if (!granted.empty()) {
        notify_progress();
    }
}

bool Leader::wait_for_ticket(Ticket ticket,
                             std::vector<Claim> claims,
                             const LeaderSession* session) {
    std::unique_lock lock(mutex_);
    if (locks_.request(ticket, std::move(claims))) {
        return true;
    }
    ++waiting_;
    for (;;) {
        const auto found = std::find(granted_.begin(), granted_.end(), ticket);
        if (found != granted_.end()) {
            granted_.erase(found);
            --waiting_;
            return true;
        }
        if (stopping_ || (session != nullptr && session->cancelled())) {
            release_ticket(ticket);
            --waiting_;
            return false;
        }
        progress_.wait(lock);
    }
}

void Leader::run_parked() {
    std::unique_lock lock(mutex_);
    for (;;) {
        ready_changed_.wait(lock,
                            [this] { return !ready_.empty() || (stopping_ && parked_.empty()); });
        if (ready_.empty()) {
            return;
        }
        const auto ticket = ready_.front();
        ready_.pop_front();
        auto node = parked_.extract(ticket);
        auto& parked = node.mapped();
        core_.unpark(parked.operation.get().data.size());
        lock.unlock();
        carry_out(ticket, parked.operation.get(), parked.done);
        lock.lock();
    }
}

// Orders of the owner

void Leader::release_held() {
    Primary::Answers answers;
    {
        const std::lock_guard lock(mutex_);
        core_.release_held(answers);
        notify_progress();
    }
    deliver(answers);
}

void Leader::freeze() {
    const std::lock_guard lock(mutex_);
    if (core_.state() == LeaderState::failed || core_.frozen()) {
        return;
    }
    core_.freeze();
    // New operations queue behind it, granted or not.
    freezing_ = ++last_ticket_;
    [[maybe_unused]] const bool granted =
        locks_.request(*freezing_, {{Claim::Kind::everything, {}, 0, 0}});
}

void Leader::thaw() {
    Primary::Answers answers;
    {
        const std::lock_guard lock(mutex_);
        core_.thaw(answers);
        if (const auto ticket = std::exchange(freezing_, std::nullopt)) {
            std::erase(granted_, *ticket);
            release_ticket(*ticket);
        }
        notify_progress();
    }
    deliver(answers);
}

void Leader::fail() {
    SessionPointer session;
    {
        const std::lock_guard lock(mutex_);
        session = session_;
    }
    if (session) {
        lose(*session, "given up", false, false);
    }
    Primary::Answers answers;
    {
        const std::lock_guard lock(mutex_);
        core_.fail(answers);
        if (const auto ticket = std::exchange(freezing_, std::nullopt)) {
            std::erase(granted_, *ticket);
            release_ticket(*ticket);
        }
        notify_progress();
    }
    deliver(answers);
}

// Sessions

void Leader::connect(SessionId id, std::uint64_t term, const DataEndpoint& peer, SyncMode mode) {
    SessionPointer old;
    const auto fresh = std::make_shared<LeaderSession>(*this, id, term, peer, mode);
    {
        const std::lock_guard lock(mutex_);
        old = session_;
    }
    if (old) {
        lose(*old, "replaced by another session", false, false);
    }
    {
        const std::lock_guard lock(mutex_);
        if (core_.state() == LeaderState::failed || stopping_) {
            events_.session_lost(id, "this node no longer serves the folder", false);
            return;
        }
        session_ = fresh;
        session_up_ = false;
    }
    fresh->start();
}

void Leader::drop(SessionId id) {
    SessionPointer session;
    {
        const std::lock_guard lock(mutex_);
        session = session_;
    }
    if (session && session->id() == id) {
        lose(*session, "dropped", false, false);
    }
}

void Leader::lose(const LeaderSession& session,
                  const std::string& why,
                  bool apply_failed,
                  bool tell) {
    Primary::Answers answers;
    std::map<std::uint64_t, ResyncLink::Answer> questions;
    SessionPointer lost;
    {
        const std::lock_guard lock(mutex_);
        if (session_.get() != &session) {
            return;
        }
        lost = std::exchange(session_, nullptr);
        if (const auto channel = lost->channel()) {
            sent_before_ += channel->sent_bytes();
        }
        if (std::exchange(session_up_, false)) {
            late_.clear();
            core_.session_lost(answers);
        }
        flush_failed_ = false;
        stall_told_ = false;
        peer_space_.reset();
        if (tell) {
            events_.session_lost(lost->id(), why, apply_failed);
        }
        questions.swap(lost->questions_);
        ended_sessions_.push_back(lost);
        lost->end();
        progress_.notify_all();
    }
    deliver(answers);
    for (auto& [sequence, answer] : questions) {
        answer(base::error(base::Errc::peer_unreachable, "the session was lost: " + why));
    }
}

void Leader::lose_session(const std::string& why) {
    SessionPointer session;
    {
        const std::lock_guard lock(mutex_);
        session = session_;
    }
    if (session) {
        lose(*session, why, false, true);
    }
}

std::uint64_t Leader::number_record(std::size_t bytes, bool flushes_there) {
    if (!session_up_) {
        return 0;
    }
    Primary::Work work;
    work.bytes = bytes;
    work.ships = true;
    work.runs_here = false;
    work.flushes_there = flushes_there;
    Primary::Answers nobody;
    return core_.number(core_.begin(work, nobody), base::boot_time_now());
}

void Leader::reap_sessions(bool all) {
    std::vector<SessionPointer> ended;
    {
        const std::lock_guard lock(mutex_);
        auto& sessions = ended_sessions_;
        const auto first =
            std::partition(sessions.begin(), sessions.end(), [all](const SessionPointer& one) {
                return !all && !one->has_ended_threads();
            });
        ended.assign(first, sessions.end());
        sessions.erase(first, sessions.end());
    }
    for (const auto& session : ended) {
        session->join();
    }
}

base::Result<void> Leader::finish_resync(SessionId id) {
    const std::lock_guard lock(mutex_);
    if (!session_ || session_->id() != id || core_.state() != LeaderState::in_sync) {
        return base::error(base::Errc::peer_unreachable, "the session is lost");
    }
    core_.finish_resync();
    if (core_.has_held_failure() || flush_failed_) {
        // Told before when nobody could have acted on it yet.
        events_.local_store_failed("an earlier operation failed here");
    }
    return {};
}

DirtyMap Leader::uncertain() const {
    const std::lock_guard lock(mutex_);
    return core_.everything_uncertain();
}

DirtyMap Leader::dirty() const {
    const std::lock_guard lock(mutex_);
    return core_.dirty();
}

void Leader::add_stats(FolderStats& stats) const {
    const std::lock_guard lock(mutex_);
    stats.dirty_bytes = core_.dirty().bytes();
    stats.in_flight_bytes = core_.bytes_in_flight();
    stats.applied_sequence = core_.acknowledged_sequence();
    stats.sent_bytes = sent_before_;
    stats.last_resync_copied_bytes = last_resync_.copied_bytes;
    stats.last_resync_changed_bytes = last_resync_.changed_bytes;
    if (session_) {
        if (const auto channel = session_->channel()) {
            stats.sent_bytes += channel->sent_bytes();
        }
        stats.progress = session_->progress();
    }
}

}  // namespace safepair::replica
