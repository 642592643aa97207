#include "io/block_copier.hpp"

#include <safepair/replica/limits.hpp>

#include <algorithm>
#include <utility>

#include <fcntl.h>
#include <linux/falloc.h>
#include <unistd.h>

namespace safepair::replica {

namespace {

/// Half of the largest record, so that what the session puts around it has room, and so that a
/// range is locked briefly.
constexpr std::uint64_t data_bytes_max = limits::record_bytes_max / 2;
/// A hole costs one record whatever its size; the bound keeps the lock on a large range short when
/// data appears in it.
constexpr std::uint64_t hole_bytes_max = std::uint64_t{1} << 26U;
/// The session may end while a pause lasts.
constexpr base::Duration sleep_slice = std::chrono::milliseconds(100);

bool is_gone(const base::Error& error) {
    return error.code == std::errc::no_such_file_or_directory;
}

}  // namespace

BlockCopier::BlockCopier(Store& mine, ResyncLink& link, ResyncProgress& progress, Pace pace)
    : mine_(mine),
      link_(link),
      progress_(progress),
      pace_(std::move(pace)),
      throttle_(pace_.bytes_per_second),
      buffer_(data_bytes_max) {}

base::Result<void> BlockCopier::copy(FileId file, ByteRange range, bool fresh) {
    while (range.begin < range.end) {
        if (link_.cancelled()) {
            return base::error(base::Errc::cancelled, "resync of " + mine_.path_of(file));
        }
        const auto piece = next_piece(file, range);
        if (!piece) {
            if (is_gone(piece.error())) {
                return {};
            }
            return piece.error();
        }
        const auto before = copied_bytes_;
        SAFEPAIR_CHECK(copy_piece(file, *piece, fresh));
        range.begin = piece->end;
        SAFEPAIR_CHECK(keep_pace(copied_bytes_ - before));
    }
    return {};
}

/// Looked up without a lock: whatever the application changes meanwhile is shipped, and the piece
/// itself is looked at again under its lock.
base::Result<ByteRange> BlockCopier::next_piece(FileId file, ByteRange rest) const {
    const auto data = mine_.seek(file, rest.begin, SEEK_DATA);
    if (!data && data.error().code != std::errc::no_such_device_or_address) {
        return data.error();
    }
    const auto data_begin = data ? std::min(*data, rest.end) : rest.end;
    if (data_begin > rest.begin) {
        return ByteRange{rest.begin, std::min(data_begin, rest.begin + hole_bytes_max)};
    }
    // Up to a multiple, so that pieces lie on blocks.
    const auto end = (rest.begin / data_bytes_max + 1) * data_bytes_max;
    return ByteRange{rest.begin, std::min(end, rest.end)};
}

base::Result<void> BlockCopier::copy_piece(FileId file, ByteRange piece, bool fresh) {
    const auto lock = link_.lock_range(file, piece.begin, piece.end - piece.begin);
    if (!mine_.knows(file) || mine_.is_orphan(file)) {
        return {};
    }
    auto sent = send_piece(file, piece, fresh);
    if (!sent && is_gone(sent.error()) && (!mine_.knows(file) || mine_.is_orphan(file))) {
        return {};
    }
    return sent;
}

base::Result<void> BlockCopier::send_piece(FileId file, ByteRange piece, bool fresh) {
    SAFEPAIR_TRY(const auto attributes, mine_.attributes(file));
    piece.end = std::min(piece.end, attributes.size);
    if (piece.begin >= piece.end) {
        return {};
    }
    SAFEPAIR_TRY(const auto extents,
                 mine_.data_extents(file, piece.begin, piece.end - piece.begin));
    auto at = piece.begin;
    for (const auto& extent : extents) {
        if (extent.offset > at && !fresh) {
            SAFEPAIR_CHECK(send_hole(file, {at, extent.offset}));
        }
        at = std::min(extent.offset + extent.length, piece.end);
        SAFEPAIR_CHECK(send_data(file, {extent.offset, at}));
    }
    if (at < piece.end && !fresh) {
        SAFEPAIR_CHECK(send_hole(file, {at, piece.end}));
    }
    return {};
}

base::Result<void> BlockCopier::send_data(FileId file, ByteRange data) {
    ResyncRecord record;
    record.operation.kind = OperationKind::write;
    record.operation.file = file;
    while (data.begin < data.end) {
        const auto into = std::span(buffer_).first(static_cast<std::size_t>(
            std::min<std::uint64_t>(buffer_.size(), data.end - data.begin)));
        SAFEPAIR_TRY(const auto got, mine_.read(file, data.begin, into));
        if (got == 0) {
            return {};
        }
        record.operation.offset = data.begin;
        record.operation.length = got;
        record.operation.data = into.first(got);
        SAFEPAIR_CHECK(link_.send(record));
        copied_files_.insert(file);
        copied_bytes_ += got;
        progress_.add_copied(got);
        data.begin += got;
    }
    return {};
}

base::Result<void> BlockCopier::send_hole(FileId file, ByteRange hole) {
    ResyncRecord record;
    record.operation.kind = OperationKind::allocate;
    record.operation.file = file;
    record.operation.offset = hole.begin;
    record.operation.length = hole.end - hole.begin;
    record.operation.flags = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
    copied_files_.insert(file);
    return link_.send(record);
}

base::Result<void> BlockCopier::keep_pace(std::uint64_t bytes) {
    auto pause = throttle_.pause_after(pace_.now(), bytes);
    while (pause > base::Duration::zero()) {
        if (link_.cancelled()) {
            return base::error(base::Errc::cancelled, "resync");
        }
        const auto slice = std::min(pause, sleep_slice);
        pace_.sleep(slice);
        pause -= slice;
    }
    return {};
}

}  // namespace safepair::replica
