#pragma once

#include "doors/fuse/library.hpp"

#include <safepair/replica/operation.hpp>

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <unordered_map>

namespace safepair::replica::fuse_door {

/// A file that the kernel knows by a number of ours.
struct Inode {
    Inode(FileId id, fuse_ino_t chosen) : file(id), number(chosen) {}

    const FileId file;
    const fuse_ino_t number;

    /// Pages of it may be in the page cache, so whatever goes past the cache has to invalidate
    /// them.
    std::atomic<bool> may_be_cached = false;
    /// A handle through the page cache may write, so a shared mapping may have made pages dirty.
    std::atomic<bool> may_be_dirty = false;
    /// Written since the last handle closed.
    std::atomic<bool> written = false;
    /// Neither set-uid nor set-gid is set; false also when nobody looked.
    std::atomic<bool> plain_mode = false;

    // Guarded by HandleTable's mutex.
    unsigned handles = 0;
    unsigned cached_handles = 0;
    unsigned cached_writers = 0;
    std::uint64_t cached_opens = 0;

    std::uint64_t lookups = 0;  // guarded by InodeTable's mutex
};

using InodePtr = std::shared_ptr<Inode>;

/// FileId <-> number of the kernel, for exactly the files that the kernel remembers: each lookup
/// adds one, a forget takes them back. Numbers are never used twice in a session, so the generation
/// stays 0. Thread-safe.
class InodeTable {
  public:
    InodeTable();

    /// Null for a number that the kernel should not know.
    [[nodiscard]] InodePtr find(fuse_ino_t number) const;
    /// Counts one lookup, which the kernel gives back with a forget.
    [[nodiscard]] InodePtr remember(FileId file);
    void forget(fuse_ino_t number, std::uint64_t lookups) noexcept;
    [[nodiscard]] std::size_t size() const;

  private:
    mutable std::mutex mutex_;
    std::unordered_map<fuse_ino_t, InodePtr> by_number_;  // guarded by mutex_
    std::unordered_map<FileId, Inode*> by_file_;          // guarded by mutex_
    fuse_ino_t next_ = FUSE_ROOT_ID + 1;                  // guarded by mutex_
};

/// The inode number that programs see: the same on both nodes and after every mount.
[[nodiscard]] std::uint64_t visible_number(FileId file) noexcept;

}  // namespace safepair::replica::fuse_door
