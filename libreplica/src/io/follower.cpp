#include "io/follower.hpp"

#include "io/follower_session.hpp"

#include <cerrno>
#include <chrono>
#include <utility>

namespace safepair::replica {

namespace {

constexpr auto heartbeat_pause = std::chrono::milliseconds(500);
constexpr std::size_t flush_threads_max = 8;

}  // namespace

Follower::Follower(Store& store, DirtyMap dirty, EventQueue& events, MakeResponder make_responder)
    : store_(store),
      events_(events),
      make_responder_(std::move(make_responder)),
      core_(std::move(dirty)),
      flushes_(flush_threads_max) {
    upkeep_ = std::thread([this] { run_upkeep(); });
}

Follower::~Follower() { stop(); }

void Follower::submit(const Operation&, Completion done) { done(EROFS); }

void Follower::fence(const Footprint&, Completion done) { done(0); }

void Follower::let_go() {
    if (session_) {
        session_->end();
        session_.reset();
    }
}

void Follower::expect(SessionId session, std::uint64_t term) {
    const std::lock_guard lock(mutex_);
    if (session_ && session_->id() == session) {
        return;
    }
    let_go();
    if (!stopped_) {
        expected_ = Expected{session, term};
    }
}

bool Follower::accept(const ChannelHello& hello, base::UniqueFd connection) {
    const std::lock_guard lock(mutex_);
    if (stopped_ || !expected_ || hello.session != expected_->session ||
        hello.term != expected_->term) {
        return false;
    }
    // Used once, also when the connection is lost at once (R2).
    expected_.reset();
    session_ = std::make_shared<FollowerSession>(
        *this, hello.session, hello.term, std::move(connection), std::exchange(last_, nullptr));
    last_ = session_;
    session_->start();
    return true;
}

void Follower::drop(SessionId session) {
    const std::lock_guard lock(mutex_);
    if (expected_ && expected_->session == session) {
        expected_.reset();
    }
    if (session_ && session_->id() == session) {
        let_go();
    }
}

bool Follower::verify_applied(SessionId session, std::uint64_t sequence) {
    {
        const std::lock_guard lock(mutex_);
        if (!core_.has_applied(session, sequence)) {
            return false;
        }
    }
    if (!flush_everything()) {
        return false;
    }
    const std::lock_guard lock(mutex_);
    return core_.has_applied(session, sequence);
}

base::Result<void> Follower::finish() {
    stop();
    std::map<FileId, std::int64_t> times;
    {
        const std::lock_guard lock(mutex_);
        if (core_.failed()) {
            return base::error(base::Errc::refused,
                               "an earlier record could not be carried out here");
        }
        times = core_.take_times();
    }
    for (const auto& [file, time] : times) {
        Operation operation;
        operation.kind = OperationKind::set_attributes;
        operation.file = file;
        operation.valid = attribute::modified;
        operation.attributes.modified = time;
        if (auto set = store_.apply(operation); !set && set.error().code.value() != ENOENT) {
            return set.error().within("set time");
        }
    }
    return flush_everything();
}

base::Result<void> Follower::flush_everything() {
    Operation flush;
    flush.kind = OperationKind::flush;
    flush.file = root_file;
    auto flushed = store_.apply(flush);
    if (!flushed) {
        // Never tried again: the kernel says it once, and forgets the pages (R13).
        const std::lock_guard lock(mutex_);
        core_.set_failed();
    }
    return flushed;
}

void Follower::stop() {
    std::shared_ptr<FollowerSession> last;
    {
        const std::lock_guard lock(mutex_);
        stopped_ = true;
        expected_.reset();
        let_go();
        last = std::exchange(last_, nullptr);
    }
    if (last) {
        last->end();
        last->join();
    }
    flushes_.finish();
    {
        const std::lock_guard lock(upkeep_mutex_);
        upkeep_ended_ = true;
    }
    upkeep_wake_.notify_all();
    if (upkeep_.joinable()) {
        upkeep_.join();
    }
}

DirtyMap Follower::dirty() const {
    const std::lock_guard lock(mutex_);
    return core_.dirty();
}

bool Follower::completed() const {
    const std::lock_guard lock(mutex_);
    return core_.completed();
}

DirtyMap Follower::uncertain() const {
    const std::lock_guard lock(mutex_);
    return core_.uncertain();
}

void Follower::add_stats(FolderStats& stats) const {
    const std::lock_guard lock(mutex_);
    stats.dirty_bytes = core_.dirty().bytes();
    stats.applied_sequence = core_.applied_sequence();
}

void Follower::run_upkeep() {
    std::unique_lock lock(upkeep_mutex_);
    while (!upkeep_ended_) {
        upkeep_wake_.wait_for(lock, heartbeat_pause);
        if (upkeep_ended_) {
            return;
        }
        lock.unlock();
        std::shared_ptr<FollowerSession> session;
        {
            const std::lock_guard state_lock(mutex_);
            session = session_;
        }
        if (session) {
            if (const auto mine = store_.space()) {
                session->send_heartbeat(*mine);
            }
        }
        session.reset();
        lock.lock();
    }
}

}  // namespace safepair::replica
