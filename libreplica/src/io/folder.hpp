#pragma once

#include "io/event_queue.hpp"
#include "io/folder_record.hpp"
#include "io/follower.hpp"
#include "io/leader.hpp"
#include "io/map_file.hpp"

#include <safepair/replica/door.hpp>
#include <safepair/replica/folder_place.hpp>
#include <safepair/replica/replicated_folder.hpp>

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>

namespace safepair::replica {

/// What the folder is made of besides the engine; tests put something small in its place.
struct FolderParts {
    std::function<base::Result<std::unique_ptr<Door>>(const FuseOptions&, Front&)> mount;
    std::function<base::Result<std::unique_ptr<Store>>(const std::filesystem::path&,
                                                       std::vector<FileId>* fresh)>
        open_store;
    MakeResync make_resync;
    MakeResponder make_responder;
};

/// The FUSE door and the real resync.
[[nodiscard]] FolderParts real_parts();

/// ReplicatedFolder over a FolderPlace, a Store, and a Leader or a Follower behind a door.
///
/// Role changes (open, close, archive, quiesce) come one at a time and may block; what concerns
/// sessions may come beside them. Lock order: control_mutex_, then mutex_.
class Folder final : public ReplicatedFolder, private ChannelAcceptor {
  public:
    Folder(FolderOptions options, FolderParts parts, FolderEvents& events);
    ~Folder() override;

    [[nodiscard]] MapState map_state() const override;
    [[nodiscard]] base::Result<void> open_leader(bool first_use) override;
    [[nodiscard]] base::Result<void> open_follower(bool first_use) override;
    [[nodiscard]] base::Result<void> close(bool clean) override;
    [[nodiscard]] base::Result<void> recover() override;

    void accept_session(SessionId session, std::uint64_t term) override;
    void connect_session(SessionId session,
                         std::uint64_t term,
                         const DataEndpoint& peer,
                         SyncMode mode) override;
    void drop_session(SessionId session) override;

    void release_held() override;
    void freeze() override;
    void thaw() override;
    void fail_held() override;

    [[nodiscard]] base::Result<std::uint64_t> quiesce(base::Duration deadline) override;
    [[nodiscard]] bool verify_applied(SessionId session, std::uint64_t sequence) override;
    [[nodiscard]] base::Result<void> finish_resync(SessionId session) override;
    [[nodiscard]] base::Result<void> archive_local(GenerationId name) override;

    [[nodiscard]] FolderStats stats() const override;

    [[nodiscard]] unsigned fuse_connection() const override { return connection_.load(); }

    [[nodiscard]] ChannelAcceptor& acceptor() override { return *this; }

  private:
    /// What is known of the differences while no engine runs.
    struct KnownMap {
        DirtyMap dirty;
        bool usable = false;
    };

    bool accept(const ChannelHello& hello, base::UniqueFd connection) override;

    // folder_place_steps.cpp
    [[nodiscard]] base::Result<void> prepare(bool first_use);
    [[nodiscard]] base::Result<void> check_place() const;
    [[nodiscard]] base::Result<void> check_identity(bool first_use);
    [[nodiscard]] base::Result<void> load_map(bool was_plain, const std::vector<FileId>& fresh);
    [[nodiscard]] base::Result<void> mark_changed_while_stopped();
    [[nodiscard]] base::Result<void> forget_saved_map();
    [[nodiscard]] base::Result<void> give_back();
    void give_back_unused();

    [[nodiscard]] base::Result<void> start_leader();
    [[nodiscard]] base::Result<void> start_follower();
    [[nodiscard]] base::Result<void> mount(Front& front, bool read_only);
    [[nodiscard]] base::Result<void> unmount(bool force);
    [[nodiscard]] base::Result<void> leave_leader(bool clean);
    [[nodiscard]] base::Result<void> leave_follower(bool finish);
    [[nodiscard]] std::shared_ptr<Leader> leader() const;
    [[nodiscard]] std::shared_ptr<Follower> follower() const;

    const FolderOptions options_;
    const FolderParts parts_;
    const FolderPlace place_;
    const FolderRecord record_;
    const std::filesystem::path manifest_file_;
    MapFile map_file_;  // guarded by control_mutex_
    EventQueue events_;

    std::mutex control_mutex_;
    std::unique_ptr<Store> store_;  // guarded by control_mutex_; outlives what works on it
    std::optional<base::GenerationId> folder_id_;  // guarded by control_mutex_
    bool was_plain_ = false;                       // guarded by control_mutex_

    mutable std::mutex mutex_;
    std::optional<KnownMap> known_;       // guarded by mutex_; nullopt: what the file says
    bool usable_ = false;                 // guarded by mutex_; of the running engine's map
    MapState saved_;                      // guarded by mutex_; what the file said
    std::shared_ptr<Leader> leader_;      // guarded by mutex_
    std::shared_ptr<Follower> follower_;  // guarded by mutex_

    std::unique_ptr<Door> door_;  // guarded by control_mutex_; ends before what is behind it
    std::atomic<unsigned> connection_{0};
};

}  // namespace safepair::replica
