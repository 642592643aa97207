#include "io/follower_session.hpp"

#include "core/operation_codec.hpp"
#include "io/resync_target.hpp"

#include <safepair/base/bytes.hpp>

#include <cerrno>
#include <utility>

namespace safepair::replica {

namespace {

/// Acknowledgements wait for each other while more records lie in the buffer, but not for more than
/// this.
constexpr std::size_t acknowledgements_together_max = 16;

int errno_of_error(const base::Error& error) {
    return error.code.category() == std::generic_category() && error.code.value() > 0
               ? error.code.value()
               : EIO;
}

}  // namespace

FollowerSession::FollowerSession(Follower& follower,
                                 SessionId session,
                                 std::uint64_t term,
                                 base::UniqueFd connection,
                                 std::shared_ptr<FollowerSession> before)
    : follower_(follower),
      session_(session),
      term_(term),
      channel_(std::move(connection)),
      before_(std::move(before)) {}

void FollowerSession::start() {
    // Keeps itself: the owner may let go of a session that still applies its last record.
    thread_ = std::thread([this] { run(); });
}

void FollowerSession::end() noexcept {
    ended_.store(true);
    channel_.shut_down();
}

void FollowerSession::join() {
    if (thread_.joinable()) {
        thread_.join();
    }
}

void FollowerSession::send_heartbeat(const Space& space) {
    channel_.send_if_idle(FrameKind::heartbeat, encode_space(space));
}

void FollowerSession::run() {
    if (before_) {
        before_->end();
        before_->join();
        before_.reset();
    }
    {
        const std::lock_guard lock(follower_.mutex_);
        if (follower_.session_.get() != this) {
            return;
        }
        follower_.core_.session_up(session_);
        follower_.events_.session_opened(session_);
    }
    const auto worked = work();
    channel_.shut_down();
    lose(worked ? "the leader closed the channel" : worked.error().message());
}

void FollowerSession::lose(const std::string& why) {
    const std::lock_guard lock(follower_.mutex_);
    if (follower_.session_.get() == this) {
        follower_.events_.session_lost(session_, why, apply_failed_.load());
        follower_.session_.reset();
    }
}

base::Result<void> FollowerSession::work() {
    responder_ =
        follower_.make_responder_(follower_.store_, [this] { return follower_.uncertain(); });
    Welcome welcome;
    welcome.session = session_;
    welcome.term = term_;
    SAFEPAIR_TRY(welcome.space, follower_.store_.space());
    SAFEPAIR_CHECK(channel_.send(FrameKind::welcome, 0, encode_welcome(welcome)));
    for (;;) {
        SAFEPAIR_TRY(const auto frame, channel_.receive());
        if (!frame) {
            return {};
        }
        follower_.events_.peer_heard();
        {
            const std::lock_guard lock(follower_.mutex_);
            SAFEPAIR_CHECK(follower_.core_.received(frame->header));
        }
        SAFEPAIR_CHECK(handle(*frame));
        if (!channel_.has_frame()) {
            send_acknowledgements();
        }
    }
}

base::Result<void> FollowerSession::handle(const RecordChannel::Frame& frame) {
    if (ended_.load()) {
        // R18: what is still in the buffer of a closed session is not carried out.
        return base::error(base::Errc::cancelled, "the session was closed here");
    }
    if (apply_failed_.load()) {
        // Read on, so that the leader gets to the acknowledgement of the failure and closes.
        return {};
    }
    const auto sequence = frame.header.sequence;
    switch (frame.header.kind) {
        case FrameKind::operation:
            return apply(frame);
        case FrameKind::resync:
            return apply_resync(frame);
        case FrameKind::flush:
            return flush(frame);
        case FrameKind::question:
            return answer(frame);
        case FrameKind::complete: {
            const std::lock_guard lock(follower_.mutex_);
            follower_.core_.complete();
            break;
        }
        case FrameKind::heartbeat:
        case FrameKind::welcome:
        case FrameKind::answer:
        case FrameKind::acknowledgement:
            return {};
    }
    note_applied(sequence);
    acknowledge({sequence, 0, false}, true);
    return {};
}

base::Result<void> FollowerSession::apply(const RecordChannel::Frame& frame) {
    const auto sequence = frame.header.sequence;
    SAFEPAIR_TRY(auto operation, decode_operation(frame.payload));
    if (operation.kind == OperationKind::flush) {
        return base::error(base::Errc::corrupt, "a flush among the operations");
    }
    const bool durable = std::exchange(operation.durable, false);
    Before before;
    const bool cuts = operation.kind == OperationKind::allocate ||
                      (operation.kind == OperationKind::set_attributes &&
                       (operation.valid & attribute::size) != 0);
    if (cuts) {
        if (const auto found = follower_.store_.attributes(operation.file)) {
            before.size = found->size;
        }
    }
    if (auto applied = follower_.store_.apply(operation); !applied) {
        fail(sequence, applied.error());
        return {};
    }
    {
        const std::lock_guard lock(follower_.mutex_);
        follower_.core_.changed(operation, effects_of(operation, before));
        follower_.core_.applied(sequence);
    }
    if (!durable) {
        acknowledge({sequence, 0, false}, false);
        return {};
    }
    Operation flush;
    flush.kind = OperationKind::flush;
    flush.file = operation.parent == root_file ? operation.file : operation.parent;
    flush.flags = operation.kind == OperationKind::write ? 1 : 0;
    flush_later(sequence, flush, true, 0);
    return {};
}

base::Result<void> FollowerSession::apply_resync(const RecordChannel::Frame& frame) {
    const auto sequence = frame.header.sequence;
    if (frame.payload.empty() || std::to_integer<std::uint8_t>(frame.payload[0]) >
                                     static_cast<std::uint8_t>(ResyncRecord::Kind::clear_stage)) {
        return base::error(base::Errc::corrupt, "resync record");
    }
    ResyncRecord record;
    record.kind = static_cast<ResyncRecord::Kind>(frame.payload[0]);
    SAFEPAIR_TRY(record.operation, decode_operation(frame.payload.subspan(1)));
    if (auto applied = apply_resync_record(follower_.store_, record); !applied) {
        fail(sequence, applied.error());
        return {};
    }
    {
        const std::lock_guard lock(follower_.mutex_);
        follower_.core_.changed_by_resync(record.operation);
        follower_.core_.applied(sequence);
    }
    acknowledge({sequence, 0, false}, false);
    return {};
}

base::Result<void> FollowerSession::flush(const RecordChannel::Frame& frame) {
    const auto sequence = frame.header.sequence;
    SAFEPAIR_TRY(const auto request, decode_flush(frame.payload));
    Operation flush;
    flush.kind = OperationKind::flush;
    flush.file = request.file;
    flush.flags = request.data_only ? 1 : 0;
    std::uint64_t token = 0;
    {
        const std::lock_guard lock(follower_.mutex_);
        follower_.core_.applied(sequence);
        if (request.file == root_file) {
            token = follower_.core_.begin_flush_all();
        }
    }
    if (request.answer_on_receipt) {
        acknowledge({sequence, 0, false}, false);
    }
    flush_later(sequence, flush, !request.answer_on_receipt, token);
    return {};
}

void FollowerSession::flush_later(std::uint64_t sequence,
                                  const Operation& flush,
                                  bool acknowledges,
                                  std::uint64_t token) {
    follower_.flushes_.post([self = shared_from_this(), sequence, flush, acknowledges, token] {
        auto flushed = self->follower_.store_.apply(flush);
        if (!flushed && errno_of_error(flushed.error()) == ENOENT) {
            // A file that went by a later record has nothing left to keep.
            flushed = {};
        }
        if (token != 0) {
            const std::lock_guard lock(self->follower_.mutex_);
            self->follower_.core_.end_flush_all(token, flushed.has_value());
        }
        if (!flushed) {
            self->fail(sequence, flushed.error());
            return;
        }
        if (acknowledges) {
            self->acknowledge({sequence, 0, true}, true);
        }
    });
}

base::Result<void> FollowerSession::answer(const RecordChannel::Frame& frame) {
    // Everything before it is carried out; its acknowledgements go first, so that the leader knows.
    send_acknowledgements();
    auto answered = responder_->answer(frame.payload);
    if (!answered) {
        fail(frame.header.sequence, answered.error());
        return {};
    }
    if (answered->size() > payload_bytes_max) {
        return base::error(base::Errc::limit_reached, "answer of a resync is too long");
    }
    note_applied(frame.header.sequence);
    return channel_.send(FrameKind::answer, frame.header.sequence, *answered);
}

void FollowerSession::note_applied(std::uint64_t sequence) {
    const std::lock_guard lock(follower_.mutex_);
    follower_.core_.applied(sequence);
}

void FollowerSession::fail(std::uint64_t sequence, const base::Error& error) {
    apply_failed_.store(true);
    {
        const std::lock_guard lock(follower_.mutex_);
        if (follower_.core_.session() == session_) {
            follower_.core_.set_failed();
        }
    }
    lose("record " + std::to_string(sequence) + ": " + error.message());
    acknowledge({sequence, static_cast<std::uint32_t>(errno_of_error(error)), false}, true);
}

void FollowerSession::acknowledge(const Acknowledgement& acknowledgement, bool at_once) {
    bool send = at_once;
    {
        const std::lock_guard lock(acknowledgement_mutex_);
        acknowledgements_.push_back(acknowledgement);
        send = send || acknowledgements_.size() >= acknowledgements_together_max;
    }
    if (send) {
        send_acknowledgements();
    }
}

void FollowerSession::send_acknowledgements() {
    const std::lock_guard lock(acknowledgement_mutex_);
    if (acknowledgements_.empty() || ended_.load()) {
        return;
    }
    const auto bytes = encode_acknowledgements(acknowledgements_);
    acknowledgements_.clear();
    // A channel that cannot be written to is told by the thread that receives.
    [[maybe_unused]] const auto sent = channel_.send(FrameKind::acknowledgement, 0, bytes);
}

}  // namespace safepair::replica
