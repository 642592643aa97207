#include "config.hpp"

#include "support/catch.hpp"
#include "support/scratch_directory.hpp"

#include <fstream>
#include <functional>
#include <string>
#include <vector>

#include <sys/stat.h>

using namespace safepair;
using namespace safepair::agent;

namespace {

constexpr const char* cluster_text = R"(name: site1
networks:
  - {name: production, uses: [heartbeat]}
  - {name: replication, uses: [heartbeat, replication]}
nodes:
  - name: node1
    addresses: {production: 192.168.1.11, replication: 10.0.0.1}
  - name: node2
    addresses: {production: 192.168.1.12, replication: 10.0.0.2}
)";

constexpr const char* vm_text = R"(folder: /srv/vm1
vm: {name: vm1}
)";

ClusterConfig sample_cluster() {
    auto cluster = parse_cluster(cluster_text, "cluster.yaml");
    REQUIRE(cluster);
    return *cluster;
}

void write(const std::filesystem::path& file, const std::string& text) {
    std::filesystem::create_directories(file.parent_path());
    std::ofstream(file) << text;
    // Whatever the umask of whoever runs this is.
    std::filesystem::permissions(file, std::filesystem::perms(0644));
}

/// The errors of loading `texts`, file name and content, as module files.
std::string load_errors(const std::vector<std::pair<std::string, std::string>>& texts) {
    const tests::ScratchDirectory scratch;
    for (const auto& [name, text] : texts) {
        write(scratch.path() / name, text);
    }
    const auto modules = load_modules(scratch.path(), sample_cluster());
    return modules ? "" : modules.error().context;
}

}  // namespace

TEST_CASE("The example configuration is valid") {
    const std::filesystem::path examples = std::filesystem::path(SAFEPAIR_PACKAGING) / "examples";
    const auto cluster = load_cluster(examples / "cluster.yaml");
    REQUIRE(cluster);
    CHECK(cluster->name == "site1");
    const auto modules = load_modules(examples / "modules", *cluster);
    REQUIRE(modules);
    REQUIRE(modules->size() == 2);

    const auto& app = modules->at(0);
    CHECK(app.name == "app1");
    REQUIRE(app.service);
    CHECK(app.service->start == std::vector<std::string>{"/opt/app1/control"});
    CHECK(app.service->stop_deadline == std::chrono::minutes(2));
    CHECK(app.timeout == std::chrono::seconds(5));
    REQUIRE(app.addresses.size() == 1);
    CHECK(app.addresses[0].address == "192.168.1.50");
    CHECK(app.addresses[0].prefix == 24);
    CHECK(app.addresses[0].interface == "eth0");

    const auto& vm = modules->at(1);
    REQUIRE(vm.vm);
    CHECK(vm.vm->normal_stop == hyperv::StopKind::stop);
    CHECK(vm.vm->normal_stop_deadline == std::chrono::minutes(5));
    CHECK(vm.boot == Boot::automatic);
}

TEST_CASE("A module that says little gets the cluster's values and the documented defaults") {
    auto cluster = sample_cluster();
    cluster.timeout = std::chrono::seconds(7);
    const auto module =
        parse_module("folder: /srv/vm1/\nvm: {normal_stop: save}\n", "modules/vm1.yaml", cluster);
    REQUIRE(module);
    CHECK(module->name == "vm1");
    CHECK(module->nodes == std::vector<std::string>{"node1", "node2"});
    CHECK(module->networks == std::vector<std::string>{"replication"});
    CHECK(module->folder == "/srv/vm1");
    CHECK(module->timeout == std::chrono::seconds(7));
    CHECK(module->failover);
    CHECK(module->durability == replica::Durability::flush_durable);
    CHECK(module->vm->name == "vm1");
    CHECK(module->vm->uri == "qemu:///system");
    CHECK(module->vm->normal_stop == hyperv::StopKind::save);
    CHECK_FALSE(module->service);
}

TEST_CASE("Every key of a module is read") {
    const auto* text = R"(nodes: [node2, node1]
folder: /srv/app
networks: [replication]
boot: on
failover: off
heartbeat: {pulse: 50ms, timeout: 500 ms}
durability: every-write
direct: ["*.img", "disk?"]
addresses:
  - {address: 10.1.0.5/16, interface: br0}
service:
  start: [/bin/app, up]
  stop: [/bin/app, down]
  start_deadline: 1h
  stop_deadline: 90s
)";
    const auto module = parse_module(text, "app.yaml", sample_cluster());
    REQUIRE(module);
    CHECK(module->nodes == std::vector<std::string>{"node2", "node1"});
    CHECK(module->boot == Boot::on);
    CHECK_FALSE(module->failover);
    CHECK(module->pulse == std::chrono::milliseconds(50));
    CHECK(module->timeout == std::chrono::milliseconds(500));
    CHECK(module->durability == replica::Durability::every_write);
    CHECK(module->direct == std::vector<std::string>{"*.img", "disk?"});
    CHECK(module->service->stop == std::vector<std::string>{"/bin/app", "down"});
    CHECK(module->service->start_deadline == std::chrono::hours(1));
    CHECK(module->service->stop_deadline == std::chrono::seconds(90));
}

TEST_CASE("A mistake in a module file is told with file, line, field and what is allowed") {
    struct Case {
        const char* text;
        const char* error;
        const char* because;
    };

    const std::string head = "folder: /srv/vm1\n";
    const std::vector<Case> cases{
        {"vm:\n  normal_stop: halt\n",
         "m/vm1.yaml:3: normal_stop: \"halt\" is not one of stop, save, off",
         "a choice"},
        {"vm: {name: vm1}\nheartbeats: {}\n",
         "m/vm1.yaml:3: \"heartbeats\" is not known; did you mean heartbeat?",
         "a near key"},
        {"vm: {name: vm1}\nxyzzy: 1\n",
         "m/vm1.yaml:3: \"xyzzy\" is not known; known here: addresses, boot,",
         "a strange key"},
        {"vm: {name: vm1}\nboot: on\nboot: off\n",
         "m/vm1.yaml:4: boot: is given twice, first in line 3",
         "a repeated key"},
        {"vm: {name: vm1}\nboot:\n", "m/vm1.yaml:3: boot: has no value", "an empty value"},
        {"vm: {name: vm1}\nheartbeat: {timeout: 3}\n",
         "m/vm1.yaml:3: timeout: \"3\" has no unit; write 3ms, 3s, 3min or 3h",
         "a bare number"},
        {"vm: {name: vm1}\nheartbeat: {timeout: 3m}\n",
         "m/vm1.yaml:3: timeout: \"3m\" is not a duration; write a whole number and one of ms, s, "
         "min, h",
         "an unknown unit"},
        {"vm: {name: vm1}\nheartbeat: {timeout: 400ms, pulse: 50ms}\n",
         "timeout: \"400ms\" is not within 500ms and 10min",
         "a short timeout"},
        {"vm: {name: vm1}\nheartbeat: {pulse: 10ms}\n",
         "pulse: \"10ms\" is not within 50ms and 10s",
         "a fast pulse"},
        {"vm: {name: vm1}\nheartbeat: {timeout: 600ms}\n",
         "m/vm1.yaml:3: heartbeat: timeout 600ms is less than 3 pulses of 250ms",
         "fewer than three pulses of the cluster's"},
        {"vm: {name: vm1}\nheartbeat: {timeout: 99999999999999999999h}\n",
         "is not within 500ms and 10min",
         "a number beyond all bounds"},
        {"vm: {name: vm1}\nheartbeat: {timeout: -3s}\n",
         "is not within 500ms and 10min",
         "a negative duration"},
        {"vm: {name: vm1}\nnodes: [node1, node9]\n",
         "nodes: \"node9\" is not a node of cluster.yaml: node1, node2",
         "an unknown node"},
        {"vm: {name: vm1}\nnodes: [node1, node1]\n",
         "nodes: a module has two different nodes",
         "one node twice"},
        {"vm: {name: vm1}\nnetworks: [production]\n",
         "networks: \"production\" is not a network with the use replication: replication",
         "a network without data"},
        {"vm: {name: vm1}\naddresses: [{address: 10.0.0.5, interface: eth0}]\n",
         "address: \"10.0.0.5\" is not an IPv4 address with its prefix length",
         "no prefix"},
        {"vm: {name: vm1}\naddresses: [{address: 10.0.0.5/33, interface: eth0}]\n",
         "address: \"10.0.0.5/33\" is not",
         "a long prefix"},
        {"vm: {name: vm1}\naddresses: [{address: 10.0.0.1/24, interface: eth0}]\n",
         "address: 10.0.0.1 is the address of node1 itself on replication",
         "a node's address"},
        {"vm: {name: vm1}\naddresses: [{address: 10.0.0.5/24, interface: a-name-too-long1}]\n",
         "\"a-name-too-long1\" is not the name of an interface",
         "a long interface"},
        {"vm: {name: vm1}\naddresses: [{address: 10.0.0.5/24}]\n",
         "m/vm1.yaml:3: interface: is missing; write the network interface",
         "no interface"},
        {"vm: {uri: \"qemu+ssh://elsewhere/system\"}\n",
         "uri: \"qemu+ssh://elsewhere/system\" is not a hypervisor on this node",
         "a VM elsewhere"},
        {"vm: {name: ../vm1}\n", "name: \"../vm1\" cannot be a domain's name here", "a path"},
        {"vm: [vm1]\n", "m/vm1.yaml:2: vm: must hold \"key: value\" lines", "a list for a section"},
        {"service: {start: [/a], stop: [a]}\n",
         "stop: \"a\" is not the absolute path of an executable",
         "a relative executable"},
        {"service: {start: /a, stop: [/a]}\n", "start: must be a list", "a text for a list"},
        {"service: {start: [/a]}\n",
         "stop: is missing; write the executable and its arguments: stop: [/opt/app/control]",
         "no stop"},
        {"vm: {name: vm1}\nservice: {start: [/a], stop: [/a]}\n",
         "only one of the two can be protected by a module",
         "both kinds"},
        {"boot: on\n", "m/vm1.yaml:1: says neither vm: nor service:", "no kind"},
        {"vm: {name: vm1\n", "m/vm1.yaml:3: not YAML: ", "a syntax error"},
        {"vm: {name: vm1}\n---\nboot: on\n",
         "m/vm1.yaml:4: a second document begins",
         "two documents"},
        {"vm: {name: vm1}\nfailover: true\n",
         "failover: \"true\" is not one of on, off",
         "a boolean of YAML"},
    };
    for (const auto& one : cases) {
        DYNAMIC_SECTION(one.because) {
            const auto module = parse_module(head + one.text, "m/vm1.yaml", sample_cluster());
            REQUIRE_FALSE(module);
            CHECK(module.error().code == base::Errc::bad_input);
            CHECK_THAT(module.error().context, Catch::Contains(one.error));
        }
    }
}

TEST_CASE("A folder must be an absolute path of its own") {
    struct Case {
        const char* folder;
        const char* error;
    };

    const std::vector<Case> cases{{"srv/vm1", "is not an absolute path"},
                                  {"/srv/../vm1", "is not an absolute path without .."},
                                  {"/", "the root of the file system cannot be replicated"},
                                  {"/srv/.vm1.safepair", "is a name that safe-agent itself uses"}};
    for (const auto& one : cases) {
        DYNAMIC_SECTION(one.folder) {
            const auto text = std::string("folder: ") + one.folder + "\nvm: {name: vm1}\n";
            const auto module = parse_module(text, "vm1.yaml", sample_cluster());
            REQUIRE_FALSE(module);
            CHECK_THAT(module.error().context, Catch::StartsWith("vm1.yaml:1: folder: "));
            CHECK_THAT(module.error().context, Catch::Contains(one.error));
        }
    }
}

TEST_CASE("All mistakes of a file are told at once, up to a bound") {
    const auto some = parse_module("folder: srv\nvm: {normal_stop: a, force_stop: b}\nboot: c\n",
                                   "vm1.yaml",
                                   sample_cluster());
    REQUIRE_FALSE(some);
    const auto lines = [](const std::string& text) {
        return std::count(text.begin(), text.end(), '\n') + 1;
    };
    CHECK(lines(some.error().context) == 4);

    std::string many;
    for (int i = 0; i < 50; ++i) {
        many += "key" + std::to_string(i) + "zzzz: 1\n";
    }
    const auto bounded = parse_module(many, "vm1.yaml", sample_cluster());
    REQUIRE_FALSE(bounded);
    CHECK(lines(bounded.error().context) ==
          static_cast<std::ptrdiff_t>(config_limits::errors_max) + 1);
    CHECK_THAT(bounded.error().context, Catch::EndsWith("and 32 more"));
}

TEST_CASE("A mistake in cluster.yaml is told with line and field") {
    struct Case {
        const char* from;
        const char* to;
        const char* error;
    };

    const std::vector<Case> cases{
        {"name: site1", "name: Site 1", "cluster.yaml:1: name: \"Site 1\" is not a name"},
        {"uses: [heartbeat, replication]",
         "uses: [heartbeat]",
         "cluster.yaml:2: networks: none has the use replication"},
        {"uses: [heartbeat]",
         "uses: [heartbeats]",
         "cluster.yaml:3: uses: \"heartbeats\" is not one of heartbeat, replication"},
        {"name: production", "name: data", "name: \"data\" is used inside"},
        {"name: production", "name: replication", "network replication is listed twice"},
        {", replication: 10.0.0.2",
         "",
         "cluster.yaml:9: replication: is missing; every node needs an address on every network"},
        {"10.0.0.2",
         "10.0.0.1",
         "10.0.0.1 is given twice, to node1 on replication and to node2 on replication"},
        {"10.0.0.2",
         "10.0.0",
         "cluster.yaml:9: replication: \"10.0.0\" is not the address of one machine"},
        {"10.0.0.2", "0.0.0.0", "\"0.0.0.0\" is not the address of one machine"},
        {"10.0.0.2", "224.0.0.1", "\"224.0.0.1\" is not the address of one machine"},
        {"10.0.0.2", "\"fd00::2\"", "network replication has IPv4 and IPv6 addresses"},
        {"name: node2", "name: node1", "node node1 is listed twice"},
        {"replication: 10.0.0.1}",
         "replication: 10.0.0.1, lan: 10.9.9.9}",
         "\"lan\" is not known; known here: production, replication"},
        {"name: site1",
         "name: site1\nports: {peer: 7000, data: 7000}",
         "cluster.yaml:2: ports: peer and data are both 7000"},
        {"name: site1", "name: site1\nports: {peer: 70000}", "peer: \"70000\" is not a port"},
        {"name: site1", "name: site1\nports: {peer: 0}", "peer: \"0\" is not a port"},
        {"name: site1", "witness: none", "name: is missing; write the cluster's name"},
    };
    for (const auto& one : cases) {
        DYNAMIC_SECTION(one.error) {
            std::string text = cluster_text;
            const auto at = text.find(one.from);
            REQUIRE(at != std::string::npos);
            text.replace(at, std::string(one.from).size(), one.to);
            const auto cluster = parse_cluster(text, "cluster.yaml");
            REQUIRE_FALSE(cluster);
            CHECK_THAT(cluster.error().context, Catch::Contains(one.error));
        }
    }
}

TEST_CASE("A cluster of one node, an empty file and a missing file are refused") {
    const auto* one =
        "name: a\nnetworks: [{name: n, uses: [heartbeat, replication]}]\nnodes: [{name: x, "
        "addresses: {n: 10.0.0.1}}]\n";
    const auto single = parse_cluster(one, "c");
    REQUIRE_FALSE(single);
    CHECK_THAT(single.error().context, Catch::Contains("a cluster has at least two nodes"));

    const auto empty = parse_cluster("# nothing\n", "c");
    REQUIRE_FALSE(empty);
    CHECK(empty.error().context == "c: is empty");

    const tests::ScratchDirectory scratch;
    const auto missing = load_cluster(scratch / "cluster.yaml");
    REQUIRE_FALSE(missing);
    CHECK(missing.error().code == base::Errc::bad_input);
    CHECK_THAT(missing.error().context, Catch::Contains("there is no such file"));
}

TEST_CASE(
    "A configuration file that is too large, a directory, or writable by everybody is refused") {
    const tests::ScratchDirectory scratch;
    const auto file = scratch / "cluster.yaml";
    write(file, "name: a #" + std::string(config_limits::file_bytes_max, 'x'));
    auto loaded = load_cluster(file);
    REQUIRE_FALSE(loaded);
    CHECK_THAT(loaded.error().context, Catch::Contains("is larger than"));

    write(file, cluster_text);
    std::filesystem::permissions(file, std::filesystem::perms(0666));
    loaded = load_cluster(file);
    REQUIRE_FALSE(loaded);
    CHECK_THAT(loaded.error().context, Catch::Contains("chmod o-w " + file.string()));

    loaded = load_cluster(scratch.path());
    REQUIRE_FALSE(loaded);
    CHECK_THAT(loaded.error().context, Catch::Contains("is not a file"));
}

TEST_CASE("Text that is not what a parser hopes for is an error and never a crash") {
    const auto cluster = sample_cluster();
    const std::vector<std::string> junk{std::string("\0\0\0", 3),
                                        "\xff\xfe",
                                        "[",
                                        "{",
                                        "- a\n- b",
                                        "a: &a [*a]",
                                        "? {a: b}\n: c",
                                        "&x a: *y",
                                        "!!int a: b",
                                        std::string(2000, '['),
                                        "a: " + std::string(2000, '{'),
                                        "*a",
                                        "\t",
                                        "%YAML 9.9\n---\n",
                                        "folder: &f\n  <<: *f\n"};
    for (const auto& text : junk) {
        CHECK_FALSE(parse_cluster(text, "c"));
        CHECK_FALSE(parse_module(text, "vm1.yaml", cluster));
    }
    const std::string good = vm_text;
    for (std::size_t i = 0; i < good.size(); ++i) {
        auto text = good;
        text[i] = '{';
        static_cast<void>(parse_module(text, "vm1.yaml", cluster));
        static_cast<void>(parse_module(good.substr(0, i), "vm1.yaml", cluster));
    }
}

TEST_CASE("Modules are read by name; a directory that is not there holds none") {
    const tests::ScratchDirectory scratch;
    const auto none = load_modules(scratch / "modules", sample_cluster());
    REQUIRE(none);
    CHECK(none->empty());

    write(scratch / "b.yaml", "folder: /srv/b\nvm: {name: b}\n");
    write(scratch / "a.yaml", "folder: /srv/a\nvm: {name: a}\n");
    write(scratch / "a.yaml.bak", "junk");
    write(scratch / ".c.yaml", "junk");
    const auto two = load_modules(scratch.path(), sample_cluster());
    REQUIRE(two);
    REQUIRE(two->size() == 2);
    CHECK(two->at(0).name == "a");
    CHECK(two->at(1).name == "b");
    CHECK(two->at(1).file == scratch / "b.yaml");
}

TEST_CASE("Two modules share neither folder, nor VM, nor address") {
    const std::string a =
        "folder: /srv/a\nvm: {name: v}\naddresses: [{address: 10.7.0.1/24, interface: eth0}]\n";
    CHECK_THAT(load_errors({{"a.yaml", a}, {"b.yaml", "folder: /srv/a/\nvm: {name: b}\n"}}),
               Catch::Contains("b.yaml: folder: /srv/a is the folder of module a already"));
    CHECK_THAT(load_errors({{"a.yaml", a}, {"b.yaml", "folder: /srv/a/b\nvm: {name: b}\n"}}),
               Catch::Contains("folder: /srv/a/b and /srv/a of module a lie one in the other"));
    CHECK_THAT(load_errors({{"a.yaml", a}, {"b.yaml", "folder: /srv\nvm: {name: b}\n"}}),
               Catch::Contains("lie one in the other"));
    CHECK_THAT(load_errors({{"a.yaml", a}, {"b.yaml", "folder: /srv/b\nvm: {name: v}\n"}}),
               Catch::Contains("vm: v is the VM of module a already"));
    CHECK_THAT(load_errors({{"a.yaml", a},
                            {"b.yaml",
                             "folder: /srv/b\nvm: {name: b}\naddresses: [{address: 10.7.0.1/16, "
                             "interface: eth1}]\n"}}),
               Catch::Contains("addresses: 10.7.0.1 belongs to module a already"));
    CHECK(load_errors({{"a.yaml", a}, {"b.yaml", "folder: /srv/ab\nvm: {name: b}\n"}}).empty());
}

TEST_CASE("The mistakes of several module files are told together") {
    const auto errors = load_errors({{"a.yaml", "folder: a\nvm: {name: a}\n"},
                                     {"b.yaml", "vm: {name: b}\n"},
                                     {"c.yml", "folder: /srv/c\n"},
                                     {"D.yaml", vm_text}});
    CHECK_THAT(errors, Catch::Contains("a.yaml:1: folder: \"a\" is not an absolute path"));
    CHECK_THAT(errors, Catch::Contains("b.yaml:1: folder: is missing"));
    CHECK_THAT(errors,
               Catch::Contains("c.yml: modules are read from NAME.yaml; rename it to c.yaml"));
    CHECK_THAT(errors, Catch::Contains("D.yaml: the file's name is the module's"));
}

TEST_CASE("The settings hash changes with what both nodes must share and with nothing else") {
    const auto cluster = sample_cluster();
    const auto parsed = parse_module(vm_text, "vm1.yaml", cluster);
    REQUIRE(parsed);
    const auto hash = settings_hash(cluster, *parsed);

    struct Case {
        const char* name;
        std::function<void(ClusterConfig&, ModuleConfig&)> change;
        bool differs;
    };

    const std::vector<Case> cases{
        {"cluster", [](auto& c, auto&) { c.name = "other"; }, true},
        {"module", [](auto&, auto& m) { m.name = "vm2"; }, true},
        {"peer",
         [](auto&, auto& m) {
             m.nodes = {"node1", "node3"};
         },
         true},
        {"order of the nodes",
         [](auto&, auto& m) {
             m.nodes = {"node2", "node1"};
         },
         false},
        {"folder", [](auto&, auto& m) { m.folder = "/srv/vm2"; }, true},
        {"pulse", [](auto&, auto& m) { m.pulse *= 2; }, true},
        {"timeout", [](auto&, auto& m) { m.timeout *= 2; }, true},
        {"failover", [](auto&, auto& m) { m.failover = false; }, true},
        {"durability", [](auto&, auto& m) { m.durability = replica::Durability::received; }, true},
        {"VM", [](auto&, auto& m) { m.vm->name = "other"; }, true},
        {"kind", [](auto&, auto& m) { m.vm.reset(), m.service = ServiceConfig{}; }, true},
        {"addresses",
         [](auto&, auto& m) {
             m.addresses.push_back({"10.0.0.9", 24, "eth0"});
         },
         true},
        {"hypervisor", [](auto&, auto& m) { m.vm->uri = "qemu:///embed?root=/x"; }, false},
        {"boot", [](auto&, auto& m) { m.boot = Boot::on; }, false},
        {"where it was read", [](auto&, auto& m) { m.file = "/elsewhere/vm1.yaml"; }, false},
    };
    for (const auto& one : cases) {
        DYNAMIC_SECTION(one.name) {
            auto changed_cluster = cluster;
            auto changed = *parsed;
            one.change(changed_cluster, changed);
            CHECK((settings_hash(changed_cluster, changed) != hash) == one.differs);
        }
    }
}
