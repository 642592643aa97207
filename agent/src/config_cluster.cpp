// cluster.yaml: the nodes, the networks between them and what runs over each.
#include "config.hpp"
#include "config_fields.hpp"
#include "config_reader.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <set>

#include <arpa/inet.h>

namespace safepair::agent {

namespace {

using yaml::Mistakes;
using yaml::Section;
using yaml::Value;

/// Other channels on which a peer is heard; a network of that name could not be told from them.
constexpr std::array<const char*, 2> reserved_networks{"data", "peer-service"};

bool is_reserved(const std::string& network) {
    return std::find(reserved_networks.begin(), reserved_networks.end(), network) !=
           reserved_networks.end();
}

std::optional<NetworkConfig> read_network(const Value& value, Mistakes& mistakes) {
    Section section(value, mistakes);
    NetworkConfig network;
    if (const auto name = section.require("name", "write name: replication, for instance")) {
        network.name = yaml::name(*name, mistakes).value_or("");
        if (is_reserved(network.name)) {
            mistakes.add(name->line(),
                         "name",
                         yaml::in_quotes(network.name) + " is used inside; choose another name");
        }
    }
    if (const auto uses =
            section.require("uses", "write uses: [heartbeat, replication], or one of them")) {
        for (const auto& use : yaml::list(*uses, 2, mistakes).value_or(std::vector<Value>{})) {
            const auto member =
                yaml::choice<bool NetworkConfig::*>(use,
                                                    {{"heartbeat", &NetworkConfig::heartbeat},
                                                     {"replication", &NetworkConfig::replication}},
                                                    mistakes);
            if (member) {
                network.*(*member) = true;
            }
        }
    }
    section.finish();
    return section.valid() ? std::optional(network) : std::nullopt;
}

void read_networks(Section& root, ClusterConfig& cluster, Mistakes& mistakes) {
    const auto value =
        root.require("networks", "list the networks between the nodes, each with name and uses");
    if (!value) {
        return;
    }
    bool complete = true;
    const auto entries = yaml::list(*value, config_limits::networks_max, mistakes);
    for (const auto& entry : entries.value_or(std::vector<Value>{})) {
        auto network = read_network(entry, mistakes);
        if (!network || network->name.empty()) {
            complete = false;
            continue;
        }
        const auto same = [&](const auto& one) { return one.name == network->name; };
        if (std::any_of(cluster.networks.begin(), cluster.networks.end(), same)) {
            mistakes.add(entry.line(), "name", "network " + network->name + " is listed twice");
        }
        cluster.networks.push_back(std::move(*network));
    }
    if (!entries || !complete) {
        return;
    }
    for (const auto& [use, member] : {std::pair("heartbeat", &NetworkConfig::heartbeat),
                                      std::pair("replication", &NetworkConfig::replication)}) {
        const auto has_use = [member = member](const auto& network) { return network.*member; };
        if (std::none_of(cluster.networks.begin(), cluster.networks.end(), has_use)) {
            mistakes.add(value->line(),
                         "networks",
                         fmt::format("none has the use {}; add it to the uses of one", use));
        }
    }
}

/// "" after noting why it is no address of a node.
std::string read_address(const Value& value, Mistakes& mistakes) {
    const auto address = yaml::text(value, mistakes).value_or("");
    in_addr v4{};
    in6_addr v6{};
    bool usable = false;
    if (inet_pton(AF_INET, address.c_str(), &v4) == 1) {
        const auto number = ntohl(v4.s_addr);
        usable = number != INADDR_ANY && number != INADDR_BROADCAST && !IN_MULTICAST(number);
    } else if (inet_pton(AF_INET6, address.c_str(), &v6) == 1) {
        usable = IN6_IS_ADDR_UNSPECIFIED(&v6) == 0 && IN6_IS_ADDR_MULTICAST(&v6) == 0 &&
                 IN6_IS_ADDR_LINKLOCAL(&v6) == 0;
    }
    if (!usable && !address.empty()) {
        mistakes.add(value.line(),
                     value.field,
                     yaml::in_quotes(address) +
                         " is not the address of one machine; write one such as 192.168.1.11");
    }
    return usable ? address : "";
}

NodeConfig read_node(const Value& value, const ClusterConfig& cluster, Mistakes& mistakes) {
    Section section(value, mistakes);
    NodeConfig node;
    if (const auto name = section.require("name", "write the node's name, as in its certificate")) {
        node.name = yaml::name(*name, mistakes).value_or("");
    }
    if (const auto addresses = section.require("addresses", "write one address for each network")) {
        Section by_network(*addresses, mistakes);
        for (const auto& network : cluster.networks) {
            if (const auto address = by_network.require(
                    network.name, "every node needs an address on every network")) {
                node.addresses[network.name] = read_address(*address, mistakes);
            }
        }
        by_network.finish();
    }
    section.finish();
    return node;
}

bool is_v6(const std::string& address) { return address.find(':') != std::string::npos; }

void check_addresses(const ClusterConfig& cluster, int line, Mistakes& mistakes) {
    std::map<std::string, std::string> owners;
    for (const auto& node : cluster.nodes) {
        for (const auto& [network, address] : node.addresses) {
            if (address.empty()) {
                continue;
            }
            const auto [owner, fresh] = owners.emplace(address, node.name + " on " + network);
            if (!fresh) {
                mistakes.add(line,
                             "addresses",
                             fmt::format("{} is given twice, to {} and to {} on {}",
                                         address,
                                         owner->second,
                                         node.name,
                                         network));
            }
            const auto first = cluster.nodes.front().addresses.find(network);
            if (first != cluster.nodes.front().addresses.end() && !first->second.empty() &&
                is_v6(first->second) != is_v6(address)) {
                mistakes.add(
                    line,
                    "addresses",
                    fmt::format("network {} has IPv4 and IPv6 addresses; use one kind on all nodes",
                                network));
            }
        }
    }
}

void read_nodes(Section& root, ClusterConfig& cluster, Mistakes& mistakes) {
    const auto value = root.require("nodes", "list the nodes, each with name and addresses");
    if (!value) {
        return;
    }
    const auto entries = yaml::list(*value, config_limits::nodes_max, mistakes);
    if (!entries) {
        return;
    }
    for (const auto& entry : *entries) {
        auto node = read_node(entry, cluster, mistakes);
        const auto same = [&](const auto& one) { return one.name == node.name; };
        if (!node.name.empty() && std::any_of(cluster.nodes.begin(), cluster.nodes.end(), same)) {
            mistakes.add(entry.line(), "name", "node " + node.name + " is listed twice");
        }
        cluster.nodes.push_back(std::move(node));
    }
    if (entries->size() < 2) {
        mistakes.add(
            value->line(), "nodes", "a cluster has at least two nodes; list the other one");
        return;
    }
    check_addresses(cluster, value->line(), mistakes);
}

void read_ports(Section& root, PortsConfig& ports, Mistakes& mistakes) {
    const auto value = root.take("ports");
    if (!value) {
        return;
    }
    Section section(*value, mistakes);
    for (const auto& [key, port] : {std::pair("heartbeat", &ports.heartbeat),
                                    std::pair("peer", &ports.peer),
                                    std::pair("data", &ports.data)}) {
        if (const auto number = section.take(key)) {
            *port = yaml::port(*number, mistakes).value_or(*port);
        }
    }
    section.finish();
    if (ports.peer == ports.data) {
        mistakes.add(
            value->line(),
            "ports",
            fmt::format("peer and data are both {}; both are TCP, so give them two", ports.peer));
    }
}

}  // namespace

base::Result<ClusterConfig> parse_cluster(const std::string& text,
                                          const std::filesystem::path& file) {
    Mistakes mistakes(file);
    ClusterConfig cluster;
    if (const auto root = yaml::parse(text, mistakes)) {
        Section section(*root, mistakes);
        if (const auto name = section.require("name", "write the cluster's name")) {
            cluster.name = yaml::name(*name, mistakes).value_or("");
        }
        // The nodes' addresses are looked up by network.
        read_networks(section, cluster, mistakes);
        read_nodes(section, cluster, mistakes);
        read_ports(section, cluster.ports, mistakes);
        read_heartbeat(section, cluster.pulse, cluster.timeout, mistakes);
        section.finish();
    }
    if (!mistakes.empty()) {
        return mistakes.error();
    }
    return cluster;
}

}  // namespace safepair::agent
