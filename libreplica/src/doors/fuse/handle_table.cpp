#include "doors/fuse/handle_table.hpp"

#include <cerrno>
#include <utility>

namespace safepair::replica::fuse_door {

namespace {

void give_back(Front& front, FileId file, bool tell_closed) noexcept {
    if (tell_closed) {
        front.closed(file);
    }
    front.store().release(file);
}

}  // namespace

base::Result<Handle*> HandleTable::open(Store& store,
                                        InodePtr inode,
                                        Access access,
                                        bool may_write) {
    auto handle = std::make_unique<Handle>();
    handle->inode = std::move(inode);
    handle->access = access;
    handle->may_write = may_write;
    auto* opened = handle.get();
    auto& state = *opened->inode;
    if (auto held = store.hold(state.file); !held) {
        // The kernel looks the name up again on ESTALE and then tells the truth about it.
        return held.error().code == std::errc::no_such_file_or_directory
                   ? base::error_from_errno(ESTALE, "open " + base::to_string(state.file))
                   : held.error();
    }
    const std::lock_guard lock(mutex_);
    if (access == Access::cached) {
        state.may_be_cached = true;
        ++state.cached_opens;
        ++state.cached_handles;
        if (may_write) {
            ++state.cached_writers;
            state.may_be_dirty = true;
        }
    } else if (state.handles == 0) {
        // The kernel drops all pages on this open, and nobody can have written past them until
        // then.
        state.may_be_cached = false;
    }
    ++state.handles;
    handles_.emplace(opened, std::move(handle));
    return opened;
}

HandleTable::Closed HandleTable::close(Front& front, Handle* handle) noexcept {
    Closed closed;
    FileId file;
    bool tell_closed = false;
    {
        const std::lock_guard lock(mutex_);
        auto& state = *handle->inode;
        file = state.file;
        --state.handles;
        if (handle->access == Access::cached) {
            --state.cached_handles;
            if (handle->may_write && --state.cached_writers == 0) {
                state.may_be_dirty = false;
            }
            closed.only_direct_left = state.cached_handles == 0 && state.handles > 0;
            closed.epoch = state.cached_opens;
        }
        tell_closed = state.handles == 0 && state.written.exchange(false);
    }
    give_back(front, file, tell_closed);
    const std::lock_guard lock(mutex_);
    handles_.erase(handle);
    return closed;
}

void HandleTable::forget_cached_pages(Inode& inode, std::uint64_t epoch) noexcept {
    const std::lock_guard lock(mutex_);
    if (inode.cached_handles == 0 && inode.cached_opens == epoch) {
        inode.may_be_cached = false;
    }
}

void HandleTable::close_all(Front& front) noexcept {
    const std::lock_guard lock(mutex_);
    for (const auto& [key, handle] : handles_) {
        auto& state = *handle->inode;
        give_back(front, state.file, --state.handles == 0 && state.written.exchange(false));
    }
    handles_.clear();
}

std::vector<fuse_ino_t> HandleTable::may_be_dirty() const {
    const std::lock_guard lock(mutex_);
    std::vector<fuse_ino_t> found;
    for (const auto& [key, handle] : handles_) {
        if (handle->access == Access::cached && handle->may_write) {
            found.push_back(handle->inode->number);
        }
    }
    return found;
}

std::size_t HandleTable::size() const {
    const std::lock_guard lock(mutex_);
    return handles_.size();
}

}  // namespace safepair::replica::fuse_door
