#pragma once

#include "config.hpp"

#include <safepair/base/result.hpp>
#include <safepair/hyperv/workload.hpp>

#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace safepair::agent {

/// The VM or service of `config`. `machines` yields the hypervisor behind a URI.
[[nodiscard]] base::Result<std::unique_ptr<hyperv::Workload>> make_workload(
    const ModuleConfig& config,
    const std::filesystem::path& state_directory,
    const std::function<base::Result<hyperv::VirtualMachines*>(const std::string& uri)>& machines);

/// Adds the module's addresses and announces them (gratuitous ARP, RFC 5944 section 4.6). Errors
/// name the address; those added before it stay.
[[nodiscard]] base::Result<void> add_addresses(const std::vector<AddressConfig>& addresses);

/// Removes the module's addresses; those that are not there are no error.
void remove_addresses(const std::vector<AddressConfig>& addresses) noexcept;

}  // namespace safepair::agent
