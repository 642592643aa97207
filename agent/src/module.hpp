#pragma once

#include "config.hpp"
#include "event_log.hpp"
#include "lane.hpp"

#include <safepair/cluster/failure_detector.hpp>
#include <safepair/cluster/heartbeat.hpp>
#include <safepair/cluster/lineage_store.hpp>
#include <safepair/cluster/role_machine.hpp>
#include <safepair/guard/guard_page.hpp>
#include <safepair/hyperv/workload.hpp>
#include <safepair/replica/replicated_folder.hpp>

#include <asio/io_context.hpp>
#include <asio/steady_timer.hpp>

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

namespace safepair::agent {

/// What people and the other node are shown of one module on this node.
struct ModuleSnapshot {
    std::string module;
    std::string kind;
    std::filesystem::path folder;
    cluster::RoleView view;
    replica::FolderStats stats;
    std::string service;
    /// Wall clock of view.since.
    base::WallNanoseconds since = 0;
    /// The same for the peer's visible state, when this node saw it change.
    base::WallNanoseconds peer_since = 0;
};

/// What a module needs of the agent around it. Everything here outlives the module.
struct ModuleContext {
    asio::io_context& loop;
    EventLog& events;
    guard::GuardPage* guard = nullptr;
    const ClusterConfig& cluster;
    base::NodeId node;
    base::Incarnation incarnation;
    base::BootId boot;
    replica::ChannelKey channel_key{};
    std::filesystem::path state_directory;
    /// Called on the loop after each change of the status: shows it to the peer on every channel.
    std::function<void(const std::string& module, const cluster::PeerStatus&)> publish;
    /// Called on the loop at each pulse of the module, after the guard was told that we live.
    std::function<void(const std::string& module, const cluster::PeerStatus&)> pulse;
    /// Called from any thread when a snapshot changed.
    std::function<void()> changed;
    /// The hypervisor behind a URI; shared by the modules that use it.
    std::function<base::Result<hyperv::VirtualMachines*>(const std::string& uri)> machines;
    /// Whether each replication listener of this agent dispatches for us.
    std::function<void(const std::string& module, replica::ChannelAcceptor&)> listen;
    std::function<void(const std::string& module)> unlisten;
    replica::FolderFaults faults;
};

/// One protected VM or service on this node: the only place where the three libraries meet. It owns
/// a role machine, feeds it events, and carries its actions out on the lanes; it has no opinion of
/// its own. All members marked "loop" are touched on the agent's loop only.
class Module final : private replica::FolderEvents {
  public:
    using ReplyHandler = std::function<void(cluster::Outcome, const std::string& message)>;

    Module(ModuleConfig config, ModuleContext context);
    ~Module() override;
    Module(const Module&) = delete;
    Module& operator=(const Module&) = delete;

    /// Kills what an earlier agent left running, removes its dead mount, loads the records. Before
    /// the first heartbeat (R4). Blocks. When something of it fails the module is shown with the
    /// reason, sends no heartbeat, and is prepared again by and by: one module must not keep the
    /// others of the node down.
    void prepare();

    /// Whether prepare() succeeded. Thread-safe.
    [[nodiscard]] bool prepared() const noexcept { return prepared_.load(); }

    /// Loop: begins pulses; starts the module when its boot setting says so.
    void begin();
    /// Loop: no more pulses.
    void end();

    /// Thread-safe. `reply` is called once, on the loop.
    void command(cluster::OperatorCommand command, ReplyHandler reply);
    /// Thread-safe: an authentic status of the peer.
    void peer_status(const cluster::PeerStatus& status);
    /// Thread-safe: an authentic frame of the peer arrived on this channel.
    void heard(const std::string& channel);

    [[nodiscard]] ModuleSnapshot snapshot() const;

    [[nodiscard]] const ModuleConfig& config() const noexcept { return config_; }

    [[nodiscard]] const base::NodeId& peer() const noexcept { return peer_; }

    /// Thread-safe copy of what the peer is shown now.
    [[nodiscard]] cluster::PeerStatus status() const;
    /// Link states towards the peer as the detector sees them.
    [[nodiscard]] std::map<std::string, cluster::LinkState> links() const;
    /// Writes one line to the event log.
    void log(const std::string& kind, const std::string& text, const std::string& output = {});

  private:
    [[nodiscard]] base::Result<void> try_prepare();

    // replica::FolderEvents, from the folder's threads
    void session_opened(base::SessionId session) override;
    void session_lost(base::SessionId session, const std::string& why, bool apply_failed) override;
    void resync_finished(base::SessionId session) override;
    void local_store_failed(const std::string& why) override;
    void note(const std::string& text) override;
    void peer_heard() override;

    /// Thread-safe: queue an event for the machine.
    void post(cluster::Event event);
    /// Loop: step and carry out.
    void handle(const cluster::Event& event);
    void on_pulse();
    void schedule_pulse();
    void note_verdict(const cluster::DetectorVerdict& verdict);
    void extend_guard(base::Instant now);
    void refresh();

    void perform(const cluster::SaveLineage& action);
    void perform(const cluster::PublishStatus& action);
    void perform(const cluster::OpenStorage& action);
    void perform(const cluster::CloseStorage& action);
    void perform(const cluster::AcceptSession& action);
    void perform(const cluster::ConnectSession& action);
    void perform(const cluster::DropSession& action);
    void perform(const cluster::ReleaseHeld& action);
    void perform(const cluster::FreezeStorage& action);
    void perform(const cluster::ThawStorage& action);
    void perform(const cluster::FailHeld& action);
    void perform(const cluster::Quiesce& action);
    void perform(const cluster::VerifyApplied& action);
    void perform(const cluster::FinishResync& action);
    void perform(const cluster::ArchiveLocal& action);
    void perform(const cluster::StartService& action);
    void perform(const cluster::StopService& action);
    void perform(const cluster::KillService& action);
    void perform(const cluster::PauseService& action);
    void perform(const cluster::ResumeService& action);
    void perform(const cluster::Reply& action);
    void perform(const cluster::Transition& action);

    /// How long before the peer may take over the guard must have stopped the service (R4).
    [[nodiscard]] base::Duration guard_margin() const;
    /// False: the service must not run, because nobody would stop it.
    [[nodiscard]] bool arm_guard(std::uint64_t kills_before);
    void disarm_guard();
    void remember_wanted(bool wanted);
    [[nodiscard]] bool was_wanted() const;
    void log_workload(const char* what, const base::Result<std::string>& result);

    const ModuleConfig config_;
    const ModuleContext context_;
    const base::NodeId peer_;
    const std::filesystem::path directory_;

    // Written by prepare(); the others look at them once prepared_ is set.
    std::atomic<bool> prepared_{false};
    std::unique_ptr<cluster::LineageStore> lineage_store_;
    std::unique_ptr<replica::ReplicatedFolder> folder_;
    std::unique_ptr<hyperv::Workload> workload_;

    std::unique_ptr<cluster::RoleMachine> machine_;  // then loop

    // loop
    std::unique_ptr<cluster::FailureDetector> detector_;
    asio::steady_timer timer_;
    std::map<std::uint64_t, ReplyHandler> replies_;
    std::uint64_t next_command_ = 1;
    std::uint64_t connect_attempts_ = 0;
    bool ended_ = false;

    std::atomic<bool> guard_armed_{false};
    std::mutex guard_mutex_;
    std::uint64_t kills_ = 0;  // guarded by guard_mutex_

    mutable std::mutex mutex_;
    ModuleSnapshot snapshot_;                          // guarded by mutex_
    cluster::PeerStatus status_;                       // guarded by mutex_
    std::map<std::string, cluster::LinkState> links_;  // guarded by mutex_

    // Effects, in the order of their kinds; a lane runs its jobs one by one. Last members: their
    // threads use the others.
    Lane lineage_lane_;
    Lane session_lane_;
    Lane storage_lane_;
    Lane service_lane_;
    Lane urgent_lane_;
};

}  // namespace safepair::agent
