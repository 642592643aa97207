#pragma once

#include "core/rate.hpp"

#include <safepair/base/time.hpp>
#include <safepair/replica/replicated_folder.hpp>

#include <cstdint>
#include <functional>
#include <mutex>
#include <string>

namespace safepair::replica {

/// What a running resync shows. Thread-safe.
class ResyncProgress {
  public:
    explicit ResyncProgress(std::function<base::Instant()> clock);

    void begin(SyncMode mode);
    void end();
    void set_total(std::uint64_t bytes);
    void set_file(std::string path);
    void add_done(std::uint64_t bytes);
    void add_copied(std::uint64_t bytes);
    [[nodiscard]] Progress get() const;

  private:
    const std::function<base::Instant()> clock_;
    mutable std::mutex mutex_;
    Progress progress_;  // guarded by mutex_
    RateMeter rate_;     // guarded by mutex_
};

}  // namespace safepair::replica
