#pragma once

#include "core/block_plan.hpp"
#include "core/names_plan.hpp"
#include "io/resync_link.hpp"
#include "io/resync_progress.hpp"

#include <safepair/base/result.hpp>
#include <safepair/base/system_time.hpp>
#include <safepair/replica/dirty_map.hpp>
#include <safepair/replica/replicated_folder.hpp>
#include <safepair/replica/store.hpp>

#include <cstdint>
#include <functional>
#include <set>
#include <vector>

/// Brings a follower up to date while the application runs: first all names and attributes, with
/// the application held; then data, behind its writes; then the times, which the data changed.
namespace safepair::replica {

/// Sleeps.
void pause_thread(base::Duration duration);

struct ResyncOptions {
    SyncMode mode = SyncMode::full;
    /// Mean rate of data, 0 for no limit.
    std::uint64_t rate_bytes_per_second = 0;
    std::function<base::Instant()> now = base::boot_time_now;
    std::function<void(base::Duration)> sleep = pause_thread;
};

struct ResyncResult {
    /// Sent as data.
    std::uint64_t copied_bytes = 0;
    /// What had to be: the marked blocks, or those that differed, and files that were missing.
    std::uint64_t changed_bytes = 0;
};

/// The leader's side.
class Resync {
  public:
    /// `dirty`: the leader's map. `merge` is told the follower's map once, and keeps it durably
    /// before it returns (R10). Store and link outlive the object.
    Resync(ResyncOptions options,
           Store& mine,
           DirtyMap dirty,
           ResyncLink& link,
           std::function<base::Result<void>(const DirtyMap&)> merge);

    /// Blocks; once, on a worker thread. OK: the follower has everything that was different,
    /// durably. Errors: of the link, of reading this copy, of `merge`, Errc::cancelled,
    /// Errc::corrupt for a senseless answer; the follower then is neither the old nor the new copy.
    [[nodiscard]] base::Result<ResyncResult> run();

    /// Thread-safe.
    [[nodiscard]] Progress progress() const { return progress_.get(); }

  private:
    base::Result<ResyncResult> run_phases();
    base::Result<void> merge_maps();
    base::Result<Tree> fetch_tree();
    base::Result<void> sync_names();
    base::Result<void> send_step(const NamesStep& step);
    base::Result<void> send_xattrs(FileId file);
    base::Result<void> send_operation(const Operation& operation);
    base::Result<ResyncResult> sync_data();
    base::Result<void> sync_times(const std::set<FileId>& copied);
    base::Result<void> send_times(FileId file, bool copied);

    const ResyncOptions options_;
    Store& mine_;
    DirtyMap dirty_;
    ResyncLink& link_;
    const std::function<base::Result<void>(const DirtyMap&)> merge_;
    ResyncProgress progress_;
    std::vector<FileWork> work_;
    std::set<FileId> retimed_;
};

}  // namespace safepair::replica
