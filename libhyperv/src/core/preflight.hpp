#pragma once

#include "domain_description.hpp"

#include <safepair/hyperv/virtual_machines.hpp>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace safepair::hyperv {

/// A used file as it is on this host.
struct FileFact {
    UsedFile file;
    /// After symbolic links; where it would be when it is missing.
    std::string resolved;
    bool exists = false;
    /// Why what it refers to could not be determined; empty when it could.
    std::string problem;
};

enum class CpuFit : std::uint8_t { fits, differs, unknown };

/// What this host has.
struct HostFacts {
    std::vector<FileFact> files;
    std::vector<std::string> bridges;
    std::vector<std::string> networks;
    std::vector<std::string> inactive_networks;
    std::vector<std::string> interfaces;
    bool emulator_exists = true;
    CpuFit cpu = CpuFit::unknown;
    /// What the hypervisor says against this CPU.
    std::string cpu_reason;
    /// The identity that the name belongs to here; none when the name is free.
    std::optional<std::string> uuid_of_name;
    /// The name that the identity has here; none when it is not registered.
    std::optional<std::string> name_of_uuid;
    bool autostart = false;
    /// It runs here, and we did not start it.
    bool runs_unasked = false;
    /// The hypervisor's reason against the configuration; empty when it accepts it.
    std::string refusal;
};

struct PreflightInput {
    std::string name;
    std::string folder;
    /// The folder after symbolic links.
    std::string resolved_folder;
    DomainDescription domain;
    HostFacts host;
};

/// Everything that speaks against this VM on this host, errors first.
[[nodiscard]] std::vector<Finding> preflight_findings(const PreflightInput& input);

}  // namespace safepair::hyperv
