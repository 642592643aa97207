#include "store/descriptor_cache.hpp"

#include <utility>

namespace safepair::replica {

DescriptorCache::Descriptor DescriptorCache::find(base::FileId file) {
    const std::lock_guard lock(mutex_);
    const auto found = entries_.find(file);
    if (found == entries_.end()) {
        return nullptr;
    }
    recent_.splice(recent_.begin(), recent_, found->second.place);
    return found->second.descriptor;
}

DescriptorCache::Descriptor DescriptorCache::insert(base::FileId file, base::UniqueFd fd) {
    auto descriptor = std::make_shared<base::UniqueFd>(std::move(fd));
    const std::lock_guard lock(mutex_);
    if (const auto found = entries_.find(file); found != entries_.end()) {
        return found->second.descriptor;
    }
    recent_.push_front(file);
    entries_.emplace(file, Entry{descriptor, recent_.begin()});
    evict_until(capacity_);
    return descriptor;
}

void DescriptorCache::keep(base::FileId file) {
    const std::lock_guard lock(mutex_);
    kept_.insert(file);
}

void DescriptorCache::stop_keeping(base::FileId file) {
    const std::lock_guard lock(mutex_);
    kept_.erase(file);
    evict_until(capacity_);
}

void DescriptorCache::drop(base::FileId file) {
    const std::lock_guard lock(mutex_);
    kept_.erase(file);
    if (const auto found = entries_.find(file); found != entries_.end()) {
        recent_.erase(found->second.place);
        entries_.erase(found);
    }
}

void DescriptorCache::shrink() {
    const std::lock_guard lock(mutex_);
    evict_until(entries_.size() / 2);
}

void DescriptorCache::evict_until(std::size_t count) {
    // The front is what the caller is about to use.
    auto place = recent_.end();
    while (entries_.size() > count && place != recent_.begin()) {
        --place;
        if (place == recent_.begin()) {
            return;
        }
        if (kept_.count(*place) == 0) {
            entries_.erase(*place);
            place = recent_.erase(place);
        }
    }
}

}  // namespace safepair::replica
