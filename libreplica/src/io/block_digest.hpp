#pragma once

#include "core/resync_codec.hpp"

#include <safepair/base/result.hpp>
#include <safepair/replica/store.hpp>

#include <cstddef>
#include <span>
#include <vector>

/// XXH3-128 (xxhash.h) of blocks. Not a cryptographic hash: it finds differences, it does not
/// withstand somebody who constructs them.
namespace safepair::replica {

[[nodiscard]] Digest digest_of(std::span<const std::byte> bytes);

/// Digests of a store's blocks. Holes are not read: they give what as many zeros give. Not
/// thread-safe.
class BlockDigester {
  public:
    explicit BlockDigester(Store& store);

    /// nullopt when the file is gone. Errors: those of reading.
    [[nodiscard]] base::Result<RangeDigests> digests(const DigestRange& range);

  private:
    base::Result<Digest> digest_block(FileId file, std::uint64_t offset, std::size_t length);
    Digest digest_of_zeros(std::size_t length) const;

    Store& store_;
    std::vector<std::byte> buffer_;
    const std::vector<std::byte> zeros_;
    const Digest zero_block_;
};

}  // namespace safepair::replica
