#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>

#include <safepair/base/time.hpp>

/// Every bound of libreplica, with its unit and what happens when it is hit.
namespace safepair::replica::limits {

/// Grain of the dirty map and of resync blocks.
inline constexpr std::uint64_t dirty_block_bytes = 64 * 1024;
/// Largest payload of one record; the door's max_write is below it. A larger frame is refused as corrupt.
inline constexpr std::size_t record_bytes_max = 1024 * 1024;
/// NAME_MAX of Linux; longer names are ENAMETOOLONG.
inline constexpr std::size_t name_bytes_max = 255;
/// XATTR_SIZE_MAX of Linux.
inline constexpr std::size_t xattr_bytes_max = 65536;
/// PATH_MAX: the longest symbolic link target.
inline constexpr std::size_t link_target_bytes_max = 4096;
/// Bytes shipped and not yet acknowledged; the door waits above it.
inline constexpr std::size_t in_flight_bytes_max = 32 * 1024 * 1024;
/// Operations in flight or held; the door waits above it.
inline constexpr std::size_t in_flight_operations_max = 4096;
/// No acknowledgement for this long is a lost peer (R13).
inline constexpr base::Duration io_timeout = std::chrono::seconds(30);
/// A file not written for this long has its mtime made equal on the follower (R25).
inline constexpr base::Duration times_idle = std::chrono::seconds(1);
/// Both nodes are flushed in the background this often while something is unflushed (R9).
inline constexpr base::Duration background_flush = std::chrono::seconds(5);
/// The leader answers ENOSPC when the smaller free space of both nodes falls below this.
inline constexpr std::uint64_t free_bytes_min = 16 * 1024 * 1024;

}  // namespace safepair::replica::limits
