#include "domain_states.hpp"

#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>

namespace safepair::hyperv {

namespace {

struct Named {
    VmEvent::Kind kind;
    const char* detail;
};

Named stopped(int detail) noexcept {
    switch (detail) {
        case VIR_DOMAIN_EVENT_STOPPED_SHUTDOWN:
            return {VmEvent::Kind::stopped, "shutdown"};
        case VIR_DOMAIN_EVENT_STOPPED_DESTROYED:
            return {VmEvent::Kind::stopped, "destroyed"};
        case VIR_DOMAIN_EVENT_STOPPED_CRASHED:
            return {VmEvent::Kind::crashed, "crashed"};
        case VIR_DOMAIN_EVENT_STOPPED_MIGRATED:
            return {VmEvent::Kind::stopped, "migrated"};
        case VIR_DOMAIN_EVENT_STOPPED_SAVED:
            return {VmEvent::Kind::stopped, "saved"};
        case VIR_DOMAIN_EVENT_STOPPED_FAILED:
            return {VmEvent::Kind::crashed, "emulator failed"};
        case VIR_DOMAIN_EVENT_STOPPED_FROM_SNAPSHOT:
            return {VmEvent::Kind::stopped, "snapshot"};
        default:
            return {VmEvent::Kind::stopped, "stopped"};
    }
}

Named paused(int detail) noexcept {
    switch (detail) {
        case VIR_DOMAIN_EVENT_SUSPENDED_IOERROR:
            return {VmEvent::Kind::paused, "io-error"};
        case VIR_DOMAIN_EVENT_SUSPENDED_WATCHDOG:
            return {VmEvent::Kind::paused, "watchdog"};
        case VIR_DOMAIN_EVENT_SUSPENDED_MIGRATED:
            return {VmEvent::Kind::paused, "migrated"};
        case VIR_DOMAIN_EVENT_SUSPENDED_RESTORED:
            return {VmEvent::Kind::paused, "restored"};
        default:
            return {VmEvent::Kind::paused, "paused"};
    }
}

Named started(int detail) noexcept {
    switch (detail) {
        case VIR_DOMAIN_EVENT_STARTED_MIGRATED:
            return {VmEvent::Kind::started, "migrated"};
        case VIR_DOMAIN_EVENT_STARTED_RESTORED:
            return {VmEvent::Kind::started, "restored"};
        case VIR_DOMAIN_EVENT_STARTED_FROM_SNAPSHOT:
            return {VmEvent::Kind::started, "snapshot"};
        case VIR_DOMAIN_EVENT_STARTED_WAKEUP:
            return {VmEvent::Kind::resumed, "wakeup"};
        default:
            return {VmEvent::Kind::started, "booted"};
    }
}

std::optional<Named> named(int event, int detail) noexcept {
    switch (event) {
        case VIR_DOMAIN_EVENT_STARTED:
            return started(detail);
        case VIR_DOMAIN_EVENT_SUSPENDED:
            return paused(detail);
        case VIR_DOMAIN_EVENT_RESUMED:
            return Named{VmEvent::Kind::resumed, "resumed"};
        case VIR_DOMAIN_EVENT_STOPPED:
            return stopped(detail);
        case VIR_DOMAIN_EVENT_PMSUSPENDED:
            return Named{VmEvent::Kind::paused, "guest sleeps"};
        case VIR_DOMAIN_EVENT_CRASHED:
            return Named{VmEvent::Kind::crashed, "guest panicked"};
        case VIR_DOMAIN_EVENT_DEFINED:
            return Named{VmEvent::Kind::redefined,
                         detail == VIR_DOMAIN_EVENT_DEFINED_ADDED ? "added" : "updated"};
        case VIR_DOMAIN_EVENT_UNDEFINED:
            return Named{VmEvent::Kind::redefined, "removed"};
        default:
            // VIR_DOMAIN_EVENT_SHUTDOWN: the guest ended, and STOPPED follows.
            return std::nullopt;
    }
}

}  // namespace

VmState vm_state(int state, int reason) noexcept {
    switch (state) {
        case VIR_DOMAIN_RUNNING:
        case VIR_DOMAIN_BLOCKED:
            return VmState::running;
        case VIR_DOMAIN_PAUSED:
            switch (reason) {
                case VIR_DOMAIN_PAUSED_STARTING_UP:
                    return VmState::starting;
                case VIR_DOMAIN_PAUSED_SAVE:
                case VIR_DOMAIN_PAUSED_SHUTTING_DOWN:
                    return VmState::stopping;
                case VIR_DOMAIN_PAUSED_CRASHED:
                    return VmState::crashed;
                default:
                    return VmState::paused;
            }
        case VIR_DOMAIN_PMSUSPENDED:
            return VmState::paused;
        case VIR_DOMAIN_SHUTDOWN:
            return VmState::stopping;
        case VIR_DOMAIN_SHUTOFF:
            return reason == VIR_DOMAIN_SHUTOFF_SAVED ? VmState::saved : VmState::off;
        case VIR_DOMAIN_CRASHED:
            return VmState::crashed;
        default:
            return VmState::unknown;
    }
}

const char* to_string(VmState state) noexcept {
    switch (state) {
        case VmState::absent:
            return "absent";
        case VmState::off:
            return "off";
        case VmState::starting:
            return "starting";
        case VmState::running:
            return "running";
        case VmState::paused:
            return "paused";
        case VmState::saved:
            return "saved";
        case VmState::stopping:
            return "stopping";
        case VmState::crashed:
            return "crashed";
        case VmState::unknown:
            return "unknown";
    }
    return "?";
}

bool is_active(VmState state) noexcept {
    switch (state) {
        case VmState::absent:
        case VmState::off:
        case VmState::saved:
            return false;
        case VmState::starting:
        case VmState::running:
        case VmState::paused:
        case VmState::stopping:
        case VmState::crashed:
        case VmState::unknown:
            return true;
    }
    return true;
}

std::optional<VmEvent> vm_event(const std::string& name, int event, int detail) {
    const auto found = named(event, detail);
    if (!found) {
        return std::nullopt;
    }
    return VmEvent{found->kind, name, found->detail};
}

GuestHeartbeat heartbeat_of(int error) noexcept {
    switch (error) {
        case VIR_ERR_OK:
            return GuestHeartbeat::ok;
        case VIR_ERR_AGENT_UNRESPONSIVE:
        case VIR_ERR_AGENT_UNSYNCED:
            return GuestHeartbeat::missing;
        case VIR_ERR_ARGUMENT_UNSUPPORTED:
        case VIR_ERR_CONFIG_UNSUPPORTED:
        case VIR_ERR_NO_SUPPORT:
            return GuestHeartbeat::none;
        default:
            return GuestHeartbeat::unknown;
    }
}

}  // namespace safepair::hyperv
