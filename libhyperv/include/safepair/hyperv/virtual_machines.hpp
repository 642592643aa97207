#pragma once

#include <safepair/base/result.hpp>
#include <safepair/base/time.hpp>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

/// One VM runs in exactly one place. VirtualMachines is the interface of a hypervisor on this node;
/// drivers: libvirt, and later Hyper-V. Calls block up to their deadline and belong on a worker
/// thread. Errors name the VM and carry the hypervisor's own reason.
namespace safepair::hyperv {

enum class VmState : std::uint8_t {
    absent,
    off,
    starting,
    running,
    paused,
    saved,
    stopping,
    crashed,
    unknown
};
[[nodiscard]] const char* to_string(VmState state) noexcept;

/// How a VM is brought down: ask the guest, keep its memory in a file, or cut the power.
enum class StopKind : std::uint8_t { stop, save, off };

/// What the guest's agent answered. `none`: no agent channel is configured; `unknown`: the
/// hypervisor could not be asked.
enum class GuestHeartbeat : std::uint8_t { ok, missing, none, unknown };

struct VmInfo {
    std::string name;
    std::string uuid;
    VmState state = VmState::absent;
    /// The emulator's process on this node, 0 when there is none (for the guard).
    int process = 0;
};

enum class Severity : std::uint8_t { information, warning, error };

/// One finding of a preflight: what, why it matters, what to do.
struct Finding {
    Severity severity = Severity::information;
    std::string code;
    std::string text;
    std::string remedy;
};

struct ImportOptions {
    std::string name;
    /// The replicated folder; the VM's configuration and every file it uses lie in it.
    std::filesystem::path folder;
    /// Node-local: where the driver keeps what must not be replicated.
    std::filesystem::path state_directory;
};

struct VmEvent {
    enum class Kind : std::uint8_t {
        started,
        stopped,
        crashed,
        paused,
        resumed,
        redefined,
        rebooted
    } kind = Kind::started;
    std::string name;
    /// The hypervisor's word: "shutdown", "destroyed", "crashed", "io-error".
    std::string detail;
};

/// A subscription to the events of one VM. After its destructor no call of the handler is running,
/// nor follows; only the handler itself may destroy it while it is called.
class VmWatch {
  public:
    virtual ~VmWatch() = default;
};

/// The VMs of a hypervisor on this node.
class VirtualMachines {
  public:
    virtual ~VirtualMachines() = default;

    /// By its name, or by its uuid. Errc::not_found when the hypervisor does not know it.
    [[nodiscard]] virtual base::Result<VmInfo> find(const std::string& name) = 0;
    /// Registers the VM in place from the configuration in the folder, same identity, autostart off
    /// (R16). Replaces a stale registration of the same identity; never touches a disk. From here
    /// to unregister or kill the configuration in the folder follows the registered one. Errors:
    /// Errc::not_found without a configuration in the folder; Errc::busy when the name belongs to
    /// another identity or the VM runs; Errc::bad_input for a configuration of another VM or of
    /// none; Errc::refused when a disk of it does not lie in the folder, where only one node would
    /// see what is written.
    [[nodiscard]] virtual base::Result<VmInfo> import(const ImportOptions& options) = 0;
    /// Brings the configuration in the folder up to date, unless the VM was killed, and forgets the
    /// registration. Never deletes data. Nothing to do when it is not registered. Errc::busy while
    /// it runs.
    [[nodiscard]] virtual base::Result<void> unregister(const std::string& name) = 0;
    /// Starts, or restores the state file that a save left in the folder. A state file whose disks
    /// are not exactly those it was saved with, or that cannot be restored, is set aside, and the
    /// VM boots. The text says what was done. Errc::busy when it runs.
    [[nodiscard]] virtual base::Result<std::string> start(const std::string& name) = 0;
    /// Returns when the VM is off (or saved). Errc::timed_out when the deadline passed first; the
    /// VM then still runs.
    [[nodiscard]] virtual base::Result<void> stop(const std::string& name,
                                                  StopKind kind,
                                                  base::Duration deadline) = 0;
    [[nodiscard]] virtual base::Result<void> pause(const std::string& name) = 0;
    [[nodiscard]] virtual base::Result<void> resume(const std::string& name) = 0;
    /// Cuts the power; succeeds when the VM is off afterwards. Touches no file in the folder, which
    /// may be frozen, and needs no hypervisor that answers. Errc::timed_out when its process cannot
    /// die, which it does as soon as its held writes are answered.
    [[nodiscard]] virtual base::Result<void> kill(const std::string& name) = 0;
    /// `absent` when the hypervisor does not know it.
    [[nodiscard]] virtual base::Result<VmState> state(const std::string& name) = 0;
    [[nodiscard]] virtual GuestHeartbeat heartbeat(const std::string& name) = 0;
    /// Names of the networks and bridges a VM can be connected to here.
    [[nodiscard]] virtual base::Result<std::vector<std::string>> switches() = 0;
    /// Could this VM run here, with every file it uses in `options.folder`? Worst findings first.
    [[nodiscard]] virtual base::Result<std::vector<Finding>> preflight(
        const ImportOptions& options) = 0;
    /// Calls `handler` on the driver's own thread, which it must not keep waiting, for every change
    /// of the VM while the result lives. After a connection was made or restored the VM's state is
    /// reported anew, as `started` or `stopped` with the detail "connected", because events may
    /// have been missed.
    [[nodiscard]] virtual std::unique_ptr<VmWatch> watch(
        const std::string& name, std::function<void(const VmEvent&)> handler) = 0;
};

}  // namespace safepair::hyperv
