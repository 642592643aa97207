// modules/NAME.yaml: what one module runs, where its files are, and how it is watched.
#include "config.hpp"
#include "config_fields.hpp"
#include "config_reader.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>

#include <arpa/inet.h>
#include <net/if.h>

namespace safepair::agent {

namespace {

using hyperv::StopKind;
using yaml::Mistakes;
using yaml::Section;
using yaml::Value;

/// The emulator's files are named after the domain: NAME.xml, NAME.save.
constexpr std::size_t vm_name_bytes_max = 200;

void read_nodes(Section& root,
                ModuleConfig& module,
                const ClusterConfig& cluster,
                Mistakes& mistakes) {
    std::vector<std::string> known;
    for (const auto& node : cluster.nodes) {
        known.push_back(node.name);
    }
    const auto value = known.size() == 2
                           ? root.take("nodes")
                           : root.require("nodes", "name the two nodes of this module");
    if (!value) {
        module.nodes = known;
        return;
    }
    const auto names = yaml::texts(*value, config_limits::nodes_max, mistakes);
    if (!names) {
        return;
    }
    for (const auto& name : *names) {
        if (std::find(known.begin(), known.end(), name) == known.end()) {
            mistakes.add(value->line(),
                         "nodes",
                         fmt::format("{} is not a node of cluster.yaml: {}",
                                     yaml::in_quotes(name),
                                     fmt::join(known, ", ")));
        }
    }
    if (names->size() != 2 || names->front() == names->back()) {
        mistakes.add(value->line(), "nodes", "a module has two different nodes: [node1, node2]");
    }
    module.nodes = *names;
}

void read_folder(Section& root, ModuleConfig& module, Mistakes& mistakes) {
    const auto value = root.require("folder", "write the absolute path of the folder to replicate");
    const auto path = value ? yaml::text(*value, mistakes) : std::nullopt;
    if (!path) {
        return;
    }
    const std::filesystem::path written(*path);
    auto folder = written.lexically_normal();
    if (!folder.has_filename()) {
        folder = folder.parent_path();
    }
    const auto has_dots =
        std::any_of(written.begin(), written.end(), [](const auto& part) { return part == ".."; });
    const auto last = folder.filename().string();
    if (!written.is_absolute() || has_dots) {
        mistakes.add(value->line(),
                     "folder",
                     yaml::in_quotes(*path) + " is not an absolute path without ..");
    } else if (folder == folder.root_path()) {
        mistakes.add(value->line(),
                     "folder",
                     "the root of the file system cannot be replicated; use a folder in it");
    } else if (last.starts_with('.') && last.ends_with(".safepair")) {
        mistakes.add(
            value->line(),
            "folder",
            yaml::in_quotes(*path) + " is a name that safe-agent itself uses; choose another");
    }
    module.folder = folder;
}

void read_networks(Section& root,
                   ModuleConfig& module,
                   const ClusterConfig& cluster,
                   Mistakes& mistakes) {
    std::vector<std::string> known;
    for (const auto& network : cluster.networks) {
        if (network.replication) {
            known.push_back(network.name);
        }
    }
    const auto value = root.take("networks");
    if (!value) {
        module.networks = known;
        return;
    }
    const auto names = yaml::texts(*value, config_limits::networks_max, mistakes);
    if (!names) {
        return;
    }
    for (const auto& name : *names) {
        if (std::find(known.begin(), known.end(), name) == known.end()) {
            mistakes.add(value->line(),
                         "networks",
                         fmt::format("{} is not a network with the use replication: {}",
                                     yaml::in_quotes(name),
                                     fmt::join(known, ", ")));
        }
        if (std::count(names->begin(), names->end(), name) > 1) {
            mistakes.add(value->line(), "networks", yaml::in_quotes(name) + " is listed twice");
        }
    }
    if (names->empty()) {
        mistakes.add(value->line(),
                     "networks",
                     "is empty; name at least one, or remove the line to use all");
    }
    module.networks = *names;
}

void read_policies(Section& root, ModuleConfig& module, Mistakes& mistakes) {
    if (const auto value = root.take("boot")) {
        module.boot =
            yaml::choice<Boot>(
                *value, {{"on", Boot::on}, {"off", Boot::off}, {"auto", Boot::automatic}}, mistakes)
                .value_or(module.boot);
    }
    if (const auto value = root.take("failover")) {
        module.failover = yaml::choice<bool>(*value, {{"on", true}, {"off", false}}, mistakes)
                              .value_or(module.failover);
    }
    if (const auto value = root.take("durability")) {
        module.durability = yaml::choice<replica::Durability>(
                                *value,
                                {{"flush-durable", replica::Durability::flush_durable},
                                 {"every-write", replica::Durability::every_write},
                                 {"received", replica::Durability::received}},
                                mistakes)
                                .value_or(module.durability);
    }
    if (const auto value = root.take("direct")) {
        module.direct = yaml::texts(*value, config_limits::direct_max, mistakes)
                            .value_or(std::vector<std::string>{});
    }
}

std::optional<AddressConfig> read_address(const Value& value,
                                          const ClusterConfig& cluster,
                                          Mistakes& mistakes) {
    Section section(value, mistakes);
    AddressConfig address;
    if (const auto given = section.require("address", "write address: 10.0.0.5/24")) {
        const auto word = yaml::text(*given, mistakes).value_or("");
        const auto slash = word.find('/');
        address.address = word.substr(0, slash);
        const auto digits = slash == std::string::npos ? std::string() : word.substr(slash + 1);
        const auto* end = digits.data() + digits.size();
        const auto parsed = std::from_chars(digits.data(), end, address.prefix);
        in_addr v4{};
        const bool good = inet_pton(AF_INET, address.address.c_str(), &v4) == 1 && v4.s_addr != 0 &&
                          !IN_MULTICAST(ntohl(v4.s_addr)) && parsed.ec == std::errc{} &&
                          parsed.ptr == end && address.prefix >= 1 && address.prefix <= 32;
        if (!good && !word.empty()) {
            mistakes.add(given->line(),
                         "address",
                         yaml::in_quotes(word) +
                             " is not an IPv4 address with its prefix length, such as 10.0.0.5/24");
        }
        for (const auto& node : cluster.nodes) {
            for (const auto& [network, own] : node.addresses) {
                if (own == address.address) {
                    mistakes.add(
                        given->line(),
                        "address",
                        fmt::format(
                            "{} is the address of {} itself on {}; a module needs one of its own",
                            own,
                            node.name,
                            network));
                }
            }
        }
    }
    if (const auto given = section.require(
            "interface", "write the network interface that gets the address: eth0")) {
        address.interface = yaml::text(*given, mistakes).value_or("");
        const bool bad = address.interface.size() >= IFNAMSIZ ||
                         address.interface.find_first_of("/ \t:@") != std::string::npos ||
                         address.interface.starts_with('-');
        if (bad) {
            mistakes.add(given->line(),
                         "interface",
                         yaml::in_quotes(address.interface) + " is not the name of an interface");
        }
    }
    section.finish();
    return section.valid() ? std::optional(address) : std::nullopt;
}

void read_addresses(Section& root,
                    ModuleConfig& module,
                    const ClusterConfig& cluster,
                    Mistakes& mistakes) {
    const auto value = root.take("addresses");
    if (!value) {
        return;
    }
    const auto entries = yaml::list(*value, config_limits::addresses_max, mistakes);
    for (const auto& entry : entries.value_or(std::vector<Value>{})) {
        if (auto address = read_address(entry, cluster, mistakes)) {
            const auto same = [&](const auto& one) { return one.address == address->address; };
            if (!address->address.empty() &&
                std::any_of(module.addresses.begin(), module.addresses.end(), same)) {
                mistakes.add(entry.line(), "address", address->address + " is listed twice");
            }
            module.addresses.push_back(std::move(*address));
        }
    }
}

void read_deadline(Section& section, const char* key, base::Duration& into, Mistakes& mistakes) {
    if (const auto value = section.take(key)) {
        into = yaml::duration(
                   *value, config_limits::deadline_min, config_limits::deadline_max, mistakes)
                   .value_or(into);
    }
}

VmConfig read_vm(const Value& value, const std::string& module, Mistakes& mistakes) {
    Section section(value, mistakes);
    VmConfig vm;
    vm.name = module;
    if (const auto name = section.take("name")) {
        vm.name = yaml::text(*name, mistakes).value_or(module);
        const bool control = std::any_of(vm.name.begin(), vm.name.end(), [](char c) {
            return static_cast<unsigned char>(c) < 0x20;
        });
        if (control || vm.name.find('/') != std::string::npos || vm.name.starts_with('.') ||
            vm.name.size() > vm_name_bytes_max) {
            mistakes.add(
                name->line(),
                "name",
                yaml::in_quotes(vm.name) +
                    " cannot be a domain's name here: no /, no dot in front, at most 200 bytes");
        }
    }
    if (const auto uri = section.take("uri")) {
        vm.uri = yaml::text(*uri, mistakes).value_or(vm.uri);
        if (!vm.uri.starts_with("qemu:///")) {
            mistakes.add(
                uri->line(),
                "uri",
                yaml::in_quotes(vm.uri) +
                    " is not a hypervisor on this node: qemu:///system, qemu:///embed?root=DIR");
        }
    }
    if (const auto kind = section.take("normal_stop")) {
        vm.normal_stop =
            yaml::choice<StopKind>(
                *kind,
                {{"stop", StopKind::stop}, {"save", StopKind::save}, {"off", StopKind::off}},
                mistakes)
                .value_or(vm.normal_stop);
    }
    if (const auto kind = section.take("force_stop")) {
        vm.force_stop =
            yaml::choice<StopKind>(
                *kind,
                {{"off", StopKind::off}, {"save", StopKind::save}, {"stop", StopKind::stop}},
                mistakes)
                .value_or(vm.force_stop);
    }
    read_deadline(section, "normal_stop_deadline", vm.normal_stop_deadline, mistakes);
    read_deadline(section, "force_stop_deadline", vm.force_stop_deadline, mistakes);
    section.finish();
    return vm;
}

std::vector<std::string> read_command(Section& section, const char* key, Mistakes& mistakes) {
    const auto value = section.require(
        key, fmt::format("write the executable and its arguments: {}: [/opt/app/control]", key));
    if (!value) {
        return {};
    }
    auto words = yaml::texts(*value, config_limits::arguments_max, mistakes);
    if (!words) {
        return {};
    }
    if (words->empty()) {
        mistakes.add(value->line(), key, "is empty; write the executable and its arguments");
    } else if (!std::filesystem::path(words->front()).is_absolute()) {
        // PATH of an agent started by systemd is not the administrator's.
        mistakes.add(
            value->line(),
            key,
            yaml::in_quotes(words->front()) + " is not the absolute path of an executable");
    }
    return *words;
}

ServiceConfig read_service(const Value& value, Mistakes& mistakes) {
    Section section(value, mistakes);
    ServiceConfig service;
    service.start = read_command(section, "start", mistakes);
    service.stop = read_command(section, "stop", mistakes);
    read_deadline(section, "start_deadline", service.start_deadline, mistakes);
    read_deadline(section, "stop_deadline", service.stop_deadline, mistakes);
    section.finish();
    return service;
}

}  // namespace

base::Result<ModuleConfig> parse_module(const std::string& text,
                                        const std::filesystem::path& file,
                                        const ClusterConfig& cluster) {
    Mistakes mistakes(file);
    ModuleConfig module;
    module.file = file;
    module.name = file.stem().string();
    module.pulse = cluster.pulse;
    module.timeout = cluster.timeout;
    if (!yaml::is_name(module.name)) {
        mistakes.add(
            0,
            "",
            "the file's name is the module's: a-z, 0-9 and - inside, such as vm1.yaml; rename it");
    }
    if (const auto root = yaml::parse(text, mistakes)) {
        Section section(*root, mistakes);
        read_nodes(section, module, cluster, mistakes);
        read_folder(section, module, mistakes);
        read_networks(section, module, cluster, mistakes);
        read_policies(section, module, mistakes);
        read_heartbeat(section, module.pulse, module.timeout, mistakes);
        read_addresses(section, module, cluster, mistakes);
        if (const auto vm = section.take("vm")) {
            module.vm = read_vm(*vm, module.name, mistakes);
        }
        if (const auto service = section.take("service")) {
            module.service = read_service(*service, mistakes);
        }
        const bool both = section.has("vm") && section.has("service");
        if (section.valid() && section.has("vm") == section.has("service")) {
            mistakes.add(section.line(),
                         both ? "vm, service" : "",
                         both ? "only one of the two can be protected by a module; make two modules"
                              : "says neither vm: nor service:, so there is nothing to protect");
        }
        section.finish();
    }
    if (!mistakes.empty()) {
        return mistakes.error();
    }
    return module;
}

}  // namespace safepair::agent
