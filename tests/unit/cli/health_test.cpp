#include "health.hpp"

#include "cli_support.hpp"
#include "support/catch.hpp"

namespace {

using namespace safepair;
using namespace safepair::cli;
using namespace safepair::cli::tests;

v1::ModuleStatus served(const std::string& module, const std::string& node, v1::Role role) {
    auto one = row(module, node, role, v1::READINESS_READY);
    one.set_service("running");
    return one;
}

v1::ModuleStatus ready_second(const std::string& module, const std::string& node) {
    return row(module, node, v1::ROLE_SECOND, v1::READINESS_READY);
}

v1::ModuleStatus waiting(const std::string& module, const std::string& node) {
    auto one = row(module, node, v1::ROLE_WAIT, v1::READINESS_NOT_READY);
    one.set_reason("not-up-to-date");
    return one;
}

}  // namespace

TEST_CASE("Health: a pair is judged by its service and its second copy") {
    auto silent_prim = served("vm1", "node2", v1::ROLE_PRIM);
    silent_prim.set_heard(false);

    struct Row {
        v1::StatusReply reply;
        Health health;
        const char* text;
    };

    const std::vector<Row> rows{
        {reply_of({served("vm1", "node1", v1::ROLE_PRIM), ready_second("vm1", "node2")}),
         Health::ok,
         "vm1: PRIM Ready on node1, SECOND Ready on node2"},
        {reply_of({served("vm1", "node1", v1::ROLE_ALONE),
                   row("vm1", "node2", v1::ROLE_STOP, v1::READINESS_NOT_READY)}),
         Health::warning,
         "vm1: no second copy is ready: ALONE Ready on node1, STOP NotReady on node2"},
        {syncing_reply(),
         Health::warning,
         "vm1: no second copy is ready: PRIM Ready on node1, SECOND Transient on node2 "
         "(peer-leads), syncing 42 %"},
        {reply_of({row("vm1", "node1", v1::ROLE_ALONE, v1::READINESS_TRANSIENT),
                   waiting("vm1", "node2")}),
         Health::warning,
         "vm1: not served yet: ALONE Transient on node1, WAIT NotReady on node2 (not-up-to-date)"},
        {reply_of({waiting("vm1", "node1"), waiting("vm1", "node2")}),
         Health::critical,
         "vm1: served by no node: WAIT NotReady on node1 (not-up-to-date), WAIT NotReady on node2 "
         "(not-up-to-date)"},
        {reply_of({waiting("vm1", "node1"), silent_prim}),
         Health::critical,
         "vm1: served by no node: WAIT NotReady on node1 (not-up-to-date), PRIM Ready (silent) on "
         "node2"},
        {reply_of({served("vm1", "node1", v1::ROLE_ALONE), served("vm1", "node2", v1::ROLE_ALONE)}),
         Health::critical,
         "vm1: led by two nodes: ALONE Ready on node1, ALONE Ready on node2"},
        {reply_of({}), Health::unknown, "no module is configured"},
    };
    for (const auto& one : rows) {
        DYNAMIC_SECTION(one.text) {
            const auto report = judge(one.reply, "");
            CHECK(report.health == one.health);
            CHECK(report.text == one.text);
        }
    }
}

TEST_CASE("Health: the worst module decides and is named first") {
    const auto report = judge(reply_of({served("db", "node1", v1::ROLE_PRIM),
                                        ready_second("db", "node2"),
                                        served("vm1", "node1", v1::ROLE_ALONE),
                                        waiting("vm1", "node2"),
                                        waiting("web", "node1"),
                                        waiting("web", "node2")}),
                              "");
    CHECK(report.health == Health::critical);
    CHECK_THAT(report.text, Catch::StartsWith("web: served by no node"));
    CHECK_THAT(
        report.text,
        Catch::Contains("; vm1: no second copy is ready") && Catch::EndsWith("; 1 module ok"));
    REQUIRE(report.modules.size() == 3);
    CHECK(report.modules[0].health == Health::ok);
}

TEST_CASE("Health: a link that is down is a warning although all modules are fine") {
    auto reply = reply_of({served("vm1", "node1", v1::ROLE_PRIM), ready_second("vm1", "node2")});
    add_link(reply, "production", "up");
    add_link(reply, "replication", "down");
    const auto report = judge(reply, "");
    CHECK(report.health == Health::warning);
    CHECK(report.text ==
          "vm1: PRIM Ready on node1, SECOND Ready on node2; link replication to node2 is down");
}

TEST_CASE("Health: with a node only its own rows are judged") {
    const auto reply = reply_of({served("vm1", "node1", v1::ROLE_ALONE), waiting("vm1", "node2")});
    CHECK(judge(reply, "node1").health == Health::ok);
    CHECK(judge(reply, "node2").health == Health::critical);
    CHECK(judge(reply, "node3").health == Health::unknown);
}
