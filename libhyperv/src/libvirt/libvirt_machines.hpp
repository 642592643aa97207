#pragma once

#include "../service/wake.hpp"
#include "connection.hpp"
#include "event_hub.hpp"
#include "follower.hpp"
#include "host_uri.hpp"

#include <safepair/hyperv/virtual_machines.hpp>

#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace safepair::hyperv {

/// A domain with the connection that it belongs to.
struct DomainReference {
    ConnectionHandle connection;
    DomainHandle domain;

    [[nodiscard]] virDomain* get() const noexcept { return domain.get(); }
};

class LibvirtMachines final : public VirtualMachines {
  public:
    LibvirtMachines(std::string uri, HostPlaces places);
    ~LibvirtMachines() override;
    LibvirtMachines(const LibvirtMachines&) = delete;
    LibvirtMachines& operator=(const LibvirtMachines&) = delete;

    base::Result<VmInfo> find(const std::string& name) override;
    base::Result<VmInfo> import(const ImportOptions& options) override;
    base::Result<void> unregister(const std::string& name) override;
    base::Result<std::string> start(const std::string& name) override;
    base::Result<void> stop(const std::string& name,
                            StopKind kind,
                            base::Duration deadline) override;
    base::Result<void> pause(const std::string& name) override;
    base::Result<void> resume(const std::string& name) override;
    base::Result<void> kill(const std::string& name) override;
    base::Result<VmState> state(const std::string& name) override;
    GuestHeartbeat heartbeat(const std::string& name) override;
    base::Result<std::vector<std::string>> switches() override;
    base::Result<std::vector<Finding>> preflight(const ImportOptions& options) override;
    std::unique_ptr<VmWatch> watch(const std::string& name,
                                   std::function<void(const VmEvent&)> handler) override;

  private:
    /// A VM between import and unregister.
    struct Imported {
        std::filesystem::path folder;
        std::string uuid;
        /// Shared with a call that is using it while another one ends the import.
        std::shared_ptr<Follower> follower;
    };

    base::Result<DomainReference> look_up(const std::string& name);
    base::Result<std::string> inactive_xml(const std::string& name);
    base::Result<VmState> state_of(const DomainReference& reference);
    std::optional<Imported> imported(const std::string& name) const;
    void remember(const ImportOptions& options, const std::string& uuid, std::string content);
    /// Ends following without waiting for a write that hangs in a frozen folder.
    void disown(const std::string& name);
    void retire(std::shared_ptr<Follower> follower);

    base::Result<std::string> boot(const DomainReference& reference, const std::string& name);
    base::Result<std::string> restore(const DomainReference& reference,
                                      const std::string& name,
                                      const Imported& vm);
    base::Result<void> stop_by_request(const std::string& name, base::Duration deadline);
    base::Result<void> stop_by_save(const std::string& name, base::Duration deadline);
    base::Result<void> stop_by_force(const std::string& name, base::Duration deadline);
    /// Waits until `name` is off; false when `deadline` passed first. `each` is called at least
    /// every `period`.
    base::Result<bool> wait_until_off(const std::string& name,
                                      base::Duration deadline,
                                      base::Duration period,
                                      const std::function<void()>& each);

    void dispatch();
    void report_states();

    const HostPlaces places_;
    EventHub hub_;
    const Wake dispatch_wake_;

    mutable std::mutex mutex_;
    // Guarded by mutex_.
    std::map<std::string, Imported> imported_;
    std::vector<std::shared_ptr<Follower>> retired_;
    std::deque<VmEvent> events_;
    /// Events were missed, or the connection was made: the states have to be reported.
    bool report_due_ = false;
    bool connect_due_ = false;
    bool ending_ = false;

    Connection connection_;
    std::thread dispatcher_;
};

/// What the preflight asks the host about; see preflight_facts.cpp.
base::Result<std::vector<Finding>> run_preflight(virConnect* connection,
                                                 const HostPlaces& places,
                                                 const ImportOptions& options,
                                                 bool started_by_us);

/// Active networks of the host and its bridges.
struct HostNetworks {
    std::vector<std::string> active;
    std::vector<std::string> inactive;
    std::vector<std::string> bridges;
    std::vector<std::string> interfaces;
};

[[nodiscard]] base::Result<HostNetworks> host_networks(virConnect* connection);

}  // namespace safepair::hyperv
