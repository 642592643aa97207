// Starting and stopping a VM.
#include "../core/domain_states.hpp"
#include "domain_xml.hpp"
#include "emulator.hpp"
#include "folder_files.hpp"
#include "libvirt_error.hpp"
#include "libvirt_machines.hpp"

#include <safepair/base/system_time.hpp>

#include <fmt/format.h>
#include <libvirt/virterror.h>

#include <algorithm>
#include <csignal>
#include <utility>

namespace safepair::hyperv {

namespace {

/// A guest that was busy (booting, say) when it was asked is asked again.
constexpr base::Duration ask_period = std::chrono::seconds(5);
/// The state is looked at this often even when no event comes.
constexpr base::Duration look_period = std::chrono::seconds(2);
/// A process that was killed ends at once, unless it waits in the kernel.
constexpr base::Duration kill_limit = std::chrono::seconds(30);

std::string seconds(base::Duration duration) {
    return fmt::format("{} s", std::chrono::duration<double>(duration).count());
}

/// Gives a libvirt job up when its time is over.
class JobDeadline {
  public:
    JobDeadline(virDomain* domain, base::Duration limit)
        : thread_([this, domain, limit] {
              if (!done_.wait(limit)) {
                  passed_ = true;
                  virDomainAbortJob(domain);
              }
          }) {}

    ~JobDeadline() { finish(); }

    JobDeadline(const JobDeadline&) = delete;
    JobDeadline& operator=(const JobDeadline&) = delete;

    /// True when the time was over before the job was.
    bool finish() {
        done_.raise();
        if (thread_.joinable()) {
            thread_.join();
        }
        return passed_;
    }

  private:
    const Wake done_;
    bool passed_ = false;  // the thread's until it is joined
    std::thread thread_;
};

/// The disks of a running VM, with everything they stand on.
std::vector<std::string> disks_of(virDomain* domain) {
    std::vector<std::string> paths;
    const LibvirtString xml(virDomainGetXMLDesc(domain, 0));
    if (!xml) {
        return paths;
    }
    if (const auto description = parse_domain(xml.get())) {
        for (const auto& file : description->files) {
            const bool counts = file.use == FileUse::disk || file.use == FileUse::backing ||
                                file.use == FileUse::nvram;
            if (counts && std::find(paths.begin(), paths.end(), file.path) == paths.end()) {
                paths.push_back(file.path);
            }
        }
    }
    return paths;
}

/// The state file is complete: says to which disks it belongs, and then gives it the name under
/// which a start finds it.
base::Result<void> publish_save(const SaveFiles& files, const std::vector<std::string>& disks) {
    SAFEPAIR_CHECK(make_durable(files.part));
    SaveRecord record;
    const auto state = disk_fact(files.part.string());
    record.state_bytes = state ? state->bytes : 0;
    for (const auto& path : disks) {
        auto fact = disk_fact(path);
        if (!fact) {
            return base::error(base::Errc::not_found, "the disk " + path);
        }
        record.disks.push_back(std::move(*fact));
    }
    SAFEPAIR_TRY(const auto text, format_save_record(record));
    SAFEPAIR_CHECK(write_atomically(files.record, text));
    return move_durably(files.part, files.state);
}

}  // namespace

base::Result<std::string> LibvirtMachines::boot(const DomainReference& reference,
                                                const std::string& name) {
    // An image of libvirt's own lies on this node only: whatever it was saved with, the disks may
    // have moved on elsewhere.
    if (virDomainHasManagedSaveImage(reference.get(), 0) == 1 &&
        virDomainManagedSaveRemove(reference.get(), 0) != 0) {
        return libvirt_error(
            fmt::format("VM {}: its managed save of this node cannot be removed", name));
    }
    if (virDomainCreate(reference.get()) != 0) {
        return libvirt_error("cannot start VM " + name);
    }
    return std::string("booted");
}

base::Result<std::string> LibvirtMachines::restore(const DomainReference& reference,
                                                   const std::string& name,
                                                   const Imported& vm) {
    const SaveFiles files(vm.folder, name);
    // Renamed before the guest can write: whatever happens from here on, nobody restores this state
    // a second time.
    SAFEPAIR_CHECK(move_durably(files.state, files.used));
    virResetLastError();
    const bool restored = virDomainRestore(reference.connection.get(), files.used.c_str()) == 0;
    const auto why = restored ? std::string() : libvirt_error("VM " + name).context;
    SAFEPAIR_TRY(const auto now, state_of(reference));
    if (restored || is_active(now)) {
        // It was paused when it was saved, and is to run now.
        if (now == VmState::paused && virDomainResume(reference.get()) != 0) {
            return libvirt_error(fmt::format("VM {} is restored, but does not go on", name));
        }
        SAFEPAIR_CHECK(remove_durably(files.record));
        SAFEPAIR_CHECK(remove_durably(files.used));
        return fmt::format("restored from {}", files.state.string());
    }
    SAFEPAIR_CHECK(move_durably(files.used, files.stale));
    SAFEPAIR_TRY(const auto booted, boot(reference, name));
    return fmt::format("{}; the saved state could not be restored and is kept as {}: {}",
                       booted,
                       files.stale.string(),
                       why);
}

base::Result<std::string> LibvirtMachines::start(const std::string& name) {
    SAFEPAIR_TRY(const auto reference, look_up(name));
    SAFEPAIR_TRY(const auto now, state_of(reference));
    if (is_active(now)) {
        return base::error(
            base::Errc::busy,
            fmt::format(
                "VM {} is {} on this node already: shut it down first", name, to_string(now)));
    }
    const auto vm = imported(name);
    if (!vm) {
        return boot(reference, name);
    }
    const SaveFiles files(vm->folder, name);
    // Left by a save or restore that a crash cut short; neither may ever be restored.
    SAFEPAIR_CHECK(remove_durably(files.part));
    SAFEPAIR_CHECK(remove_durably(files.used));
    const auto choice = choose_start(saved_facts(files));
    switch (choice.mode) {
        case StartMode::boot:
            return boot(reference, name);
        case StartMode::restore:
            return restore(reference, name, *vm);
        case StartMode::boot_beside_stale_state:
            break;
    }
    SAFEPAIR_CHECK(move_durably(files.state, files.stale));
    SAFEPAIR_TRY(const auto booted, boot(reference, name));
    return fmt::format("{}; the saved state is not used and kept as {}: {}",
                       booted,
                       files.stale.string(),
                       choice.why);
}

base::Result<bool> LibvirtMachines::wait_until_off(const std::string& name,
                                                   base::Duration deadline,
                                                   base::Duration period,
                                                   const std::function<void()>& each) {
    const auto end = base::boot_time_now() + deadline;
    const Wake changed;
    const auto subscription = watch(name, [&](const VmEvent&) { changed.raise(); });
    auto next = base::boot_time_now();
    for (;;) {
        changed.clear();
        const auto found = state(name);
        if (found && !is_active(*found)) {
            return true;
        }
        const auto now = base::boot_time_now();
        if (now >= end) {
            // A hypervisor that cannot be asked is another trouble than a guest that does not stop.
            SAFEPAIR_CHECK(found ? base::Result<void>() : base::Result<void>(found.error()));
            return false;
        }
        if (now >= next) {
            each();
            next = now + period;
        }
        changed.wait(std::clamp<base::Duration>(
            end - now, base::Duration::zero(), std::min(period, look_period)));
    }
}

base::Result<void> LibvirtMachines::stop_by_request(const std::string& name,
                                                    base::Duration deadline) {
    int asked = 0;
    std::string refusal;
    const auto ask = [&] {
        const auto reference = look_up(name);
        if (!reference) {
            refusal = reference.error().context;
            return;
        }
        // A paused guest hears nothing.
        if (state_of(*reference).value_or(VmState::unknown) == VmState::paused) {
            virDomainResume(reference->get());
        }
        // Zero: its agent when there is one, or else the power button. An agent may hear and do
        // nothing, so every second time it is the button.
        const unsigned flags = asked++ % 2 == 0 ? 0U : unsigned{VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN};
        if (virDomainShutdownFlags(reference->get(), flags) != 0) {
            refusal = libvirt_error("VM " + name).context;
        }
    };
    SAFEPAIR_TRY(const bool off, wait_until_off(name, deadline, ask_period, ask));
    if (!off) {
        return base::error(base::Errc::timed_out,
                           fmt::format("VM {} was asked {} times and still runs after {}{}",
                                       name,
                                       asked,
                                       seconds(deadline),
                                       refusal.empty() ? "" : "; " + refusal));
    }
    return {};
}

base::Result<void> LibvirtMachines::stop_by_save(const std::string& name, base::Duration deadline) {
    const auto vm = imported(name);
    if (!vm) {
        return base::error(
            base::Errc::refused,
            fmt::format("VM {} was not imported: there is no folder to save it into", name));
    }
    SAFEPAIR_TRY(const auto reference, look_up(name));
    const auto disks = disks_of(reference.get());
    const SaveFiles files(vm->folder, name);
    SAFEPAIR_CHECK(remove_durably(files.record));
    SAFEPAIR_CHECK(remove_durably(files.state));
    JobDeadline limit(reference.get(), deadline);
    virResetLastError();
    const bool saved = virDomainSave(reference.get(), files.part.c_str()) == 0;
    auto failure = saved ? base::Error{} : libvirt_error("cannot save VM " + name);
    const bool passed = limit.finish();
    if (!saved) {
        static_cast<void>(remove_durably(files.part));
        if (passed) {
            failure.code = base::Errc::timed_out;
            failure.context += fmt::format(" (not finished after {})", seconds(deadline));
        }
        return failure;
    }
    if (auto published = publish_save(files, disks); !published) {
        return published.error().within(
            fmt::format("VM {} is off, but its saved state is lost", name));
    }
    return {};
}

base::Result<void> LibvirtMachines::stop_by_force(const std::string& name,
                                                  base::Duration deadline) {
    std::string refusal;
    const auto cut = [&] {
        const auto reference = look_up(name);
        if (!reference) {
            refusal = reference.error().context;
        } else if (virDomainDestroy(reference->get()) != 0) {
            refusal = libvirt_error("VM " + name).context;
        }
    };
    SAFEPAIR_TRY(const bool off, wait_until_off(name, deadline, ask_period, cut));
    if (!off) {
        return base::error(
            base::Errc::timed_out,
            fmt::format(
                "VM {} cannot be turned off within {}; {}", name, seconds(deadline), refusal));
    }
    return {};
}

base::Result<void> LibvirtMachines::stop(const std::string& name,
                                         StopKind kind,
                                         base::Duration deadline) {
    SAFEPAIR_TRY(const auto before, state(name));
    if (!is_active(before)) {
        return {};
    }
    switch (kind) {
        case StopKind::stop:
            return stop_by_request(name, deadline);
        case StopKind::save:
            return stop_by_save(name, deadline);
        case StopKind::off:
            return stop_by_force(name, deadline);
    }
    return {};
}

base::Result<void> LibvirtMachines::pause(const std::string& name) {
    SAFEPAIR_TRY(const auto reference, look_up(name));
    if (virDomainSuspend(reference.get()) != 0) {
        return libvirt_error("cannot pause VM " + name);
    }
    return {};
}

base::Result<void> LibvirtMachines::resume(const std::string& name) {
    SAFEPAIR_TRY(const auto reference, look_up(name));
    if (virDomainResume(reference.get()) != 0) {
        return libvirt_error("cannot resume VM " + name);
    }
    return {};
}

base::Result<void> LibvirtMachines::kill(const std::string& name) {
    disown(name);
    const auto vm = imported(name);
    // The process first: it ends without the hypervisor, and the hypervisor would ask it politely
    // for ten seconds.
    const int pid = find_emulator(places_, name, vm ? vm->uuid : std::string());
    const auto process = open_process(pid);
    static_cast<void>(send_signal(process, SIGKILL));
    if (!wait_for_end(process, kill_limit)) {
        return base::error(
            base::Errc::timed_out,
            fmt::format(
                "VM {}: process {} cannot die: it waits in the kernel, probably for its disk",
                name,
                pid));
    }
    const auto reference = look_up(name);
    if (!reference) {
        // Nothing of it executes; that the hypervisor does not know or cannot be asked changes
        // nothing about it. A simulated one has no processes, so there the hypervisor has to be
        // asked.
        const bool known_off =
            reference.error().code == base::Errc::not_found || !places_.run.empty();
        return known_off ? base::Result<void>() : base::Result<void>(reference.error());
    }
    if (virDomainIsActive(reference->get()) == 1 && virDomainDestroy(reference->get()) != 0) {
        const auto failure = libvirt_error("cannot turn off VM " + name);
        const bool simulated = places_.run.empty();
        if (virDomainIsActive(reference->get()) == 1 &&
            (simulated || find_emulator(places_, name, "") != 0)) {
            return failure;
        }
    }
    return {};
}

}  // namespace safepair::hyperv
