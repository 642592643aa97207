#include "log_view.hpp"

#include "cli_support.hpp"
#include "support/catch.hpp"

namespace {

using namespace safepair;
using namespace safepair::cli;
using namespace safepair::cli::tests;

v1::EventRecord event(const std::string& from, const std::string& to) {
    fix_environment();
    v1::EventRecord record;
    record.set_id(41);
    record.set_time(noon + 123'000'000);
    record.set_module("vm1");
    record.set_node("node2");
    record.set_kind("transition");
    record.set_from(from);
    record.set_to(to);
    return record;
}

}  // namespace

TEST_CASE("Log: an event is a line with its reason, its actor and the hint at its output") {
    auto failover = event("SECOND Ready", "ALONE Transient");
    failover.set_reason("peer-silent");
    failover.set_text("node1 is silent on all networks");
    auto started = event("ALONE Transient", "ALONE Ready");
    started.set_text("service started");
    started.set_output("+ virsh start vm1\nDomain started\n");
    auto audit = event("", "");
    audit.set_kind("audit");
    audit.set_actor("alice (root)");
    audit.set_text("safectl stop MODULE was asked");
    LogView view({});
    std::string text = "\n" + view.render(failover);
    text += view.render(started);
    text += view.render(audit);
    CHECK(text == R"(
TIME                     NODE   MODULE  EVENT                           TEXT
2026-11-22 19:04:11.123  node2  vm1     SECOND Ready → ALONE Transient  node1 is silent on all networks (peer-silent)
2026-11-22 19:04:11.123  node2  vm1     ALONE Transient → Ready         service started [2 lines of output: --output]
2026-11-22 19:04:11.123  node2  vm1     audit                           safectl stop vm1 was asked (by alice (root))
)");
}

TEST_CASE("Log: output is shown below its event, without what would steer the terminal") {
    auto record = event("ALONE Transient", "WAIT NotReady");
    record.set_text("the service did not start");
    record.set_output("line 1\n\033[2Jline 2");
    LogOptions options;
    options.output = true;
    options.headers = false;
    options.utf8 = false;
    LogView view(options);
    CHECK("\n" + view.render(record) == R"(
2026-11-22 19:04:11.123  node2  vm1     ALONE Transient -> WAIT NotReady  the service did not start
    | line 1
    | ?[2Jline 2
)");
}

TEST_CASE("Log: wide adds the id, which --after takes, and the term") {
    auto record = event("WAIT Transient", "ALONE Transient");
    record.set_text("leads");
    record.mutable_term()->set_counter(8);
    record.mutable_term()->set_node("node2");
    LogOptions options;
    options.wide = true;
    LogView view(options);
    CHECK("\n" + view.render(record) == R"(
ID    TIME                     NODE   MODULE  EVENT                             TEXT
41    2026-11-22 19:04:11.123  node2  vm1     WAIT Transient → ALONE Transient  leads [term 8 node2]
)");
}

TEST_CASE("Log: a change within a role says the role once") {
    CHECK(event_words(event("SECOND Transient", "SECOND Ready"), true) ==
          "SECOND Transient → Ready");
    CHECK(event_words(event("STOP NotReady", "WAIT Transient"), false) ==
          "STOP NotReady -> WAIT Transient");
    CHECK(event_words(event("", "STOP NotReady"), true) == "STOP NotReady");
    CHECK(event_words(event("PRIM Ready", "PRIM Ready"), true) == "PRIM Ready → PRIM Ready");
}
