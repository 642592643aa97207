#pragma once

#include "core/block_plan.hpp"
#include "core/rate.hpp"
#include "io/resync_link.hpp"
#include "io/resync_progress.hpp"

#include <safepair/base/result.hpp>
#include <safepair/base/time.hpp>
#include <safepair/replica/store.hpp>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <set>
#include <vector>

namespace safepair::replica {

/// Carries bytes of the leader's copy to the follower's, each piece read and sent under its range
/// lock (R12). Not thread-safe.
class BlockCopier {
  public:
    struct Pace {
        std::uint64_t bytes_per_second = 0;
        std::function<base::Instant()> now;
        std::function<void(base::Duration)> sleep;
    };

    BlockCopier(Store& mine, ResyncLink& link, ResyncProgress& progress, Pace pace);

    /// Makes the bytes of `range` equal; `fresh`: the follower has only holes there, apart from
    /// what the application wrote. Bytes that are gone, with or without their file, are left out.
    /// Errors: of reading here, of the link, Errc::cancelled.
    [[nodiscard]] base::Result<void> copy(FileId file, ByteRange range, bool fresh);

    /// Sent as data.
    [[nodiscard]] std::uint64_t copied_bytes() const noexcept { return copied_bytes_; }

    /// Got at least one record.
    [[nodiscard]] const std::set<FileId>& copied_files() const noexcept { return copied_files_; }

  private:
    base::Result<ByteRange> next_piece(FileId file, ByteRange rest) const;
    base::Result<void> copy_piece(FileId file, ByteRange piece, bool fresh);
    base::Result<void> send_piece(FileId file, ByteRange piece, bool fresh);
    base::Result<void> send_data(FileId file, ByteRange data);
    base::Result<void> send_hole(FileId file, ByteRange hole);
    base::Result<void> keep_pace(std::uint64_t bytes);

    Store& mine_;
    ResyncLink& link_;
    ResyncProgress& progress_;
    const Pace pace_;
    Throttle throttle_;
    std::vector<std::byte> buffer_;
    std::uint64_t copied_bytes_ = 0;
    std::set<FileId> copied_files_;
};

}  // namespace safepair::replica
