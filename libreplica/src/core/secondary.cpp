#include "core/secondary.hpp"

#include <string>

namespace safepair::replica {

void Secondary::session_up(base::SessionId session) {
    session_ = session;
    received_ = 0;
    applied_ = 0;
}

base::Result<void> Secondary::received(const FrameHeader& header) {
    if (!is_numbered(header.kind)) {
        if (header.kind == FrameKind::heartbeat) {
            return {};
        }
        return base::error(base::Errc::corrupt, "a frame that only a follower sends");
    }
    if (header.sequence != received_ + 1) {
        return base::error(
            base::Errc::corrupt,
            "record " + std::to_string(header.sequence) + " after " + std::to_string(received_));
    }
    received_ = header.sequence;
    return {};
}

void Secondary::changed(const Operation& operation, const Effects& effects) {
    effects.mark(unflushed_.current());
    if (operation.kind == OperationKind::write || operation.kind == OperationKind::allocate) {
        if (operation.time != 0) {
            times_[operation.file] = operation.time;
        }
        return;
    }
    constexpr auto sets_time = attribute::modified | attribute::size;
    if (operation.kind == OperationKind::set_attributes && (operation.valid & sets_time) != 0) {
        times_.erase(operation.file);
    }
}

void Secondary::changed_by_resync(const Operation& operation) {
    changed(operation, effects_of(operation, {}));
}

std::uint64_t Secondary::begin_flush_all() {
    // Flushes of everything may overlap here; what the newest covers is a superset of what the
    // older ones do.
    unflushed_.begin_flush();
    flush_all_ = ++last_flush_all_;
    return flush_all_;
}

void Secondary::end_flush_all(std::uint64_t token, bool flushed) {
    if (token == flush_all_) {
        unflushed_.end_flush(flushed);
        flush_all_ = 0;
    }
}

DirtyMap Secondary::uncertain() const {
    auto map = dirty_;
    auto unflushed = unflushed_;
    map.merge(unflushed.take());
    return map;
}

}  // namespace safepair::replica
