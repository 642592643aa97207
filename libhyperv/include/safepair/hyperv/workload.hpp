#pragma once

#include <safepair/base/result.hpp>
#include <safepair/base/time.hpp>
#include <safepair/hyperv/virtual_machines.hpp>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

/// What a module protects: a VM, or a service of two executables. One life cycle for both. Calls
/// block; worker thread only.
namespace safepair::hyperv {

/// What a guard needs to stop it without us (R4).
struct GuardTarget {
    /// cgroup v2 directory that holds every process of it, empty when there is none.
    std::string cgroup;
    /// Emulator process, 0 when there is none.
    int process = 0;
};

class Workload {
  public:
    virtual ~Workload() = default;

    /// Brings it up from the folder (import and start of a VM; the start executable). The text is
    /// output for the event log.
    [[nodiscard]] virtual base::Result<std::string> start() = 0;
    /// normal stop with its deadline, then the forced one. The text says which was needed, with
    /// output.
    [[nodiscard]] virtual base::Result<std::string> stop() = 0;
    /// Off, without asking it; returns when nothing of it executes any more.
    [[nodiscard]] virtual base::Result<void> kill() = 0;
    /// Stops it from executing, in place (SIGSTOP, cgroup freezer, or the hypervisor's pause). Best
    /// effort.
    [[nodiscard]] virtual base::Result<void> pause() = 0;
    [[nodiscard]] virtual base::Result<void> resume() = 0;
    /// Whether anything of it executes on this node.
    [[nodiscard]] virtual base::Result<bool> running() = 0;
    /// "running", "off", ...: for the status table.
    [[nodiscard]] virtual std::string describe() = 0;
    [[nodiscard]] virtual GuardTarget guard_target() = 0;
    /// Can it run here? Empty when nothing was found.
    [[nodiscard]] virtual std::vector<Finding> preflight() = 0;
    /// `handler(detail)` when it ended by itself; on a thread of the workload.
    virtual void on_exit(std::function<void(const std::string& detail)> handler) = 0;
};

struct VmWorkloadOptions {
    ImportOptions vm;
    StopKind normal_stop = StopKind::stop;
    StopKind force_stop = StopKind::off;
    base::Duration normal_stop_deadline = std::chrono::seconds(300);
    base::Duration force_stop_deadline = std::chrono::seconds(60);
    /// A VM that somebody else starts on this node is turned off at once, and on_exit told so
    /// (R16).
    bool turn_off_foreign = true;
};

/// The VM is registered here from start to stop or kill only, so that nobody starts it by mistake
/// where it has no role; its configuration in the folder is what counts. Its end from inside
/// (shutdown, crash, power-off by another tool) is reported by on_exit, a reboot is not. pause
/// stops the emulator's process, without waiting for its disk; kill ends it the same way, also
/// while the folder is frozen or the hypervisor does not answer, and cuts a start or stop short.
/// `machines` outlives the workload; many workloads may share it.
[[nodiscard]] std::unique_ptr<Workload> make_vm_workload(VmWorkloadOptions options,
                                                         VirtualMachines& machines);

struct ServiceWorkloadOptions {
    std::string name;
    /// argv of the executables; run with the folder as FOLDER and "start"/"stop"/"force" appended
    /// as the last argument.
    std::vector<std::string> start;
    std::vector<std::string> stop;
    std::filesystem::path folder;
    base::Duration start_deadline = std::chrono::seconds(300);
    base::Duration stop_deadline = std::chrono::seconds(300);
    /// Below the v2 mount; two agents that share one need two of them. Empty: no cgroup is used.
    std::string cgroup_parent = "safepair";
    /// Node-local: remembers a service that left no process of its own, for the time until the next
    /// boot.
    std::filesystem::path state_directory = "/run/safepair";
};

/// The executables and whatever they leave running live in a cgroup v2 of their own
/// (`<cgroup_parent>/<name>` below the v2 mount); kill empties it. Where cgroup v2 is not writable
/// they are found by a mark in their environment, their sessions and their descent. The service
/// runs while its start executable succeeded and a process of it is left, or, when start left none,
/// until stop.
///
/// stop: the stop executable with "stop"; when it fails or its deadline passes, once more with
/// "force"; then what is left is killed. Without a stop executable its processes get SIGTERM and
/// the deadline. kill: SIGKILL for all of them; only a service that left none is asked, with
/// "force", because its processes are not ours. A kill cuts a start or stop short. Output beyond 64
/// KiB is left out in the middle. A new object of the same name finds what an earlier one left.
[[nodiscard]] std::unique_ptr<Workload> make_service_workload(ServiceWorkloadOptions options);

}  // namespace safepair::hyperv
