#pragma once

#include <safepair/base/result.hpp>
#include <safepair/replica/dirty_map.hpp>
#include <safepair/replica/store.hpp>

#include <cstdint>
#include <filesystem>

namespace safepair::replica {

struct ArchiveResult {
    std::uint64_t files = 0;
    /// Sum of the sizes.
    std::uint64_t bytes = 0;
    std::filesystem::path directory;
};

/// Keeps what only this node has before a resync overwrites it (R24): whole changed objects (all
/// when `map` is null) below `directory`/tree by their names, and `directory`/listing, a text with
/// one line per object. `directory` lies outside the replicated names. Durable on return, complete
/// or not there at all: it is built under the name `directory`.partial, and what an interrupted
/// attempt left under that name is thrown away. An archive that exists is left as it is. Errors:
/// Errc::limit_reached "archive-full: ..." when there is not enough room; Errc::refused when
/// `directory` exists and is no archive; errno. `mine` must not change meanwhile.
[[nodiscard]] base::Result<ArchiveResult> archive_copy(Store& mine,
                                                       const DirtyMap* map,
                                                       const std::filesystem::path& directory);

}  // namespace safepair::replica
