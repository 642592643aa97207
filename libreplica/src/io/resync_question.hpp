#pragma once

#include "core/resync_codec.hpp"
#include "io/resync_link.hpp"

#include <safepair/base/result.hpp>

#include <condition_variable>
#include <cstddef>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

namespace safepair::replica {

/// A question under way. The session's thread holds a share of the slot, because the asker may give
/// up first.
class PendingAnswer {
  public:
    static PendingAnswer ask(ResyncLink& link, const Question& question);
    /// Waits. At most once.
    [[nodiscard]] base::Result<std::vector<std::byte>> wait();

  private:
    struct Slot {
        std::mutex mutex;
        std::condition_variable arrived;
        std::optional<base::Result<std::vector<std::byte>>> answer;  // guarded by mutex
    };

    std::shared_ptr<Slot> slot_ = std::make_shared<Slot>();
};

}  // namespace safepair::replica
