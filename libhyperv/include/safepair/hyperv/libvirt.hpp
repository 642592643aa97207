#pragma once

#include <safepair/hyperv/virtual_machines.hpp>

#include <memory>
#include <string>

namespace safepair::hyperv {

struct LibvirtOptions {
    /// "qemu:///system", or "qemu:///embed?root=DIR" for a private host inside this process: its
    /// settings, registrations and run files lie below DIR (absolute). Libvirt allows one embedded
    /// root per process, and one process per root. Where DIR/etc/qemu.conf is missing it is made:
    /// QEMU then runs as this process's user, without virtlogd, cgroups, namespaces and security
    /// driver. Its running VMs outlive the process, and are found again by the next one.
    std::string uri = "qemu:///system";
};

/// The VirtualMachines of a libvirt host (https://libvirt.org/html/). Connects when it is needed,
/// and again after libvirtd restarted. Errors carry libvirt's message;
/// std::errc::connection_refused when libvirt cannot be reached.
///
/// In the folder: `NAME.xml` is the domain's XML; the driver rewrites it atomically when the
/// registered one changes, by whatever tool, while the VM is imported. A save writes `NAME.save`
/// and `NAME.save.disks`, which says to which disks it belongs (docs/formats/save-record.md);
/// `NAME.save.stale` is a state file that was not used.
///
/// The first call starts a thread for libvirt's event loop, one per process, which runs until the
/// process ends; whoever embeds us must not register another loop. Errors: Errc::bad_input for a
/// wrong URI. Nothing is connected yet.
[[nodiscard]] base::Result<std::unique_ptr<VirtualMachines>> open_libvirt(
    const LibvirtOptions& options);

}  // namespace safepair::hyperv
