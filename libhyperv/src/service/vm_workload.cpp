// A VM as a workload: registered here while it has to run here, and watched for what others do to
// it.
#include "../core/domain_description.hpp"
#include "../core/domain_states.hpp"
#include "../libvirt/emulator.hpp"
#include "../libvirt/folder_files.hpp"
#include "wake.hpp"

#include <safepair/base/system_time.hpp>
#include <safepair/hyperv/workload.hpp>

#include <fmt/format.h>

#include <csignal>
#include <mutex>
#include <thread>
#include <utility>

namespace safepair::hyperv {

namespace {

/// A start that was cut short ends within this time, unless the folder holds it up.
constexpr base::Duration settle_limit = std::chrono::seconds(30);
/// The event of an end that was seen in the state; then it was missed.
constexpr base::Duration event_limit = std::chrono::seconds(2);
constexpr base::Duration settle_look = std::chrono::milliseconds(200);

enum class Phase : std::uint8_t { off, starting, running, stopping };

const char* to_string(StopKind kind) noexcept {
    switch (kind) {
        case StopKind::stop:
            return "stop";
        case StopKind::save:
            return "save";
        case StopKind::off:
            return "off";
    }
    return "?";
}

std::string seconds_since(base::Instant begin) {
    const auto passed = std::chrono::duration<double>(base::boot_time_now() - begin).count();
    return fmt::format("{:.1f} s", passed);
}

/// The emulator, held so that its number cannot come to mean another process.
struct Emulator {
    int pid = 0;
    base::UniqueFd fd;
};

class VmWorkload final : public Workload {
  public:
    VmWorkload(VmWorkloadOptions options, VirtualMachines& machines)
        : options_(std::move(options)),
          machines_(machines),
          name_(options_.vm.name),
          uuid_file_(is_valid_vm_name(name_) && !options_.vm.state_directory.empty()
                         ? options_.vm.state_directory / (name_ + ".uuid")
                         : std::filesystem::path()),
          worker_([this] { work(); }),
          watch_(machines_.watch(name_, [this](const VmEvent& event) { on_event(event); })) {}

    ~VmWorkload() override {
        watch_.reset();
        {
            const std::lock_guard lock(mutex_);
            ending_ = true;
        }
        wake_.raise();
        worker_.join();
    }

    VmWorkload(const VmWorkload&) = delete;
    VmWorkload& operator=(const VmWorkload&) = delete;

    base::Result<std::string> start() override;
    base::Result<std::string> stop() override;
    base::Result<void> kill() override;
    base::Result<void> pause() override;
    base::Result<void> resume() override;
    base::Result<bool> running() override;
    std::string describe() override;
    GuardTarget guard_target() override;
    std::vector<Finding> preflight() override;

    void on_exit(std::function<void(const std::string& detail)> handler) override {
        const std::lock_guard lock(mutex_);
        handler_ = std::move(handler);
    }

  private:
    std::uint64_t enter(Phase phase);
    void leave(Phase phase);
    /// False when a kill came first.
    bool begin_creating(std::uint64_t generation);
    void end_creating();
    bool was_killed_since(std::uint64_t generation);
    base::Result<std::string> start_imported(std::uint64_t generation);
    base::Result<std::string> bring_down(std::uint64_t generation);
    /// Drops the registration; what went wrong, as a line for the log.
    std::string drop_registration();

    void hold_emulator();
    std::shared_ptr<const Emulator> emulator();

    void on_event(const VmEvent& event);
    void work();
    /// False when an end was seen whose event is still on its way.
    bool reconcile(bool patient);
    void report(const std::string& detail);

    const VmWorkloadOptions options_;
    VirtualMachines& machines_;
    const std::string name_;
    /// Remembers the identity for the time when the folder is closed.
    const std::filesystem::path uuid_file_;
    const Wake wake_;
    const Wake created_;

    std::mutex mutex_;
    // Guarded by mutex_.
    std::function<void(const std::string&)> handler_;
    Phase phase_ = Phase::off;
    bool creating_ = false;
    bool paused_ = false;
    /// Why the hypervisor itself paused it; empty when it did not.
    std::string held_;
    std::string last_detail_;
    bool ending_ = false;
    /// Kills so far: who began before the last one was cut short by it.
    std::uint64_t generation_ = 0;
    /// Shared with whoever is signalling it.
    std::shared_ptr<const Emulator> emulator_;

    std::thread worker_;
    std::unique_ptr<VmWatch> watch_;
};

std::uint64_t VmWorkload::enter(Phase phase) {
    const std::lock_guard lock(mutex_);
    phase_ = phase;
    last_detail_.clear();
    return generation_;
}

void VmWorkload::leave(Phase phase) {
    {
        const std::lock_guard lock(mutex_);
        phase_ = phase;
        if (phase == Phase::off) {
            paused_ = false;
            held_.clear();
            emulator_.reset();
        }
    }
    // What happened meanwhile was not looked at.
    wake_.raise();
}

bool VmWorkload::was_killed_since(std::uint64_t generation) {
    const std::lock_guard lock(mutex_);
    return generation_ != generation;
}

bool VmWorkload::begin_creating(std::uint64_t generation) {
    const std::lock_guard lock(mutex_);
    if (generation_ != generation) {
        return false;
    }
    creating_ = true;
    created_.clear();
    return true;
}

void VmWorkload::end_creating() {
    const std::lock_guard lock(mutex_);
    creating_ = false;
    created_.raise();
}

void VmWorkload::hold_emulator() {
    const auto found = machines_.find(name_);
    if (!found || found->process <= 0) {
        return;
    }
    auto held = std::make_shared<Emulator>(Emulator{found->process, open_process(found->process)});
    const std::lock_guard lock(mutex_);
    emulator_ = std::move(held);
}

std::shared_ptr<const Emulator> VmWorkload::emulator() {
    const std::lock_guard lock(mutex_);
    return emulator_;
}

std::string VmWorkload::drop_registration() {
    const auto dropped = machines_.unregister(name_);
    return dropped ? std::string() : "\n" + dropped.error().message();
}

base::Result<std::string> VmWorkload::start_imported(std::uint64_t generation) {
    if (!begin_creating(generation)) {
        return base::error(base::Errc::cancelled,
                           fmt::format("VM {}: its start was cut short by a kill", name_));
    }
    auto started = machines_.start(name_);
    if (started) {
        hold_emulator();
    }
    end_creating();
    if (!was_killed_since(generation)) {
        return started;
    }
    // The kill may have come before there was anything to kill.
    SAFEPAIR_CHECK(machines_.kill(name_));
    return base::error(base::Errc::cancelled,
                       fmt::format("VM {}: its start was cut short by a kill", name_));
}

base::Result<std::string> VmWorkload::start() {
    const auto generation = enter(Phase::starting);
    const auto imported = machines_.import(options_.vm);
    if (!imported) {
        leave(Phase::off);
        return imported.error();
    }
    if (!uuid_file_.empty()) {
        static_cast<void>(write_atomically(uuid_file_, imported->uuid + "\n"));
    }
    const auto begin = base::boot_time_now();
    const auto started = start_imported(generation);
    if (!started) {
        const auto left = drop_registration();
        leave(Phase::off);
        auto error = started.error();
        error.context += left;
        return error;
    }
    leave(Phase::running);
    return fmt::format("VM {}: imported from {}, {} ({})",
                       name_,
                       options_.vm.folder.string(),
                       *started,
                       seconds_since(begin));
}

base::Result<std::string> VmWorkload::bring_down(std::uint64_t generation) {
    std::string text;

    struct Attempt {
        StopKind kind;
        base::Duration deadline;
    };

    for (const auto& attempt : {Attempt{options_.normal_stop, options_.normal_stop_deadline},
                                Attempt{options_.force_stop, options_.force_stop_deadline}}) {
        const auto begin = base::boot_time_now();
        const auto stopped = machines_.stop(name_, attempt.kind, attempt.deadline);
        if (was_killed_since(generation)) {
            return text + "cut short by a kill";
        }
        if (stopped) {
            return text + fmt::format("'{}' brought it down in {}",
                                      to_string(attempt.kind),
                                      seconds_since(begin));
        }
        text +=
            fmt::format("'{}' failed: {}\n", to_string(attempt.kind), stopped.error().message());
    }
    if (const auto killed = machines_.kill(name_); !killed) {
        return killed.error().within(text);
    }
    return text + "killed";
}

base::Result<std::string> VmWorkload::stop() {
    const auto generation = enter(Phase::stopping);
    static_cast<void>(resume());
    const auto down = bring_down(generation);
    if (!down) {
        leave(Phase::running);
        return down.error();
    }
    const auto left = was_killed_since(generation) ? std::string() : drop_registration();
    leave(Phase::off);
    return fmt::format("VM {}: {}{}", name_, *down, left);
}

base::Result<void> VmWorkload::kill() {
    std::shared_ptr<const Emulator> held;
    {
        const std::lock_guard lock(mutex_);
        ++generation_;
        phase_ = Phase::stopping;
        held = emulator_;
    }
    if (held) {
        send_signal(held->fd, SIGKILL);
    }
    auto killed = machines_.kill(name_);
    const auto end = base::boot_time_now() + settle_limit;
    const auto is_creating = [this] {
        const std::lock_guard lock(mutex_);
        return creating_;
    };
    // A start that was on its way may have made it after the kill.
    while (is_creating() && base::boot_time_now() < end) {
        created_.wait(settle_look);
        killed = machines_.kill(name_);
    }
    if (killed && is_creating()) {
        killed = base::error(
            base::Errc::timed_out,
            fmt::format("VM {}: a start of it is still on its way in the hypervisor", name_));
    }
    if (!killed) {
        // It counts as running, so that its end is reported.
        leave(Phase::running);
        return killed.error();
    }
    // Best effort: it is off, and the next start replaces a registration that is left.
    static_cast<void>(machines_.unregister(name_));
    leave(Phase::off);
    return {};
}

base::Result<void> VmWorkload::pause() {
    if (!emulator()) {
        hold_emulator();
    }
    const auto held = emulator();
    {
        const std::lock_guard lock(mutex_);
        paused_ = true;
    }
    // Not the hypervisor's pause: that waits for the disk, which is frozen when this is called.
    if (held && held->fd) {
        if (!send_signal(held->fd, SIGSTOP)) {
            return base::error_from_errno(
                errno, fmt::format("cannot stop process {} of VM {}", held->pid, name_));
        }
        return {};
    }
    return machines_.pause(name_);
}

base::Result<void> VmWorkload::resume() {
    {
        const std::lock_guard lock(mutex_);
        if (!std::exchange(paused_, false)) {
            return {};
        }
    }
    const auto held = emulator();
    if (held && held->fd) {
        if (!send_signal(held->fd, SIGCONT)) {
            return base::error_from_errno(
                errno, fmt::format("cannot continue process {} of VM {}", held->pid, name_));
        }
        return {};
    }
    return machines_.resume(name_);
}

base::Result<bool> VmWorkload::running() {
    auto uuid = uuid_file_.empty()
                    ? std::string()
                    : canonical_uuid(read_file(uuid_file_, 4096).value_or(std::string()));
    for (const auto& identity : {name_, uuid}) {
        if (identity.empty()) {
            continue;
        }
        const auto found = machines_.find(identity);
        if (found && is_active(found->state)) {
            return true;
        }
        if (!found && found.error().code != base::Errc::not_found) {
            return found.error();
        }
    }
    return false;
}

std::string VmWorkload::describe() {
    const std::lock_guard lock(mutex_);
    switch (phase_) {
        case Phase::off:
            return "off";
        case Phase::starting:
            return "starting";
        case Phase::stopping:
            return "stopping";
        case Phase::running:
            break;
    }
    if (!held_.empty()) {
        return "paused (" + held_ + ")";
    }
    return paused_ ? "paused" : "running";
}

GuardTarget VmWorkload::guard_target() {
    GuardTarget target;
    if (const auto held = emulator()) {
        target.process = held->pid;
    } else if (const auto found = machines_.find(name_)) {
        target.process = found->process;
    }
    return target;
}

std::vector<Finding> VmWorkload::preflight() {
    auto findings = machines_.preflight(options_.vm);
    if (!findings) {
        return {{Severity::error,
                 "hypervisor-unreachable",
                 findings.error().message(),
                 "start it ('systemctl start libvirtd') and look into its log"}};
    }
    return std::move(*findings);
}

void VmWorkload::on_event(const VmEvent& event) {
    {
        const std::lock_guard lock(mutex_);
        switch (event.kind) {
            case VmEvent::Kind::stopped:
            case VmEvent::Kind::crashed:
                // A state that is reported anew says nothing of how it came about.
                if (event.detail != "connected") {
                    last_detail_ = event.detail;
                }
                break;
            case VmEvent::Kind::paused:
                held_ = event.detail;
                return;
            case VmEvent::Kind::resumed:
                held_.clear();
                return;
            case VmEvent::Kind::started:
                held_.clear();
                break;
            case VmEvent::Kind::redefined:
            case VmEvent::Kind::rebooted:
                return;
        }
    }
    wake_.raise();
}

void VmWorkload::report(const std::string& detail) {
    std::function<void(const std::string&)> handler;
    {
        const std::lock_guard lock(mutex_);
        handler = handler_;
    }
    if (handler) {
        handler(detail);
    }
}

bool VmWorkload::reconcile(bool patient) {
    Phase phase{};
    std::uint64_t generation = 0;
    {
        const std::lock_guard lock(mutex_);
        phase = phase_;
        generation = generation_;
    }
    if (phase == Phase::starting || phase == Phase::stopping) {
        return true;
    }
    // An event may be older than what was done since, so the state decides.
    const auto found = machines_.find(name_);
    if (!found && found.error().code != base::Errc::not_found) {
        return true;
    }
    const auto state = found ? found->state : VmState::absent;
    std::string detail;
    {
        const std::lock_guard lock(mutex_);
        if (phase_ != phase || generation_ != generation) {
            return true;
        }
        if (phase == Phase::running && (!is_active(state) || state == VmState::crashed)) {
            if (last_detail_.empty() && patient) {
                return false;
            }
            phase_ = Phase::off;
            emulator_.reset();
            paused_ = false;
            detail = last_detail_.empty() ? "ended unseen" : last_detail_;
        }
    }
    if (!detail.empty()) {
        // A guest that crashed may be kept for inspection; it holds its disks until it is gone.
        if (is_active(state)) {
            static_cast<void>(machines_.kill(name_));
        }
        report(detail);
    } else if (phase == Phase::off && is_active(state) && options_.turn_off_foreign) {
        const auto killed = machines_.kill(name_);
        report(killed ? "started without the role, turned off"
                      : "started without the role, and cannot be turned off: " +
                            killed.error().message());
    }
    return true;
}

void VmWorkload::work() {
    bool settled = true;
    for (;;) {
        const bool woken = wake_.wait(settled ? base::Duration(-1) : event_limit);
        wake_.clear();
        {
            const std::lock_guard lock(mutex_);
            if (ending_) {
                return;
            }
        }
        settled = reconcile(woken);
    }
}

}  // namespace

std::unique_ptr<Workload> make_vm_workload(VmWorkloadOptions options, VirtualMachines& machines) {
    return std::make_unique<VmWorkload>(std::move(options), machines);
}

}  // namespace safepair::hyperv
