#pragma once

#include "core/secondary.hpp"
#include "io/event_queue.hpp"
#include "io/resync_link.hpp"
#include "io/task_pool.hpp"

#include <safepair/base/unique_fd.hpp>
#include <safepair/replica/data_channel.hpp>
#include <safepair/replica/door.hpp>
#include <safepair/replica/replicated_folder.hpp>

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

namespace safepair::replica {

class FollowerSession;

using MakeResponder =
    std::function<std::unique_ptr<ResyncResponder>(Store& mine, std::function<DirtyMap()> my_map)>;

/// Takes the leader's records in their one sequence, carries them out, and acknowledges. One thread
/// applies, so that what overlaps keeps its order without locks; flushes run beside it, since each
/// covers at least what came before. What stands behind the follower's door is this as well: it
/// reads and never writes.
class Follower final : public Front {
  public:
    Follower(Store& store, DirtyMap dirty, EventQueue& events, MakeResponder make_responder);
    ~Follower() override;

    // Front
    void submit(const Operation& operation, Completion done) override;
    void fence(const Footprint& footprint, Completion done) override;

    [[nodiscard]] Store& store() noexcept override { return store_; }

    [[nodiscard]] base::Result<Space> space() override { return store_.space(); }

    void closed(FileId) noexcept override {}

    void expect(SessionId session, std::uint64_t term);
    /// False: not the expected session, or it has its channel already.
    [[nodiscard]] bool accept(const ChannelHello& hello, base::UniqueFd connection);
    void drop(SessionId session);
    [[nodiscard]] bool verify_applied(SessionId session, std::uint64_t sequence);

    /// Ends the session, applies what is left to apply, sets the times that are due, flushes (R25).
    /// Then this copy is all it can be. Errors: of the store.
    [[nodiscard]] base::Result<void> finish();
    /// Ends the session; no thread of ours runs any more. Idempotent.
    void stop();
    /// Own changes from an earlier time as leader.
    [[nodiscard]] DirtyMap dirty() const;
    /// A resync ended here: the map covers every difference.
    [[nodiscard]] bool completed() const;
    /// The same with what is not flushed.
    [[nodiscard]] DirtyMap uncertain() const;
    void add_stats(FolderStats& stats) const;

  private:
    friend class FollowerSession;

    struct Expected {
        SessionId session;
        std::uint64_t term = 0;
    };

    void run_upkeep();
    [[nodiscard]] base::Result<void> flush_everything();
    /// Under mutex_: the running session no longer counts.
    void let_go();

    Store& store_;
    EventQueue& events_;
    const MakeResponder make_responder_;

    mutable std::mutex mutex_;
    Secondary core_;                            // guarded by mutex_
    std::optional<Expected> expected_;          // guarded by mutex_
    std::shared_ptr<FollowerSession> session_;  // guarded by mutex_; the one that counts
    std::shared_ptr<FollowerSession> last_;     // guarded by mutex_; joins the ones before it
    bool stopped_ = false;                      // guarded by mutex_

    std::mutex upkeep_mutex_;
    std::condition_variable upkeep_wake_;
    bool upkeep_ended_ = false;  // guarded by upkeep_mutex_

    TaskPool flushes_;
    std::thread upkeep_;
};

}  // namespace safepair::replica
