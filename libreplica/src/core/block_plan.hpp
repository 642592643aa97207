#pragma once

#include "core/resync_codec.hpp"
#include "core/tree.hpp"

#include <safepair/replica/dirty_map.hpp>
#include <safepair/replica/operation.hpp>
#include <safepair/replica/replicated_folder.hpp>

#include <cstdint>
#include <set>
#include <vector>

/// Which bytes of which files a resync looks at, once the names agree.
namespace safepair::replica {

/// Bytes [begin, end).
struct ByteRange {
    std::uint64_t begin = 0;
    std::uint64_t end = 0;
    friend bool operator==(const ByteRange&, const ByteRange&) = default;
};

struct FileWork {
    FileId file;
    /// Compare by digests first; otherwise copy at once.
    bool compare = false;
    /// The follower's file has nothing but holes: ours need not be made there.
    bool fresh = false;
    /// Ascending, apart, inside the file, beginning on a block.
    std::vector<ByteRange> ranges;
};

/// The work of a resync in `mode`. `mine` as it is now, `theirs` as it was before the names were
/// made equal, `created` from plan_names, `dirty` the union of both maps. Files of one directory
/// come together, ordered by name.
[[nodiscard]] std::vector<FileWork> plan_blocks(SyncMode mode,
                                                const Tree& mine,
                                                const Tree& theirs,
                                                const std::set<FileId>& created,
                                                const DirtyMap& dirty);

[[nodiscard]] std::uint64_t total_bytes(const std::vector<ByteRange>& ranges);

/// Blocks whose digests differ, or that one side only has, as byte ranges cut at `size`; neighbours
/// are joined.
[[nodiscard]] std::vector<ByteRange> differing_ranges(const DigestRange& asked,
                                                      const std::vector<Digest>& mine,
                                                      const std::vector<Digest>& theirs,
                                                      std::uint64_t size);

}  // namespace safepair::replica
