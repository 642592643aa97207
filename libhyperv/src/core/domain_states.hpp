#pragma once

#include <safepair/hyperv/virtual_machines.hpp>

#include <optional>
#include <string>

// What libvirt's numbers mean to us (https://libvirt.org/html/libvirt-libvirt-domain.html).
namespace safepair::hyperv {

/// From virDomainGetState. A domain that crashed and is still there counts as `crashed`, one that
/// crashed and is gone as `off`.
[[nodiscard]] VmState vm_state(int state, int reason) noexcept;

/// Whether an emulator is there that may execute, or hold the VM's files.
[[nodiscard]] bool is_active(VmState state) noexcept;

/// From VIR_DOMAIN_EVENT_ID_LIFECYCLE; none for what changes nothing for us.
[[nodiscard]] std::optional<VmEvent> vm_event(const std::string& name, int event, int detail);

/// From the error of a guest-ping through the guest's agent; 0: it answered.
[[nodiscard]] GuestHeartbeat heartbeat_of(int error) noexcept;

}  // namespace safepair::hyperv
