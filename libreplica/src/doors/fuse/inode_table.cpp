#include "doors/fuse/inode_table.hpp"

#include <functional>

namespace safepair::replica::fuse_door {

InodeTable::InodeTable() {
    auto root = std::make_shared<Inode>(root_file, FUSE_ROOT_ID);
    // The kernel never forgets the root.
    root->lookups = 1;
    by_file_.emplace(root_file, root.get());
    by_number_.emplace(FUSE_ROOT_ID, std::move(root));
}

InodePtr InodeTable::find(fuse_ino_t number) const {
    const std::lock_guard lock(mutex_);
    const auto found = by_number_.find(number);
    return found == by_number_.end() ? nullptr : found->second;
}

InodePtr InodeTable::remember(FileId file) {
    const std::lock_guard lock(mutex_);
    if (const auto found = by_file_.find(file); found != by_file_.end()) {
        auto inode = by_number_.at(found->second->number);
        ++inode->lookups;
        return inode;
    }
    auto inode = std::make_shared<Inode>(file, next_);
    inode->lookups = 1;
    by_number_.emplace(next_, inode);
    by_file_.emplace(file, inode.get());
    ++next_;
    return inode;
}

void InodeTable::forget(fuse_ino_t number, std::uint64_t lookups) noexcept {
    const std::lock_guard lock(mutex_);
    const auto found = by_number_.find(number);
    if (found == by_number_.end() || number == FUSE_ROOT_ID) {
        return;
    }
    auto& inode = *found->second;
    inode.lookups -= std::min(inode.lookups, lookups);
    if (inode.lookups == 0) {
        by_file_.erase(inode.file);
        by_number_.erase(found);
    }
}

std::size_t InodeTable::size() const {
    const std::lock_guard lock(mutex_);
    return by_number_.size();
}

std::uint64_t visible_number(FileId file) noexcept {
    const auto number = std::hash<FileId>{}(file);
    // 0 means "no entry" to some programs, and the root of a FUSE mount is 1 by custom.
    return number <= FUSE_ROOT_ID ? FUSE_ROOT_ID : number;
}

}  // namespace safepair::replica::fuse_door
