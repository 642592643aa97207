// Registration, state and events. What starts and stops a VM is in libvirt_power.cpp.
#include "libvirt_machines.hpp"

#include "../core/domain_states.hpp"
#include "../core/limits.hpp"
#include "domain_xml.hpp"
#include "emulator.hpp"
#include "event_loop.hpp"
#include "folder_files.hpp"
#include "libvirt_error.hpp"

#include <safepair/hyperv/libvirt.hpp>

#include <fmt/format.h>
#include <libvirt/libvirt-qemu.h>
#include <libvirt/virterror.h>

#include <array>
#include <utility>

namespace safepair::hyperv {

namespace {

/// Between two attempts to reach a hypervisor that is gone.
constexpr base::Duration reconnect_pause = std::chrono::seconds(1);
/// A guest's agent that lives answers a ping much sooner.
constexpr int ping_seconds = 3;

bool is_simulated(virConnect* connection) {
    const auto* type = virConnectGetType(connection);
    return type != nullptr && std::string_view(type) == "TEST";
}

std::string uuid_of(virDomain* domain) {
    std::array<char, VIR_UUID_STRING_BUFLEN> text{};
    return virDomainGetUUIDString(domain, text.data()) == 0 ? text.data() : "";
}

base::Result<void> check_disks(const DomainDescription& domain, const std::string& folder) {
    std::error_code ignored;
    const auto resolved_folder = std::filesystem::weakly_canonical(folder, ignored).string();
    for (const auto& file : domain.files) {
        if (file.use != FileUse::disk && file.use != FileUse::backing &&
            file.use != FileUse::nvram) {
            continue;
        }
        const auto resolved = std::filesystem::weakly_canonical(file.path, ignored).string();
        if (!lies_in(file.path, folder) || !lies_in(resolved, resolved_folder)) {
            return base::error(
                base::Errc::refused,
                fmt::format(
                    "VM {}: its {} {} is not in {}: move it there and correct the configuration",
                    domain.name,
                    to_string(file.use),
                    file.path,
                    folder));
        }
    }
    return {};
}

base::Result<void> undefine(virConnect* connection, virDomain* domain, const std::string& name) {
    unsigned flags = VIR_DOMAIN_UNDEFINE_MANAGED_SAVE | VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA;
    // Never dropped for a real hypervisor that does not know them: it would delete the files.
    if (!is_simulated(connection)) {
        flags |= VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA | VIR_DOMAIN_UNDEFINE_KEEP_NVRAM |
                 VIR_DOMAIN_UNDEFINE_KEEP_TPM;
    }
    if (virDomainUndefineFlags(domain, flags) != 0) {
        return libvirt_error("cannot unregister VM " + name);
    }
    return {};
}

}  // namespace

LibvirtMachines::LibvirtMachines(std::string uri, HostPlaces places)
    : places_(std::move(places)),
      connection_(std::move(uri),
                  {[this](VmEvent event) {
                       const std::lock_guard lock(mutex_);
                       if (events_.size() < limits::events_max) {
                           events_.push_back(std::move(event));
                       } else {
                           report_due_ = true;
                       }
                       dispatch_wake_.raise();
                   },
                   [this] {
                       const std::lock_guard lock(mutex_);
                       connect_due_ = true;
                       dispatch_wake_.raise();
                   }}),
      dispatcher_([this] { dispatch(); }) {}

LibvirtMachines::~LibvirtMachines() {
    {
        const std::lock_guard lock(mutex_);
        ending_ = true;
    }
    dispatch_wake_.raise();
    dispatcher_.join();
    // They use the connection, so they end before it.
    imported_.clear();
    retired_.clear();
}

base::Result<DomainReference> LibvirtMachines::look_up(const std::string& name) {
    SAFEPAIR_TRY(auto connection, connection_.get());
    DomainHandle domain(virDomainLookupByName(connection.get(), name.c_str()));
    if (!domain && libvirt_error_code() == VIR_ERR_NO_DOMAIN && !canonical_uuid(name).empty()) {
        domain.reset(virDomainLookupByUUIDString(connection.get(), canonical_uuid(name).c_str()));
    }
    if (!domain) {
        return libvirt_error("VM " + name);
    }
    return DomainReference{std::move(connection), std::move(domain)};
}

base::Result<VmState> LibvirtMachines::state_of(const DomainReference& reference) {
    int state = 0;
    int reason = 0;
    if (virDomainGetState(reference.get(), &state, &reason, 0) != 0) {
        if (libvirt_error_code() == VIR_ERR_NO_DOMAIN) {
            return VmState::absent;
        }
        return libvirt_error(
            fmt::format("cannot ask for the state of VM {}", virDomainGetName(reference.get())));
    }
    return vm_state(state, reason);
}

base::Result<VmInfo> LibvirtMachines::find(const std::string& name) {
    SAFEPAIR_TRY(const auto reference, look_up(name));
    VmInfo info;
    info.name = virDomainGetName(reference.get());
    info.uuid = uuid_of(reference.get());
    SAFEPAIR_TRY(info.state, state_of(reference));
    if (is_active(info.state)) {
        info.process = find_emulator(places_, info.name, info.uuid);
    }
    return info;
}

base::Result<VmState> LibvirtMachines::state(const std::string& name) {
    const auto reference = look_up(name);
    if (!reference) {
        if (reference.error().code == base::Errc::not_found) {
            return VmState::absent;
        }
        return reference.error();
    }
    SAFEPAIR_TRY(const auto found, state_of(*reference));
    if (found == VmState::off) {
        const auto vm = imported(name);
        if (vm && disk_fact(SaveFiles(vm->folder, name).state.string())) {
            return VmState::saved;
        }
    }
    return found;
}

std::optional<LibvirtMachines::Imported> LibvirtMachines::imported(const std::string& name) const {
    const std::lock_guard lock(mutex_);
    const auto found = imported_.find(name);
    return found == imported_.end() ? std::nullopt : std::optional(found->second);
}

void LibvirtMachines::retire(std::shared_ptr<Follower> follower) {
    std::vector<std::shared_ptr<Follower>> over;
    if (follower) {
        follower->disown();
    }
    const std::lock_guard lock(mutex_);
    if (follower) {
        retired_.push_back(std::move(follower));
    }
    // Only those that do not wait in a frozen folder are let go here.
    for (auto at = retired_.begin(); at != retired_.end();) {
        if ((*at)->ended()) {
            over.push_back(std::move(*at));
            at = retired_.erase(at);
        } else {
            ++at;
        }
    }
}

void LibvirtMachines::disown(const std::string& name) {
    std::shared_ptr<Follower> follower;
    {
        const std::lock_guard lock(mutex_);
        const auto found = imported_.find(name);
        if (found != imported_.end()) {
            follower = std::move(found->second.follower);
        }
    }
    retire(std::move(follower));
}

void LibvirtMachines::remember(const ImportOptions& options,
                               const std::string& uuid,
                               std::string content) {
    disown(options.name);
    FollowerOptions following;
    following.fetch = [this, name = options.name] { return inactive_xml(name); };
    following.target = options.folder / (options.name + ".xml");
    following.content = std::move(content);
    if (!places_.configuration.empty()) {
        following.source = places_.configuration / (options.name + ".xml");
    }
    auto follower = std::make_shared<Follower>(std::move(following));
    const std::lock_guard lock(mutex_);
    imported_[options.name] = Imported{options.folder, uuid, std::move(follower)};
}

base::Result<std::string> LibvirtMachines::inactive_xml(const std::string& name) {
    SAFEPAIR_TRY(const auto reference, look_up(name));
    const LibvirtString xml(
        virDomainGetXMLDesc(reference.get(), VIR_DOMAIN_XML_INACTIVE | VIR_DOMAIN_XML_SECURE));
    if (!xml) {
        return libvirt_error("cannot read the configuration of VM " + name);
    }
    return std::string(xml.get());
}

base::Result<VmInfo> LibvirtMachines::import(const ImportOptions& options) {
    const auto& name = options.name;
    if (!is_valid_vm_name(name)) {
        return base::error(base::Errc::bad_input,
                           fmt::format("'{}' cannot be the name of a VM", name));
    }
    const auto file = options.folder / (name + ".xml");
    auto content = read_file(file, limits::configuration_bytes_max);
    if (!content) {
        return content.error().within(
            fmt::format("VM {}: its configuration ('virsh dumpxml --inactive --security-info {}') "
                        "must lie in the folder",
                        name,
                        name));
    }
    const auto domain = parse_domain(*content);
    if (!domain) {
        return domain.error().within(file.string());
    }
    if (domain->name != name || domain->uuid.empty()) {
        return base::error(base::Errc::bad_input,
                           fmt::format("{}: it must be the configuration of '{}' and have a "
                                       "<uuid>, and is that of '{}' ({})",
                                       file.string(),
                                       name,
                                       domain->name,
                                       domain->uuid.empty() ? "no uuid" : domain->uuid));
    }
    SAFEPAIR_CHECK(check_disks(*domain, options.folder.string()));

    SAFEPAIR_TRY(const auto connection, connection_.get());
    if (const DomainHandle other(virDomainLookupByName(connection.get(), name.c_str()));
        other && uuid_of(other.get()) != domain->uuid) {
        return base::error(
            base::Errc::busy,
            fmt::format("VM {}: this node has another one of that name ({}): rename or remove it",
                        name,
                        uuid_of(other.get())));
    }
    if (const DomainHandle stale(
            virDomainLookupByUUIDString(connection.get(), domain->uuid.c_str()));
        stale) {
        const std::string old_name = virDomainGetName(stale.get());
        if (virDomainIsActive(stale.get()) != 0) {
            return base::error(
                base::Errc::busy,
                fmt::format(
                    "VM {}: it runs on this node already (as {}): shut it down", name, old_name));
        }
        SAFEPAIR_CHECK(undefine(connection.get(), stale.get(), old_name));
    }
    const DomainHandle defined(virDomainDefineXML(connection.get(), content->c_str()));
    if (!defined) {
        return libvirt_error(fmt::format("VM {}: {} is not accepted", name, file.string()));
    }
    if (virDomainSetAutostart(defined.get(), 0) != 0) {
        return libvirt_error(fmt::format("VM {}: its autostart cannot be turned off", name));
    }
    remember(options, domain->uuid, std::move(*content));
    return find(name);
}

base::Result<void> LibvirtMachines::unregister(const std::string& name) {
    base::Result<void> written;
    if (const auto vm = imported(name); vm && vm->follower) {
        written = vm->follower->finish();
    }
    disown(name);
    const auto reference = look_up(name);
    if (!reference) {
        if (reference.error().code != base::Errc::not_found) {
            return reference.error();
        }
    } else {
        if (virDomainIsActive(reference->get()) != 0) {
            return base::error(base::Errc::busy,
                               fmt::format("VM {} runs and cannot be unregistered", name));
        }
        SAFEPAIR_CHECK(undefine(reference->connection.get(), reference->get(), name));
    }
    const std::lock_guard lock(mutex_);
    imported_.erase(name);
    if (!written) {
        return written.error().within(
            fmt::format("VM {}: its last change is not in the folder", name));
    }
    return {};
}

GuestHeartbeat LibvirtMachines::heartbeat(const std::string& name) {
    const auto reference = look_up(name);
    if (!reference) {
        return GuestHeartbeat::unknown;
    }
    const LibvirtString xml(virDomainGetXMLDesc(reference->get(), 0));
    if (!xml) {
        return GuestHeartbeat::unknown;
    }
    const auto domain = parse_domain(xml.get());
    if (!domain || !domain->has_guest_agent) {
        return domain ? GuestHeartbeat::none : GuestHeartbeat::unknown;
    }
    const LibvirtString answer(virDomainQemuAgentCommand(
        reference->get(), R"({"execute":"guest-ping"})", ping_seconds, 0));
    return heartbeat_of(answer ? VIR_ERR_OK : libvirt_error_code());
}

base::Result<std::vector<std::string>> LibvirtMachines::switches() {
    SAFEPAIR_TRY(const auto connection, connection_.get());
    SAFEPAIR_TRY(auto networks, host_networks(connection.get()));
    auto names = std::move(networks.active);
    names.insert(names.end(), networks.bridges.begin(), networks.bridges.end());
    return names;
}

base::Result<std::vector<Finding>> LibvirtMachines::preflight(const ImportOptions& options) {
    SAFEPAIR_TRY(const auto connection, connection_.get());
    return run_preflight(connection.get(), places_, options, imported(options.name).has_value());
}

std::unique_ptr<VmWatch> LibvirtMachines::watch(const std::string& name,
                                                std::function<void(const VmEvent&)> handler) {
    auto subscription = hub_.subscribe(name, std::move(handler));
    const std::lock_guard lock(mutex_);
    connect_due_ = true;
    dispatch_wake_.raise();
    return subscription;
}

void LibvirtMachines::report_states() {
    for (const auto& name : hub_.names()) {
        if (const auto found = state(name)) {
            hub_.publish({is_active(*found) ? VmEvent::Kind::started : VmEvent::Kind::stopped,
                          name,
                          "connected"});
        }
    }
}

void LibvirtMachines::dispatch() {
    bool connected = true;
    for (;;) {
        dispatch_wake_.wait(connected ? base::Duration(-1) : reconnect_pause);
        dispatch_wake_.clear();
        std::deque<VmEvent> events;
        bool connect = false;
        bool report = false;
        {
            const std::lock_guard lock(mutex_);
            if (ending_) {
                return;
            }
            events.swap(events_);
            connect = std::exchange(connect_due_, false) || !connected;
            report = std::exchange(report_due_, false);
        }
        for (const auto& event : events) {
            if (event.kind == VmEvent::Kind::redefined) {
                if (const auto vm = imported(event.name); vm && vm->follower) {
                    vm->follower->poke();
                }
            }
            hub_.publish(event);
        }
        if (connect) {
            connected = connection_.get().has_value();
        }
        if (report || (connect && connected)) {
            report_states();
        }
    }
}

base::Result<std::unique_ptr<VirtualMachines>> open_libvirt(const LibvirtOptions& options) {
    SAFEPAIR_TRY(auto places, host_places(options.uri));
    start_libvirt();
    return std::unique_ptr<VirtualMachines>(
        std::make_unique<LibvirtMachines>(options.uri, std::move(places)));
}

}  // namespace safepair::hyperv
