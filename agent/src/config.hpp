#pragma once

#include <safepair/base/result.hpp>
#include <safepair/base/time.hpp>
#include <safepair/hyperv/workload.hpp>
#include <safepair/replica/replicated_folder.hpp>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

/// What an administrator writes: one cluster.yaml and one modules/NAME.yaml per module, the same on
/// every node. Plain values; who holds one may trust it, because only the strict readers below make
/// them. The keys, their meaning and their limits are in docs/operating/configuration.md.
namespace safepair::agent {

/// Every bound of the configuration. What is beyond one is an error that names it.
namespace config_limits {

inline constexpr std::size_t file_bytes_max = 256 * 1024;
inline constexpr std::size_t errors_max = 20;
inline constexpr std::size_t nodes_max = 16;
/// A heartbeat names each of them in one datagram.
inline constexpr std::size_t networks_max = 4;
/// Entries of the page that the agent shares with safe-guard.
inline constexpr std::size_t modules_max = 64;
/// Addresses of one module that safe-guard can remove.
inline constexpr std::size_t addresses_max = 8;
inline constexpr std::size_t direct_max = 32;
inline constexpr std::size_t arguments_max = 64;
inline constexpr std::size_t text_bytes_max = 1024;
inline constexpr base::Duration pulse_min = std::chrono::milliseconds(50);
inline constexpr base::Duration pulse_max = std::chrono::seconds(10);
inline constexpr base::Duration timeout_min = std::chrono::milliseconds(500);
inline constexpr base::Duration timeout_max = std::chrono::minutes(10);
/// A timeout of fewer pulses would take one lost datagram for a death.
inline constexpr int timeout_pulses_min = 3;
inline constexpr base::Duration deadline_min = std::chrono::seconds(1);
inline constexpr base::Duration deadline_max = std::chrono::hours(24);

}  // namespace config_limits

/// A machine of the cluster.
struct NodeConfig {
    std::string name;
    /// IPv4 or IPv6 address by network name; one for each network of the cluster.
    std::map<std::string, std::string> addresses;
};

/// A network of the cluster and what runs over it, beside the nodes' gRPC.
struct NetworkConfig {
    std::string name;
    bool heartbeat = false;
    bool replication = false;
};

struct PortsConfig {
    /// UDP.
    std::uint16_t heartbeat = 4800;
    /// TCP, gRPC between nodes.
    std::uint16_t peer = 4801;
    /// TCP, replicated data.
    std::uint16_t data = 4802;
};

/// cluster.yaml.
struct ClusterConfig {
    std::string name;
    /// At least two.
    std::vector<NodeConfig> nodes;
    /// At least one with each use.
    std::vector<NetworkConfig> networks;
    PortsConfig ports;
    /// For modules that set none.
    base::Duration pulse = std::chrono::milliseconds(250);
    base::Duration timeout = std::chrono::seconds(3);
};

/// Whether a module is started with its agent. `automatic`: when it was started before.
enum class Boot : std::uint8_t { on, off, automatic };

/// An IPv4 address that moves with the service.
struct AddressConfig {
    std::string address;
    unsigned prefix = 32;
    std::string interface;
};

struct VmConfig {
    /// The libvirt domain.
    std::string name;
    std::string uri = "qemu:///system";
    hyperv::StopKind normal_stop = hyperv::StopKind::stop;
    hyperv::StopKind force_stop = hyperv::StopKind::off;
    base::Duration normal_stop_deadline = std::chrono::seconds(300);
    base::Duration force_stop_deadline = std::chrono::seconds(60);
};

struct ServiceConfig {
    /// Executable and arguments, never empty.
    std::vector<std::string> start;
    std::vector<std::string> stop;
    base::Duration start_deadline = std::chrono::seconds(300);
    base::Duration stop_deadline = std::chrono::seconds(300);
};

/// modules/NAME.yaml.
struct ModuleConfig {
    std::string name;
    /// Where it was read.
    std::filesystem::path file;
    /// Two; the first is shown first and decides nothing.
    std::vector<std::string> nodes;
    /// Absolute and normal: no "..", no trailing slash.
    std::filesystem::path folder;
    /// Networks that carry this module's data, tried in this order; never empty. Heartbeats use
    /// every heartbeat network.
    std::vector<std::string> networks;
    Boot boot = Boot::automatic;
    /// false: the SECOND never takes over by itself.
    bool failover = true;
    base::Duration pulse = std::chrono::milliseconds(250);
    base::Duration timeout = std::chrono::seconds(3);
    replica::Durability durability = replica::Durability::flush_durable;
    /// Globs of files that are opened for direct I/O whatever the application asked for.
    std::vector<std::string> direct;
    std::vector<AddressConfig> addresses;
    /// Exactly one of the two.
    std::optional<VmConfig> vm;
    std::optional<ServiceConfig> service;
};

/// Reads cluster.yaml. Errors: Errc::bad_input with one line "FILE:LINE: FIELD: what and what next"
/// per mistake, at most config_limits::errors_max of them.
[[nodiscard]] base::Result<ClusterConfig> load_cluster(const std::filesystem::path& file);

/// Reads every *.yaml of `directory`, by name; none when there is no such directory. Errors as
/// above, all files together, also for what two modules may not share: a folder, an address, a VM.
[[nodiscard]] base::Result<std::vector<ModuleConfig>> load_modules(
    const std::filesystem::path& directory, const ClusterConfig& cluster);

/// The same from texts; `file` names them in errors.
[[nodiscard]] base::Result<ClusterConfig> parse_cluster(const std::string& text,
                                                        const std::filesystem::path& file);
/// `file` gives the module its name.
[[nodiscard]] base::Result<ModuleConfig> parse_module(const std::string& text,
                                                      const std::filesystem::path& file,
                                                      const ClusterConfig& cluster);

/// Changes when a setting changes that both nodes of the module must share (R22): the pair, the
/// timings, the folder, the kind and what it runs, durability, failover, addresses. Not: what may
/// differ from node to node, such as the hypervisor's URI.
[[nodiscard]] std::uint64_t settings_hash(const ClusterConfig& cluster, const ModuleConfig& module);

}  // namespace safepair::agent
