#pragma once

#include "core/block_plan.hpp"
#include "io/block_copier.hpp"
#include "io/block_digest.hpp"
#include "io/resync_question.hpp"

#include <safepair/base/result.hpp>
#include <safepair/replica/store.hpp>

#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <vector>

/// Finds differing blocks by their digests and has them copied. Several questions are under way at
/// once, each for the blocks of many files, so that neither small files nor the distance cost round
/// trips.
///
/// Digests are taken here and there without locks. That is safe because every application write
/// since the scan began is applied on both sides in one order: where the digests agree, each byte
/// has on both sides either the same value that no later write touches, or a value that the same
/// later write replaces on both. Where they differ only because of such a write, the block is
/// copied needlessly, under its lock.
namespace safepair::replica {

class DigestScan {
  public:
    DigestScan(Store& mine, ResyncLink& link, ResyncProgress& progress, BlockCopier& copier);

    /// Bytes of the blocks that differed. Only items with `compare` are looked at; they outlive the
    /// call.
    [[nodiscard]] base::Result<std::uint64_t> run(const std::vector<FileWork>& work);

  private:
    struct Batch {
        std::vector<DigestRange> ranges;
        /// Where the file ended when the names were made equal; per range.
        std::vector<std::uint64_t> ends;
        std::optional<PendingAnswer> answer;
    };

    /// Empty when everything was asked.
    base::Result<Batch> next_batch(const std::vector<FileWork>& work);
    base::Result<std::uint32_t> blocks_to_ask(FileId file, ByteRange rest, std::uint64_t data_left);
    base::Result<void> finish(Batch& batch);
    base::Result<void> compare(const DigestRange& range,
                               std::uint64_t end,
                               const RangeDigests& mine,
                               const RangeDigests& theirs);

    Store& mine_;
    ResyncLink& link_;
    ResyncProgress& progress_;
    BlockCopier& copier_;
    BlockDigester digester_;
    /// Next to ask: work item, its range, offset in the range.
    std::size_t item_ = 0;
    std::size_t range_ = 0;
    std::uint64_t done_ = 0;
    std::uint64_t differing_ = 0;
};

}  // namespace safepair::replica
