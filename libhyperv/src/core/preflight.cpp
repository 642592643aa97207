#include "preflight.hpp"

#include <algorithm>

namespace safepair::hyperv {

namespace {

using Findings = std::vector<Finding>;

std::string list(const std::vector<std::string>& names) {
    std::string text;
    for (const auto& name : names) {
        text += (text.empty() ? "" : ", ") + name;
    }
    return text.empty() ? "none" : text;
}

bool contains(const std::vector<std::string>& names, const std::string& name) {
    return std::find(names.begin(), names.end(), name) != names.end();
}

void check_identity(const PreflightInput& input, Findings& findings) {
    const auto& domain = input.domain;
    const auto& host = input.host;
    if (domain.name != input.name) {
        findings.push_back({Severity::error,
                            "name-differs",
                            "the configuration in the folder is that of '" + domain.name +
                                "', not of '" + input.name + "'",
                            "name the VM in the module as in its configuration"});
    }
    if (domain.uuid.empty()) {
        findings.push_back(
            {Severity::error,
             "no-uuid",
             "the configuration of '" + input.name +
                 "' has no <uuid>: each node would give it another one",
             "take the configuration from 'virsh dumpxml --inactive --security-info'"});
    }
    if (host.uuid_of_name && *host.uuid_of_name != domain.uuid) {
        findings.push_back({Severity::error,
                            "name-clash",
                            "another VM with the name '" + input.name +
                                "' is registered on this node (" + *host.uuid_of_name + ")",
                            "rename or remove that one ('virsh domrename' or 'virsh undefine'), or "
                            "rename this one"});
    }
    if (host.name_of_uuid && *host.name_of_uuid != input.name) {
        findings.push_back({Severity::warning,
                            "other-name",
                            "this VM is registered here as '" + *host.name_of_uuid + "'",
                            "nothing: the registration is replaced when it starts here"});
    }
    if (host.runs_unasked) {
        findings.push_back({Severity::error,
                            "already-running",
                            "'" + input.name + "' runs on this node, and Safepair did not start it",
                            "shut it down ('virsh shutdown'), then start the module"});
    }
    if (host.autostart) {
        findings.push_back(
            {Severity::warning,
             "autostart",
             "'" + input.name + "' would start by itself when this node boots",
             "'virsh autostart --disable " + input.name + "'; Safepair does so when it starts it"});
    }
}

std::string described(const UsedFile& file) {
    return std::string("the ") + to_string(file.use) + " " + file.path;
}

void check_outside(const FileFact& fact, const PreflightInput& input, Findings& findings) {
    const auto linked = fact.resolved == fact.file.path ? "" : " (in truth " + fact.resolved + ")";
    switch (fact.file.use) {
        case FileUse::firmware:
            break;
        case FileUse::output:
            findings.push_back(
                {Severity::information,
                 "output-outside",
                 described(fact.file) + " is not in " + input.folder + ": each node keeps its own",
                 "nothing, unless it should be replicated"});
            break;
        case FileUse::tpm_state:
            findings.push_back({Severity::error,
                                "tpm-state-outside",
                                described(fact.file) + linked + " is not in " + input.folder +
                                    ": the other node would have an empty TPM",
                                "move it into " + input.folder +
                                    " and make a symbolic link to it, on both nodes"});
            break;
        default:
            findings.push_back(
                {Severity::error,
                 "file-outside",
                 described(fact.file) + linked + " is not in " + input.folder +
                     ": it is not replicated, and the other node does not have it",
                 fact.file.use == FileUse::removable
                     ? "eject it ('virsh change-media --eject --config') or move it into the folder"
                     : "move it into the folder and correct the configuration ('virsh edit')"});
    }
}

bool may_be_missing(FileUse use) {
    return use == FileUse::output || use == FileUse::nvram || use == FileUse::tpm_state;
}

void check_files(const PreflightInput& input, Findings& findings) {
    for (const auto& fact : input.host.files) {
        const bool named_inside =
            lies_in(fact.file.path, input.folder) || lies_in(fact.file.path, input.resolved_folder);
        // The state of a TPM lies where the hypervisor wants it; what counts is where that leads
        // to.
        if (!lies_in(fact.resolved, input.resolved_folder) ||
            (!named_inside && fact.file.use != FileUse::tpm_state)) {
            check_outside(fact, input, findings);
        }
        if (!fact.exists && !may_be_missing(fact.file.use)) {
            findings.push_back(
                {Severity::error,
                 "file-missing",
                 described(fact.file) + " does not exist",
                 fact.file.use == FileUse::firmware
                     ? "install the same firmware package on both nodes (Debian: ovmf)"
                     : "put it there or correct the configuration ('virsh edit')"});
        }
        if (!fact.problem.empty()) {
            findings.push_back(
                {Severity::warning,
                 "file-unreadable",
                 "what " + described(fact.file) + " refers to is unknown: " + fact.problem,
                 "check it with 'qemu-img info --backing-chain'"});
        }
    }
}

void check_devices(const PreflightInput& input, Findings& findings) {
    for (const auto& device : input.domain.foreign) {
        if (device.kind == "network-disk") {
            findings.push_back({Severity::warning,
                                device.kind,
                                device.text + ": it is not replicated by Safepair",
                                "make sure that both nodes reach it"});
        } else {
            findings.push_back({Severity::error,
                                device.kind,
                                device.text + ": the other node does not have it",
                                device.kind == "hostdev"
                                    ? "remove the device from the VM ('virsh edit')"
                                    : "use a file in " + input.folder + " as disk"});
        }
    }
}

void check_links(const PreflightInput& input, Findings& findings) {
    const auto& host = input.host;
    for (const auto& bridge : input.domain.bridges) {
        if (!contains(host.bridges, bridge)) {
            findings.push_back(
                {Severity::error,
                 "bridge-missing",
                 "the bridge '" + bridge +
                     "' does not exist on this node; there are: " + list(host.bridges),
                 "make it, with the same name on both nodes, or connect the VM to an existing "
                 "one"});
        }
    }
    for (const auto& network : input.domain.networks) {
        if (contains(host.networks, network)) {
            continue;
        }
        if (contains(host.inactive_networks, network)) {
            findings.push_back(
                {Severity::error,
                 "network-inactive",
                 "the network '" + network + "' is not active on this node",
                 "'virsh net-start " + network + "' and 'virsh net-autostart " + network + "'"});
        } else {
            findings.push_back(
                {Severity::error,
                 "network-missing",
                 "the network '" + network +
                     "' does not exist on this node; there are: " + list(host.networks),
                 "define it, with the same name on both nodes, or connect the VM to an existing "
                 "one"});
        }
    }
    for (const auto& interface : input.domain.interfaces) {
        if (!contains(host.interfaces, interface)) {
            findings.push_back(
                {Severity::error,
                 "interface-missing",
                 "the network interface '" + interface + "' does not exist on this node",
                 "name an interface, or better a bridge, that both nodes have"});
        }
    }
}

void check_processor(const PreflightInput& input, Findings& findings) {
    const auto& domain = input.domain;
    if (!input.host.emulator_exists) {
        findings.push_back(
            {Severity::error,
             "emulator-missing",
             "the emulator " + domain.emulator + " does not exist on this node",
             "install it (Debian: qemu-system-x86), at the same path on both nodes"});
    }
    if (input.host.cpu == CpuFit::differs) {
        findings.push_back(
            {Severity::error,
             "cpu-incompatible",
             "this node cannot give the VM the processor it wants" +
                 (input.host.cpu_reason.empty() ? std::string() : ": " + input.host.cpu_reason),
             "choose a CPU model that both nodes have ('virsh hypervisor-cpu-baseline')"});
    }
    if (domain.cpu_mode == "host-passthrough" || domain.cpu_mode == "host-model" ||
        domain.cpu_mode == "maximum") {
        findings.push_back(
            {Severity::warning,
             "cpu-of-host",
             "the CPU mode '" + domain.cpu_mode +
                 "' gives the VM another processor on the other node, unless both are equal: a "
                 "saved state "
                 "may not be restored there",
             "choose a CPU model that both nodes have ('virsh hypervisor-cpu-baseline')"});
    }
    if (!input.host.refusal.empty()) {
        findings.push_back(
            {Severity::error,
             "configuration-refused",
             "the hypervisor of this node does not accept the configuration: " + input.host.refusal,
             "correct it ('virsh edit'), or install the same versions on both nodes"});
    }
}

}  // namespace

std::vector<Finding> preflight_findings(const PreflightInput& input) {
    Findings findings;
    check_identity(input, findings);
    check_files(input, findings);
    check_devices(input, findings);
    check_links(input, findings);
    check_processor(input, findings);
    std::stable_sort(findings.begin(), findings.end(), [](const Finding& a, const Finding& b) {
        return a.severity > b.severity;
    });
    return findings;
}

}  // namespace safepair::hyperv
