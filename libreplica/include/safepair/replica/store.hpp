#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <safepair/base/result.hpp>
#include <safepair/replica/operation.hpp>

namespace safepair::replica {

struct Entry {
    std::string name;
    FileId file;
    NodeType type = NodeType::file;
};

/// One name of a file.
struct NameOf {
    FileId parent;
    std::string name;
    friend bool operator==(const NameOf&, const NameOf&) = default;
};

struct Space {
    std::uint64_t block_bytes = 4096;
    std::uint64_t blocks = 0;
    std::uint64_t blocks_free = 0;
    std::uint64_t blocks_available = 0;
    std::uint64_t files = 0;
    std::uint64_t files_free = 0;
};

/// [offset, offset + length) holds data; outside are holes.
struct Extent {
    std::uint64_t offset = 0;
    std::uint64_t length = 0;
    friend bool operator==(const Extent&, const Extent&) = default;
};

/// One copy of the folder, addressed by FileId. Both the leader's and the follower's copy are a Store, so applying an
/// operation is the same code on both. All errors are errno values in std::generic_category (a door passes them on).
///
/// Thread-safe: reads and operations on different objects run in parallel; the caller (Primary, Secondary) orders
/// operations that overlap. FileIds of R11: an xattr `trusted.safepair.id` {id, inode, birth}, set before the name is
/// visible; a copy made behind our back (inode or birth differ) is given a fresh id when the store is opened.
/// `.safepair` in the root is invisible here: lookup says ENOENT, list skips it, creating it is EPERM.
class Store {
  public:
    virtual ~Store() = default;

    /// ENOENT, ENOTDIR, ENAMETOOLONG.
    [[nodiscard]] virtual base::Result<FileId> lookup(FileId directory, std::string_view name) = 0;
    [[nodiscard]] virtual base::Result<Attributes> attributes(FileId file) = 0;
    /// Without "." and "..", ordered bytewise by name.
    [[nodiscard]] virtual base::Result<std::vector<Entry>> list(FileId directory) = 0;
    [[nodiscard]] virtual base::Result<std::string> read_link(FileId file) = 0;
    /// Bytes read; fewer than asked only at the end of the file.
    [[nodiscard]] virtual base::Result<std::size_t> read(FileId file, std::uint64_t offset, std::span<std::byte> into) = 0;
    /// Names of the xattrs users see (ours excluded), ordered bytewise.
    [[nodiscard]] virtual base::Result<std::vector<std::string>> xattr_names(FileId file) = 0;
    [[nodiscard]] virtual base::Result<std::vector<std::byte>> xattr(FileId file, const std::string& name) = 0;
    [[nodiscard]] virtual base::Result<Space> space() = 0;
    /// Extents with data that overlap [offset, offset + length), clipped to it (lseek(2) SEEK_DATA, SEEK_HOLE).
    [[nodiscard]] virtual base::Result<std::vector<Extent>> data_extents(FileId file,
                                                                         std::uint64_t offset,
                                                                         std::uint64_t length) = 0;
    /// lseek(2) with SEEK_DATA or SEEK_HOLE; ENXIO past the end.
    [[nodiscard]] virtual base::Result<std::uint64_t> seek(FileId file, std::uint64_t offset, int whence) = 0;

    /// Keeps the file reachable by id while it is open at a door, also after its last name went. Counted.
    [[nodiscard]] virtual base::Result<void> hold(FileId file) = 0;
    virtual void release(FileId file) noexcept = 0;
    /// No name is left (it lives only by hold). Nothing about it is replicated.
    [[nodiscard]] virtual bool is_orphan(FileId file) const = 0;
    [[nodiscard]] virtual bool knows(FileId file) const = 0;

    /// Carries `operation` out here. Everything but `flush` and `durable` returns with the change in the kernel, not on
    /// the disk. mtime after write and allocate is the kernel's own; set_times or set_attributes makes it `time`.
    /// create with an id that already exists: EEXIST.
    [[nodiscard]] virtual base::Result<void> apply(const Operation& operation) = 0;

    /// Every file, any order, each once; root excluded. `names` is every name of it.
    virtual void for_each(const std::function<void(FileId file, NodeType type, const std::vector<NameOf>& names)>& visit) const = 0;
    /// Every name of `file`; empty when unknown or an orphan.
    [[nodiscard]] virtual std::vector<NameOf> names(FileId file) const = 0;
    /// "dir/sub/name" by the first name, for logs; hexadecimal id when unknown.
    [[nodiscard]] virtual std::string path_of(FileId file) const = 0;

    /// Moves a displaced object aside under its id inside `.safepair/stage`, out of sight (R11: swaps and cycles), and back.
    [[nodiscard]] virtual base::Result<void> stage(FileId parent, const std::string& name) = 0;
    [[nodiscard]] virtual base::Result<void> unstage(FileId file, FileId parent, const std::string& name) = 0;
    /// Removes everything that is still staged. Called at the end of a names resync and when a store is opened.
    [[nodiscard]] virtual base::Result<void> clear_stage() = 0;
    /// Copies the file's data, mode, owner, times and xattrs whole to `target` (a path outside the replicated names, reflink
    /// where possible), fsynced (R24).
    [[nodiscard]] virtual base::Result<void> copy_out(FileId file, const std::filesystem::path& target) = 0;
};

/// Opens the copy in `directory` (the hidden sibling while in service), scanning it: gives ids to new names, fresh ids to
/// copies. `reidentified` files (new, copied, or changed since `manifest` when the caller compares) are reported through
/// `fresh`. Errors: errno of the first object that could not be read, with its path.
[[nodiscard]] base::Result<std::unique_ptr<Store>> open_posix_store(const std::filesystem::path& directory,
                                                                    std::vector<FileId>* fresh = nullptr);

}  // namespace safepair::replica
