#pragma once

#include "io/resync_link.hpp"

#include <safepair/base/result.hpp>
#include <safepair/replica/dirty_map.hpp>
#include <safepair/replica/replicated_folder.hpp>

#include <cstdint>
#include <functional>
#include <memory>

namespace safepair::replica {

/// How the engine sees a resync; made anew for each session, so that tests can put something small
/// in its place.
class ResyncDriver {
  public:
    struct Summary {
        std::uint64_t copied_bytes = 0;
        std::uint64_t changed_bytes = 0;
    };

    virtual ~ResyncDriver() = default;
    /// Blocks until the follower has everything, or the link is cancelled.
    [[nodiscard]] virtual base::Result<Summary> run() = 0;
    /// Thread-safe.
    [[nodiscard]] virtual Progress progress() const = 0;
};

struct ResyncInput {
    SyncMode mode = SyncMode::full;
    Store& store;
    /// The leader's map when the resync begins.
    DirtyMap dirty;
    ResyncLink& link;
    /// Takes the follower's map into the leader's (R10).
    std::function<base::Result<void>(const DirtyMap&)> merge;
};

using MakeResync = std::function<std::unique_ptr<ResyncDriver>(ResyncInput)>;

}  // namespace safepair::replica
