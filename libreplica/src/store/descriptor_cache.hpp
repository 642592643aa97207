#pragma once

#include <safepair/base/ids.hpp>
#include <safepair/base/unique_fd.hpp>

#include <cstddef>
#include <list>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <unordered_set>

namespace safepair::replica {

/// Open descriptors by FileId, least recently used first out; what is kept never goes. A descriptor in use outlives its
/// eviction: callers hold a share of it. Thread-safe.
class DescriptorCache {
  public:
    using Descriptor = std::shared_ptr<base::UniqueFd>;

    explicit DescriptorCache(std::size_t capacity) : capacity_(capacity) {}

    /// Null when there is none.
    [[nodiscard]] Descriptor find(base::FileId file);
    /// The descriptor that is in the cache afterwards: when two threads opened the same file, the first one's.
    [[nodiscard]] Descriptor insert(base::FileId file, base::UniqueFd fd);
    /// From now on (until dropped or not kept) the descriptor of `file`, present or future, is not evicted.
    void keep(base::FileId file);
    void stop_keeping(base::FileId file);
    /// Forgets `file` wholly.
    void drop(base::FileId file);
    /// Evicts half of what may be evicted; for EMFILE.
    void shrink();

  private:
    struct Entry {
        Descriptor descriptor;
        std::list<base::FileId>::iterator place;
    };

    void evict_until(std::size_t count);

    const std::size_t capacity_;
    std::mutex mutex_;
    std::unordered_map<base::FileId, Entry> entries_;  // guarded by mutex_
    std::list<base::FileId> recent_;                   // guarded by mutex_; most recent first
    std::unordered_set<base::FileId> kept_;            // guarded by mutex_
};

}  // namespace safepair::replica
