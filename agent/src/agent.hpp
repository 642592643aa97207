#pragma once

#include "config.hpp"
#include "event_log.hpp"
#include "identity.hpp"
#include "lane.hpp"
#include "module.hpp"
#include "peer_client.hpp"

#include <safepair/base/unique_fd.hpp>
#include <safepair/cluster/heartbeat.hpp>
#include <safepair/guard/guard_page.hpp>
#include <safepair/guard/guard_process.hpp>
#include <safepair/hyperv/virtual_machines.hpp>
#include <safepair/replica/data_channel.hpp>
#include <safepair/v1/control.pb.h>

#include <asio/executor_work_guard.hpp>
#include <asio/io_context.hpp>
#include <asio/signal_set.hpp>
#include <asio/steady_timer.hpp>

#include <condition_variable>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

namespace grpc {
class ClientContext;
class Server;
class Service;
}  // namespace grpc

namespace safepair::agent {

struct AgentOptions {
    std::filesystem::path config = "/etc/safepair";
    std::filesystem::path identity = "/etc/safepair/identity";
    std::filesystem::path state = "/var/lib/safepair";
    std::filesystem::path runtime = "/run/safepair";
    /// Name of this node in cluster.yaml.
    std::string node;
    /// The safe-guard executable; empty: beside this one.
    std::filesystem::path guard;
    /// Set by test-only executables.
    replica::FolderFaults faults;
};

struct CommandWaiter;

/// One node: its modules, what they share, and its doors for operators and for the other node.
class Agent {
  public:
    explicit Agent(AgentOptions options);
    ~Agent();
    Agent(const Agent&) = delete;
    Agent& operator=(const Agent&) = delete;

    /// Loads everything, prepares the modules, opens the services. Errors name file, line and
    /// field, or the address in use.
    [[nodiscard]] base::Result<void> start();
    /// Runs until SIGTERM or SIGINT, then stops the modules and returns.
    void run();

    // For the services; thread-safe.
    [[nodiscard]] v1::StatusReply status(const v1::StatusRequest& request) const;
    [[nodiscard]] v1::ListModulesReply modules() const;
    /// Carries the verb out here, or on the other node when the request names it; blocks until the
    /// end or `deadline`. Errors: Errc::not_found, Errc::bad_input, Errc::peer_unreachable,
    /// Errc::timed_out.
    [[nodiscard]] base::Result<v1::CommandReply> command(
        v1::CommandRequest request, std::chrono::system_clock::time_point deadline, bool relay);
    [[nodiscard]] v1::PeerStatuses exchange(const std::string& from,
                                            const v1::PeerStatuses& statuses);

    [[nodiscard]] EventLog& events() noexcept { return *events_; }

    [[nodiscard]] const std::string& node() const noexcept { return options_.node; }

    [[nodiscard]] bool is_node(const std::string& name) const;
    /// A connection to `node` that answers now, or any; nullptr when it is not another node of the
    /// cluster.
    [[nodiscard]] v1::Peer::Stub* peer_stub(const std::string& node) const;

    /// Waits until something of the status changed after `seen`, or `timeout`; the new version.
    [[nodiscard]] std::uint64_t wait_for_change(std::uint64_t seen,
                                                std::chrono::milliseconds timeout) const;

  private:
    [[nodiscard]] base::Result<void> load();
    [[nodiscard]] base::Result<void> take_lock();
    [[nodiscard]] base::Result<void> start_guard();
    [[nodiscard]] base::Result<void> start_transports();
    [[nodiscard]] base::Result<void> start_links();
    [[nodiscard]] base::Result<void> start_services();
    [[nodiscard]] ModuleContext module_context(const base::BootId& boot);
    void warn_of_expiry();
    [[nodiscard]] base::Result<v1::CommandReply> relay(
        const v1::CommandRequest& request, std::chrono::system_clock::time_point deadline);
    /// Answers every command that still waits: nobody carries it out any more.
    void give_up_commands();
    void check_guard();
    [[nodiscard]] std::string status_line() const;
    [[nodiscard]] base::Result<hyperv::VirtualMachines*> machines(const std::string& uri);
    void show(const std::string& module, const cluster::PeerStatus& status, bool now);
    [[nodiscard]] v1::PeerStatuses statuses_for(const std::string& peer) const;
    void take(const std::string& from,
              const std::string& channel,
              const v1::PeerStatuses& statuses);
    void changed();
    void shut_down();
    void pet_watchdog();
    [[nodiscard]] Module* find(const std::string& name) const;

    AgentOptions options_;
    /// Held while this agent lives.
    base::UniqueFd lock_;
    ClusterConfig cluster_;
    std::vector<ModuleConfig> module_configs_;
    std::unique_ptr<Identity> identity_;
    std::unique_ptr<EventLog> events_;
    std::unique_ptr<guard::GuardPage> guard_page_;
    std::unique_ptr<guard::GuardProcess> guard_process_;
    base::Incarnation incarnation_;

    asio::io_context loop_;
    asio::signal_set signals_;
    asio::steady_timer watchdog_;
    bool stopping_ = false;        // loop
    std::string shown_status_;     // loop; what systemd shows
    bool guard_starting_ = false;  // loop; again, because it was gone

    std::mutex machines_mutex_;
    std::map<std::string, std::unique_ptr<hyperv::VirtualMachines>>
        machines_;  // guarded by machines_mutex_

    std::vector<std::unique_ptr<replica::DataListener>> listeners_;
    std::map<std::string, std::unique_ptr<Module>> modules_;  // constant after start()
    std::map<std::string, std::unique_ptr<cluster::HeartbeatTransport>>
        transports_;                                                           // by peer node
    std::map<std::string, std::vector<std::unique_ptr<PeerClient>>> clients_;  // by peer node
    std::map<std::string, base::Instant> last_exchange_;                       // loop; by peer node

    std::vector<std::unique_ptr<grpc::Service>> services_;
    std::vector<std::unique_ptr<grpc::Server>> servers_;

    std::mutex commands_mutex_;
    bool ended_ = false;                     // guarded by commands_mutex_
    std::set<CommandWaiter*> waiters_;       // guarded by commands_mutex_
    std::set<grpc::ClientContext*> relays_;  // guarded by commands_mutex_

    mutable std::mutex change_mutex_;
    mutable std::condition_variable change_;
    std::uint64_t version_ = 1;  // guarded by change_mutex_

    // Last member: its thread uses the others.
    Lane chores_;
};

}  // namespace safepair::agent
