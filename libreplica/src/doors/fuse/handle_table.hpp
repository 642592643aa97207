#pragma once

#include "doors/fuse/inode_table.hpp"
#include "doors/fuse/kernel_wire.hpp"

#include <safepair/base/result.hpp>
#include <safepair/replica/door.hpp>

#include <cstdint>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <vector>

namespace safepair::replica::fuse_door {

/// An open file or directory; its address is the `fh` of the kernel, which names it until RELEASE.
struct Handle {
    InodePtr inode;
    Access access = Access::cached;
    bool may_write = false;

    // Of a directory. The kernel reads an open directory from one thread at a time, but nothing
    // promises it.
    std::mutex mutex;
    std::vector<Entry> entries;  // guarded by mutex; as it was when reading began
    FileId parent;               // guarded by mutex
};

/// The open handles. Each holds its file in the store, so that it stays usable after its last name
/// went. Thread-safe.
class HandleTable {
  public:
    /// Errors: ESTALE when the file is gone.
    base::Result<Handle*> open(Store& store, InodePtr inode, Access access, bool may_write);

    /// Handles through the page cache went while direct ones remain: after invalidating the whole
    /// file, forget_cached_pages(inode, epoch) spares them further invalidations.
    struct Closed {
        bool only_direct_left = false;
        std::uint64_t epoch = 0;
    };

    Closed close(Front& front, Handle* handle) noexcept;
    void forget_cached_pages(Inode& inode, std::uint64_t epoch) noexcept;
    void close_all(Front& front) noexcept;
    /// Numbers of the files that shared mappings may have made dirty.
    [[nodiscard]] std::vector<fuse_ino_t> may_be_dirty() const;
    [[nodiscard]] std::size_t size() const;

    [[nodiscard]] static Handle& of(std::uint64_t kernel_handle) noexcept {
        return *reinterpret_cast<Handle*>(kernel_handle);
    }

    [[nodiscard]] static std::uint64_t number(const Handle* handle) noexcept {
        return reinterpret_cast<std::uint64_t>(handle);
    }

  private:
    mutable std::mutex mutex_;
    std::unordered_map<Handle*, std::unique_ptr<Handle>> handles_;  // guarded by mutex_
};

}  // namespace safepair::replica::fuse_door
