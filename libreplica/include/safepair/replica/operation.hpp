#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include <safepair/base/ids.hpp>

/// The vocabulary between door, primary, wire and store: one mutation of the replicated folder. The same Operation,
/// applied in the same order to two equal stores, leaves them equal (data and the metadata of R25).
namespace safepair::replica {

using base::FileId;

/// The root directory of the folder, on every node.
inline constexpr FileId root_file{};

enum class NodeType : std::uint8_t { file, directory, symlink, fifo, socket, character_device, block_device };

enum class OperationKind : std::uint8_t {
    write,           ///< file, offset, data; `time` becomes the pending mtime
    allocate,        ///< file, offset, length, fallocate(2) mode in `flags` (0, KEEP_SIZE, PUNCH_HOLE|KEEP_SIZE, ZERO_RANGE ...)
    set_attributes,  ///< file, attributes where `valid` says so (truncate is `size`)
    create,          ///< parent, name, file (the new id), attributes {type, mode, uid, gid, rdev}, text = symlink target
    link,            ///< file, parent, name: one more name
    rename,          ///< parent, name -> new_parent, new_name; flags 0, RENAME_NOREPLACE or RENAME_EXCHANGE
    unlink,          ///< parent, name
    rmdir,           ///< parent, name
    set_xattr,       ///< file, name, data, setxattr(2) flags
    remove_xattr,    ///< file, name
    flush,           ///< file (nil root: everything): durable on return; flags 1 = data only
};

/// Bits of Operation::valid: which attributes set_attributes changes.
namespace attribute {
inline constexpr std::uint32_t mode = 1;
inline constexpr std::uint32_t owner = 2;
inline constexpr std::uint32_t group = 4;
inline constexpr std::uint32_t size = 8;
inline constexpr std::uint32_t modified = 16;
/// Kept local: atime is not compared (R25).
inline constexpr std::uint32_t accessed = 32;
}  // namespace attribute

struct Attributes {
    NodeType type = NodeType::file;
    /// Permission bits including set-uid, set-gid and sticky; no type bits.
    std::uint32_t mode = 0;
    std::uint32_t uid = 0;
    std::uint32_t gid = 0;
    std::uint64_t size = 0;
    /// Nanoseconds since 1970.
    std::int64_t modified = 0;
    std::int64_t accessed = 0;
    std::int64_t changed = 0;
    /// dev_t of a device node.
    std::uint64_t rdev = 0;
    std::uint64_t links = 1;
    /// 512-byte units in use; local, not compared.
    std::uint64_t blocks = 0;
};

struct Operation {
    OperationKind kind = OperationKind::write;
    FileId file;
    FileId parent;
    FileId new_parent;
    std::string name;
    std::string new_name;
    /// Symlink target of create.
    std::string text;
    std::uint64_t offset = 0;
    std::uint64_t length = 0;
    std::uint32_t flags = 0;
    std::uint32_t valid = 0;
    Attributes attributes;
    /// Leader's wall clock when it was issued: the mtime (and the parent's mtime for names) on both nodes.
    std::int64_t time = 0;
    /// O_SYNC, O_DSYNC, FUA (R15): durable on both before the answer.
    bool durable = false;
    /// Borrowed; valid until the call that takes the operation returns.
    std::span<const std::byte> data;
};

}  // namespace safepair::replica
