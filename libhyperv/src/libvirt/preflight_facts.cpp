// Asks the host what the preflight has to know.
#include "../core/limits.hpp"
#include "../core/preflight.hpp"
#include "backing_chain.hpp"
#include "domain_xml.hpp"
#include "folder_files.hpp"
#include "libvirt_error.hpp"
#include "libvirt_machines.hpp"

#include <fmt/format.h>
#include <libvirt/virterror.h>

#include <algorithm>
#include <array>
#include <set>

#include <unistd.h>

namespace safepair::hyperv {

namespace {

std::string uuid_of(virDomain* domain) {
    std::array<char, VIR_UUID_STRING_BUFLEN> text{};
    return virDomainGetUUIDString(domain, text.data()) == 0 ? text.data() : "";
}

std::string resolved(const std::string& path) {
    std::error_code failure;
    const auto result = std::filesystem::weakly_canonical(path, failure);
    return failure ? path : result.string();
}

FileFact fact_of(const UsedFile& file) {
    FileFact fact;
    fact.file = file;
    fact.resolved = resolved(file.path);
    std::error_code ignored;
    fact.exists = std::filesystem::exists(file.path, ignored);
    return fact;
}

/// The files of the XML and what they stand on, each once.
std::vector<FileFact> file_facts(const DomainDescription& domain, const HostPlaces& places) {
    std::vector<FileFact> facts;
    std::set<std::string> seen;
    const auto add = [&](UsedFile file) -> FileFact* {
        if (!seen.insert(file.path).second) {
            return nullptr;
        }
        facts.push_back(fact_of(file));
        return &facts.back();
    };
    for (auto file : domain.files) {
        if (file.use == FileUse::tpm_state) {
            if (places.tpm.empty()) {
                continue;
            }
            file.path = (places.tpm / domain.uuid).string();
        }
        auto* fact = add(file);
        const bool image = file.use == FileUse::disk || file.use == FileUse::backing ||
                           file.use == FileUse::removable;
        if (fact == nullptr || !image || !fact->exists) {
            continue;
        }
        const auto chain = backing_chain(file.path);
        if (!chain) {
            fact->problem = chain.error().message();
            continue;
        }
        for (const auto& path : *chain) {
            static_cast<void>(add({FileUse::backing, path}));
        }
    }
    return facts;
}

std::vector<std::string> interface_names(bool bridges_only) {
    std::vector<std::string> names;
    std::error_code failure;
    for (std::filesystem::directory_iterator at("/sys/class/net", failure), end; at != end;
         at.increment(failure)) {
        if (!bridges_only || std::filesystem::exists(at->path() / "bridge", failure)) {
            names.push_back(at->path().filename().string());
        }
    }
    std::sort(names.begin(), names.end());
    return names;
}

void ask_about_processor(virConnect* connection, const DomainDescription& domain, HostFacts& host) {
    const auto text = [](const std::string& value) {
        return value.empty() ? nullptr : value.c_str();
    };
    const LibvirtString capabilities(virConnectGetDomainCapabilities(connection,
                                                                     text(domain.emulator),
                                                                     text(domain.arch),
                                                                     text(domain.machine),
                                                                     text(domain.type),
                                                                     0));
    if (!capabilities) {
        if (libvirt_error_code() != VIR_ERR_NO_SUPPORT) {
            host.refusal =
                libvirt_error(
                    fmt::format("{} {} of type {}", domain.arch, domain.machine, domain.type))
                    .context;
        }
        return;
    }
    const bool named_model = domain.cpu_xml.find("<model") != std::string::npos &&
                             (domain.cpu_mode.empty() || domain.cpu_mode == "custom");
    if (!named_model) {
        return;
    }
    const int compared = virConnectCompareHypervisorCPU(connection,
                                                        text(domain.emulator),
                                                        text(domain.arch),
                                                        text(domain.machine),
                                                        text(domain.type),
                                                        domain.cpu_xml.c_str(),
                                                        VIR_CONNECT_COMPARE_CPU_FAIL_INCOMPATIBLE);
    if (compared >= VIR_CPU_COMPARE_IDENTICAL) {
        host.cpu = CpuFit::fits;
    } else if (compared == VIR_CPU_COMPARE_INCOMPATIBLE ||
               libvirt_error_code() == VIR_ERR_CPU_INCOMPATIBLE) {
        host.cpu = CpuFit::differs;
        const auto* reason = virGetLastErrorMessage();
        host.cpu_reason = reason == nullptr ? "" : reason;
    }
}

void ask_about_registration(virConnect* connection,
                            const std::string& name,
                            const std::string& uuid,
                            bool started_by_us,
                            HostFacts& host) {
    if (const DomainHandle by_name(virDomainLookupByName(connection, name.c_str())); by_name) {
        host.uuid_of_name = uuid_of(by_name.get());
    }
    if (const DomainHandle by_uuid(virDomainLookupByUUIDString(connection, uuid.c_str()));
        by_uuid) {
        host.name_of_uuid = virDomainGetName(by_uuid.get());
        int autostart = 0;
        host.autostart = virDomainGetAutostart(by_uuid.get(), &autostart) == 0 && autostart != 0;
        host.runs_unasked = virDomainIsActive(by_uuid.get()) == 1 && !started_by_us;
    }
}

}  // namespace

base::Result<HostNetworks> host_networks(virConnect* connection) {
    HostNetworks networks;
    virNetworkPtr* found = nullptr;
    virResetLastError();
    const int count = virConnectListAllNetworks(connection, &found, 0);
    if (count < 0) {
        // An embedded host has no networks of its own.
        if (libvirt_error_code() != VIR_ERR_NO_SUPPORT) {
            return libvirt_error("cannot list the networks");
        }
    }
    for (int i = 0; i < count; ++i) {
        const NetworkHandle network(found[i]);
        (virNetworkIsActive(network.get()) == 1 ? networks.active : networks.inactive)
            .emplace_back(virNetworkGetName(network.get()));
    }
    std::free(found);  // NOLINT: libvirt's array comes from malloc
    networks.bridges = interface_names(true);
    networks.interfaces = interface_names(false);
    return networks;
}

base::Result<std::vector<Finding>> run_preflight(virConnect* connection,
                                                 const HostPlaces& places,
                                                 const ImportOptions& options,
                                                 bool started_by_us) {
    const auto file = options.folder / (options.name + ".xml");
    const auto content = is_valid_vm_name(options.name)
                             ? read_file(file, limits::configuration_bytes_max)
                             : base::error(base::Errc::bad_input,
                                           "'" + options.name + "' cannot be the name of a VM");
    if (!content) {
        return std::vector<Finding>{
            {Severity::error,
             "configuration-missing",
             content.error().within("the configuration of the VM").message(),
             fmt::format("'virsh dumpxml --inactive --security-info {} > {}', with every file of "
                         "it in the folder",
                         options.name,
                         file.string())}};
    }
    const auto domain = parse_domain(*content);
    if (!domain) {
        return std::vector<Finding>{
            {Severity::error,
             "configuration-unreadable",
             domain.error().within(file.string()).message(),
             "correct it, or write it again with 'virsh dumpxml --inactive --security-info'"}};
    }
    PreflightInput input;
    input.name = options.name;
    input.folder = options.folder.string();
    input.resolved_folder = resolved(input.folder);
    input.domain = *domain;
    input.host.files = file_facts(*domain, places);
    SAFEPAIR_TRY(auto networks, host_networks(connection));
    input.host.bridges = std::move(networks.bridges);
    input.host.networks = std::move(networks.active);
    input.host.inactive_networks = std::move(networks.inactive);
    input.host.interfaces = std::move(networks.interfaces);
    input.host.emulator_exists =
        domain->emulator.empty() || ::access(domain->emulator.c_str(), X_OK) == 0;
    ask_about_processor(connection, *domain, input.host);
    ask_about_registration(connection, options.name, domain->uuid, started_by_us, input.host);
    return preflight_findings(input);
}

}  // namespace safepair::hyperv
