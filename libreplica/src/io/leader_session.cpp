#include "io/leader_session.hpp"

#include "io/handshake.hpp"

#include <safepair/base/bytes.hpp>

#include <system_error>
#include <utility>

namespace safepair::replica {

namespace {

constexpr base::Duration connect_patience = std::chrono::seconds(5);
/// A resync leaves the larger part of what may be in flight to the application.
constexpr std::size_t resync_bytes_max = limits::in_flight_bytes_max / 4;

base::Error session_gone() {
    return base::error(base::Errc::peer_unreachable, "the session is lost");
}

}  // namespace

/// Gives its turn back when it goes.
class LeaderSession::HeldLock final : public ResyncLink::Lock {
  public:
    HeldLock(Leader& leader, LockTable::Ticket ticket) : leader_(leader), ticket_(ticket) {}

    ~HeldLock() override {
        const std::lock_guard lock(leader_.mutex_);
        leader_.release_ticket(ticket_);
    }

    HeldLock(const HeldLock&) = delete;
    HeldLock& operator=(const HeldLock&) = delete;

  private:
    Leader& leader_;
    LockTable::Ticket ticket_;
};

LeaderSession::LeaderSession(
    Leader& leader, SessionId session, std::uint64_t term, DataEndpoint peer, SyncMode mode)
    : leader_(leader), session_(session), term_(term), peer_(std::move(peer)), mode_(mode) {}

void LeaderSession::start() {
    main_ = std::thread([this] {
        run();
        threads_ended_.store(true);
    });
}

void LeaderSession::end() noexcept {
    ended_.store(true);
    if (const auto open_channel = channel()) {
        open_channel->shut_down();
    }
}

void LeaderSession::join() {
    if (main_.joinable()) {
        main_.join();
    }
}

std::shared_ptr<RecordChannel> LeaderSession::channel() const {
    const std::lock_guard lock(mutex_);
    return channel_;
}

Progress LeaderSession::progress() const {
    std::shared_ptr<ResyncDriver> driver;
    {
        const std::lock_guard lock(mutex_);
        driver = driver_;
    }
    return driver ? driver->progress() : Progress{};
}

void LeaderSession::run() {
    if (const auto connected = connect(); !connected) {
        leader_.lose(*this, connected.error().message(), false, true);
        return;
    }
    receiver_ = std::thread([this] { receive(); });
    if (const auto synchronised = synchronise(); !synchronised) {
        leader_.lose(*this, synchronised.error().message(), false, true);
    }
    receiver_.join();
}

base::Result<void> LeaderSession::connect() {
    ChannelHello hello;
    hello.module = leader_.options_.module;
    hello.node = leader_.options_.node;
    hello.session = session_;
    hello.term = term_;
    SAFEPAIR_TRY(auto fd, connect_channel(peer_, hello, connect_patience));
    const auto fresh = std::make_shared<RecordChannel>(std::move(fd));
    {
        const std::lock_guard lock(mutex_);
        channel_ = fresh;
    }
    if (cancelled()) {
        return session_gone();
    }
    SAFEPAIR_TRY(const auto frame, fresh->receive());
    if (!frame || frame->header.kind != FrameKind::welcome) {
        return base::error(
            base::Errc::refused,
            peer_.address + " does not expect this session of module " + hello.module);
    }
    SAFEPAIR_TRY(const auto welcome, decode_welcome(frame->payload));
    if (welcome.session != session_ || welcome.term != term_) {
        return base::error(base::Errc::corrupt, peer_.address + " answered for another session");
    }
    {
        const std::lock_guard lock(leader_.mutex_);
        if (leader_.session_.get() != this) {
            return session_gone();
        }
        if (leader_.core_.state() != LeaderState::alone) {
            return base::error(base::Errc::refused,
                               "answers are still held for an earlier session");
        }
        leader_.core_.session_up();
        leader_.session_up_ = true;
        leader_.peer_space_ = welcome.space;
        leader_.events_.session_opened(session_);
    }
    leader_.refresh_space();
    return {};
}

base::Result<void> LeaderSession::synchronise() {
    DirtyMap dirty;
    {
        const std::lock_guard lock(leader_.mutex_);
        dirty = leader_.core_.dirty();
    }
    const auto merge = [this](const DirtyMap& theirs) -> base::Result<void> {
        // In memory, like the map itself: after a crash of this node nothing of either is believed,
        // and all is compared.
        const std::lock_guard lock(leader_.mutex_);
        leader_.core_.merge_dirty(theirs);
        return {};
    };
    std::shared_ptr<ResyncDriver> driver =
        leader_.options_.make_resync({mode_, leader_.store_, std::move(dirty), *this, merge});
    {
        const std::lock_guard lock(mutex_);
        driver_ = driver;
    }
    auto summary = driver->run();
    {
        const std::lock_guard lock(mutex_);
        driver_.reset();
    }
    SAFEPAIR_TRY(const auto done, std::move(summary));
    {
        const std::lock_guard lock(leader_.mutex_);
        leader_.last_resync_ = done;
    }
    return settle();
}

/// From answers by the local result to answers by both. What was answered before is acknowledged
/// and flushed on both before anybody is told that the follower has everything.
base::Result<void> LeaderSession::settle() {
    const auto self = shared_from_this();
    {
        std::unique_lock lock(leader_.mutex_);
        if (leader_.session_ != self || !leader_.core_.attached()) {
            return session_gone();
        }
        leader_.core_.settle();
        ++leader_.waiting_;
        leader_.progress_.wait(lock,
                               [&] { return leader_.session_ != self || leader_.core_.settled(); });
        --leader_.waiting_;
    }
    SAFEPAIR_CHECK(leader_.flush_everything(self));
    const auto sequence = send_record(FrameKind::complete, {}, {}, {});
    if (sequence == 0) {
        return session_gone();
    }
    SAFEPAIR_CHECK(leader_.wait_acknowledged(self, sequence));
    const std::lock_guard lock(leader_.mutex_);
    if (leader_.session_ != self) {
        return session_gone();
    }
    leader_.core_.become_in_sync();
    leader_.events_.resync_finished(session_);
    return {};
}

// Receiving

void LeaderSession::receive() {
    const auto open_channel = channel();
    std::string why = "the follower closed the channel";
    bool apply_failed = false;
    for (;;) {
        const auto frame = open_channel->receive();
        if (!frame) {
            why = frame.error().message();
            break;
        }
        if (!*frame) {
            break;
        }
        leader_.events_.peer_heard();
        if (const auto handled = handle(**frame, apply_failed); !handled) {
            why = handled.error().message();
            break;
        }
    }
    leader_.lose(*this, why, apply_failed, true);
}

base::Result<void> LeaderSession::handle(const RecordChannel::Frame& frame, bool& apply_failed) {
    switch (frame.header.kind) {
        case FrameKind::acknowledgement:
            return take_acknowledgements(frame.payload, apply_failed);
        case FrameKind::answer:
            return take_answer(frame);
        case FrameKind::heartbeat: {
            SAFEPAIR_TRY(const auto space, decode_space(frame.payload));
            const std::lock_guard lock(leader_.mutex_);
            if (leader_.session_.get() == this) {
                leader_.peer_space_ = space;
            }
            return {};
        }
        case FrameKind::welcome:
        case FrameKind::operation:
        case FrameKind::resync:
        case FrameKind::flush:
        case FrameKind::question:
        case FrameKind::complete:
            break;
    }
    return base::error(base::Errc::corrupt, "a frame that only a leader sends");
}

base::Result<void> LeaderSession::take_acknowledgements(std::span<const std::byte> payload,
                                                        bool& apply_failed) {
    SAFEPAIR_TRY(const auto all, decode_acknowledgements(payload));
    Primary::Answers answers;
    base::Result<void> result;
    {
        const std::lock_guard lock(leader_.mutex_);
        if (leader_.session_.get() != this) {
            return session_gone();
        }
        for (const auto& one : all) {
            if (one.error != 0) {
                apply_failed = true;
                result = base::error_from_errno(
                    static_cast<int>(one.error),
                    "the follower could not carry out record " + std::to_string(one.sequence));
            } else {
                result = leader_.core_.acknowledge(one, answers);
            }
            if (!result) {
                break;
            }
        }
        leader_.notify_progress();
    }
    Leader::deliver(answers);
    return result;
}

base::Result<void> LeaderSession::take_answer(const RecordChannel::Frame& frame) {
    Answer answer;
    {
        const std::lock_guard lock(leader_.mutex_);
        if (leader_.session_.get() != this) {
            return session_gone();
        }
        auto node = questions_.extract(frame.header.sequence);
        if (node.empty()) {
            return base::error(base::Errc::corrupt, "an answer that nobody asked for");
        }
        answer = std::move(node.mapped());
        Primary::Answers nobody;
        SAFEPAIR_CHECK(leader_.core_.acknowledge({frame.header.sequence, 0, false}, nobody));
        leader_.notify_progress();
    }
    answer(std::vector<std::byte>(frame.payload.begin(), frame.payload.end()));
    return {};
}

// For the resync

std::unique_ptr<ResyncLink::Lock> LeaderSession::lock(std::vector<Claim> claims) {
    LockTable::Ticket ticket = 0;
    {
        const std::lock_guard guard(leader_.mutex_);
        ticket = ++leader_.last_ticket_;
    }
    if (!leader_.wait_for_ticket(ticket, std::move(claims), this)) {
        // Nothing is kept out any more, and nothing can be sent any more either.
        return std::make_unique<Lock>();
    }
    return std::make_unique<HeldLock>(leader_, ticket);
}

std::unique_ptr<ResyncLink::Lock> LeaderSession::lock_range(FileId file,
                                                            std::uint64_t offset,
                                                            std::uint64_t length) {
    const auto end = length > UINT64_MAX - offset ? UINT64_MAX : offset + length;
    return lock({{Claim::Kind::range, file, offset, end}});
}

std::unique_ptr<ResyncLink::Lock> LeaderSession::lock_everything() {
    return lock({{Claim::Kind::everything, {}, 0, 0}});
}

std::uint64_t LeaderSession::send_record(FrameKind kind,
                                         std::span<const std::byte> fields,
                                         std::span<const std::byte> data,
                                         Answer answer) {
    const auto bytes = fields.size() + data.size() + frame_header_bytes;
    {
        std::unique_lock lock(leader_.mutex_);
        const auto has_room = [&] {
            while (!resync_in_flight_.empty() &&
                   resync_in_flight_.front().first <= leader_.core_.acknowledged_sequence()) {
                resync_bytes_ -= resync_in_flight_.front().second;
                resync_in_flight_.pop_front();
            }
            return leader_.core_.has_room(bytes) &&
                   (resync_bytes_ == 0 || resync_bytes_ + bytes <= resync_bytes_max);
        };
        ++leader_.waiting_;
        leader_.progress_.wait(lock, [&] { return cancelled() || has_room(); });
        --leader_.waiting_;
    }
    std::uint64_t sequence = 0;
    leader_.send_numbered(kind, fields, data, [&] {
        if (leader_.session_.get() != this) {
            return sequence;
        }
        sequence = leader_.number_record(bytes, false);
        if (sequence != 0) {
            resync_in_flight_.emplace_back(sequence, bytes);
            resync_bytes_ += bytes;
            if (answer) {
                questions_.emplace(sequence, std::move(answer));
                answer = nullptr;
            }
        }
        return sequence;
    });
    if (sequence == 0 && answer) {
        answer(session_gone());
    }
    return sequence;
}

base::Result<void> LeaderSession::send(const ResyncRecord& record) {
    base::ByteWriter writer;
    writer.u8(static_cast<std::uint8_t>(record.kind));
    writer.raw(encode_operation(record.operation));
    if (send_record(FrameKind::resync, writer.bytes(), record.operation.data, {}) == 0) {
        return session_gone();
    }
    return {};
}

void LeaderSession::ask(std::span<const std::byte> question, Answer answer) {
    send_record(FrameKind::question, question, {}, std::move(answer));
}

DirtyMap LeaderSession::attach_application() {
    const std::lock_guard lock(leader_.mutex_);
    if (leader_.session_.get() != this || !leader_.session_up_) {
        return {};
    }
    return leader_.core_.attach();
}

base::Result<void> LeaderSession::flush_both() {
    return leader_.flush_everything(shared_from_this());
}

}  // namespace safepair::replica
