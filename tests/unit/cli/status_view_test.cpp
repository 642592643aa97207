#include "status_view.hpp"

#include "cli_support.hpp"
#include "output.hpp"
#include "rows.hpp"
#include "support/catch.hpp"

namespace {

using namespace safepair;
using namespace safepair::cli;
using namespace safepair::cli::tests;

std::string rendered(const v1::StatusReply& reply, const ViewOptions& options = {}) {
    fix_environment();
    // A line feed first, so that recorded text can stand at the margin.
    return "\n" + render_status(reply, options);
}

/// One module in each kind of trouble, the fine one first and last by name.
v1::StatusReply troubled_reply() {
    auto alone = row("db", "node1", v1::ROLE_ALONE, v1::READINESS_READY);
    alone.set_service("running");
    alone.set_reason("peer-stopped");
    auto stopped = row("db", "node2", v1::ROLE_STOP, v1::READINESS_NOT_READY);
    stopped.set_data("outdated");
    stopped.set_reason("operator-command");
    stopped.set_text("stopped");
    auto first = row("new", "node1", v1::ROLE_WAIT, v1::READINESS_NOT_READY);
    first.set_data("not uptodate");
    first.set_reason("first-start");
    first.set_text(
        "neither copy was ever declared good: on the node that has the data, safectl stop, then "
        "safectl as-primary");
    auto both = first;
    both.set_node("node2");
    auto degraded = row("old", "node1", v1::ROLE_ALONE, v1::READINESS_READY);
    degraded.set_service("running");
    degraded.set_degraded(true);
    degraded.set_reason("channel-lost");
    degraded.set_text("the data channel to node2 is lost; trying again");
    auto unrelated = row("old", "node2", v1::ROLE_WAIT, v1::READINESS_NOT_READY);
    unrelated.set_data("unknown");
    unrelated.set_reason("unrelated-data");
    unrelated.set_text(
        "this copy is newer than the one that node1 serves. To give up this copy: safectl stop, "
        "then safectl "
        "as-secondary --discard-local");
    auto second_row = row("app", "node1", v1::ROLE_SECOND, v1::READINESS_READY);
    second_row.set_reason("peer-in-sync");
    auto prim = row("app", "node2", v1::ROLE_PRIM, v1::READINESS_READY);
    prim.set_service("running");
    auto waiting = row("vm1", "node1", v1::ROLE_WAIT, v1::READINESS_NOT_READY);
    waiting.set_data("unknown");
    waiting.set_reason("not-up-to-date");
    waiting.set_text(
        "waits for node2: its data may be newer. Start it there, or, if this copy is the good one: "
        "safectl stop MODULE "
        "--node node1, then safectl as-primary MODULE --node node1");
    v1::ModuleStatus unheard;
    unheard.set_module("vm1");
    unheard.set_node("node2");
    unheard.set_data("unknown");
    unheard.set_text("node2 has not been heard yet");
    auto reply = reply_of(
        {second_row, prim, alone, stopped, first, both, degraded, unrelated, waiting, unheard});
    add_link(reply, "production", "up");
    add_link(reply, "replication", "up");
    add_link(reply, "replication", "down");
    return reply;
}

}  // namespace

TEST_CASE("Status table: a resynchronising pair on one screen") {
    CHECK(rendered(syncing_reply()) == R"(
CLUSTER prod   2 nodes   witness none   seen by node1   2026-11-22 19:04:11
MODULE  NODE   STATE   READY        DATA          SERVICE  SINCE  REASON
vm1     node1  PRIM    ✓ Ready      uptodate      running  3d02h  peer-follows
vm1     node2  SECOND  ↻ Transient  syncing 42 %  -        00:03  resync 118 MB/s, 31.2 GiB left, ETA 4m31s

↻ vm1 on node2: is brought up to date by node1
)");
}

TEST_CASE("Status table: the worst module comes first, each problem with what to do") {
    CHECK(rendered(troubled_reply()) == R"(
CLUSTER prod   2 nodes   witness none   seen by node1   2026-11-22 19:04:11
MODULE  NODE   STATE   READY       DATA          SERVICE  SINCE  REASON
db      node1  ALONE   ✓ Ready     uptodate      running  00:03  peer-stopped
db      node2  STOP    ✗ NotReady  outdated      -        00:03  operator-command
new     node1  WAIT    ○ NotReady  not uptodate  -        00:03  first-start
new     node2  WAIT    ○ NotReady  not uptodate  -        00:03  first-start
old     node1  ALONE   ↻ Ready     uptodate      running  00:03  degraded: channel-lost
old     node2  WAIT    ○ NotReady  unknown       -        00:03  unrelated-data
vm1     node1  WAIT    ○ NotReady  unknown       -        00:03  not-up-to-date
vm1     node2  -       ? silent    unknown       -        -      not heard yet
app     node1  SECOND  ✓ Ready     uptodate      -        00:03  peer-in-sync
app     node2  PRIM    ✓ Ready     uptodate      running  00:03

✗ db on node2: stopped. To start it: safectl start db --node node2
○ new on node1 and node2: neither copy was ever declared good: on the node that has the data, safectl stop new, then safectl as-primary new
○ old on node2: this copy is newer than the one that node1 serves. To give up this copy: safectl stop old, then safectl as-secondary old --discard-local (each with --node node2)
○ vm1 on node1: waits for node2: its data may be newer. Start it there, or, if this copy is the good one: safectl stop vm1 --node node1, then safectl as-primary vm1 --node node1
? vm1 on node2: node2 has not been heard yet. Check that the machine runs, its agent (systemctl status safe-agent), and the network
↻ old on node1: the data channel to node2 is lost; trying again
✗ link replication to node2 is down; node2 is still heard over production. One more failure and it counts as lost. Check the cable and the switch
)");
}

TEST_CASE("Status table: ASCII and no headers for scripts") {
    ViewOptions options;
    options.utf8 = false;
    options.headers = false;
    CHECK(rendered(syncing_reply(), options) == R"(
vm1  node1  PRIM    + Ready      uptodate      running  3d02h  peer-follows
vm1  node2  SECOND  ~ Transient  syncing 42 %  -        00:03  resync 118 MB/s, 31.2 GiB left, ETA 4m31s
)");
    options.headers = true;
    const auto troubled = rendered(troubled_reply(), options);
    CHECK_THAT(troubled,
               Catch::Contains("WAIT    o NotReady") && Catch::Contains("STOP    x NotReady"));
    CHECK(std::all_of(troubled.begin(), troubled.end(), [](char one) {
        return static_cast<unsigned char>(one) < 0x80;
    }));
}

TEST_CASE("Status table: wide adds term, generation, dirty bytes and folder") {
    ViewOptions options;
    options.wide = true;
    CHECK_THAT(rendered(syncing_reply(), options), Catch::Contains(R"(
MODULE  NODE   STATE   READY        DATA          SERVICE  SINCE  TERM     GENERATION  DIRTY     FOLDER    REASON
vm1     node1  PRIM    ✓ Ready      uptodate      running  3d02h  7 node1  01234567    31.2 GiB  /srv/vm1  peer-follows
vm1     node2  SECOND  ↻ Transient  syncing 42 %  -        00:03  -        -           -         /srv/vm1  resync )"));
}

TEST_CASE("Status table: colour adds to the words and changes nothing else") {
    ViewOptions options;
    options.color = true;
    auto colored = rendered(troubled_reply(), options);
    CHECK_THAT(colored,
               Catch::Contains("\033[31m✗ NotReady\033[0m") &&
                   Catch::Contains("\033[32m✓ Ready\033[0m") &&
                   Catch::Contains("\033[33m↻ Ready\033[0m"));
    for (auto start = colored.find('\033'); start != std::string::npos;
         start = colored.find('\033')) {
        colored.erase(start, colored.find('m', start) - start + 1);
    }
    CHECK(colored == rendered(troubled_reply()));
}

TEST_CASE("Status table: sentences are broken at the width of the terminal, rows never") {
    ViewOptions options;
    options.columns = 60;
    const auto text = rendered(troubled_reply(), options);
    CHECK_THAT(text,
               Catch::Contains(
                   "\n✗ db on node2: stopped. To start it:\n  safectl start db --node node2\n"));
    CHECK_THAT(text,
               Catch::Contains("\nold     node1  ALONE   ↻ Ready     uptodate      running  00:03  "
                               "degraded: channel-lost\n"));
}

TEST_CASE("Status table: a silent peer is marked, whatever it said last") {
    auto prim = row("vm1", "node2", v1::ROLE_PRIM, v1::READINESS_READY);
    prim.set_heard(false);
    prim.set_data("unknown");
    prim.set_text("node2 is silent; this is what it said last");
    const auto text = rendered(reply_of({prim}));
    CHECK_THAT(text,
               Catch::Contains("vm1     node2  PRIM   ? silent  unknown  -        00:03  silent, "
                               "this is what it said last\n"));
    CHECK_THAT(text,
               Catch::Contains("? vm1 on node2: node2 is silent; this is what it said last. Check "
                               "that the machine runs"));
}

TEST_CASE("Status table: links tell what their loss means") {
    auto reply = reply_of({});
    add_link(reply, "production", "down");
    add_link(reply, "replication", "down");
    CHECK_THAT(
        rendered(reply),
        Catch::Contains(
            "link production to node2 is down, and no other is up: node2 counts as lost here"));
    auto forged = reply_of({});
    add_link(forged, "production", "up");
    forged.mutable_links(0)->set_forged(12);
    CHECK_THAT(rendered(forged), Catch::Contains("12 heartbeats with a wrong key were dropped"));
    auto fresh = reply_of({});
    add_link(fresh, "production", "unknown");
    CHECK_THAT(rendered(fresh), Catch::Contains("↻ link production to node2: nothing heard yet"));
}

TEST_CASE("Status table: names of the world stay aligned and harmless") {
    auto wide = row("büro", "node1", v1::ROLE_SECOND, v1::READINESS_READY);
    auto evil = row("vm", "node1", v1::ROLE_SECOND, v1::READINESS_READY);
    evil.set_reason("\033[2Jgone");
    CHECK_THAT(
        rendered(reply_of({wide, evil})),
        Catch::Contains("büro    node1  SECOND  ✓ Ready  uptodate  -        00:03\n"
                        "vm      node1  SECOND  ✓ Ready  uptodate  -        00:03  ?[2Jgone\n"));
}

TEST_CASE("Rows: a percentage is below 100 until the end") {
    v1::Resync resync;
    CHECK(percent_of(resync) == 0);
    resync.set_bytes_total(1000);
    resync.set_bytes_done(999);
    CHECK(percent_of(resync) == 99);
    resync.set_bytes_done(2000);
    CHECK(percent_of(resync) == 99);
    CHECK(progress_words(resync) == "resync 0 B left");
    resync.set_bytes_done(0);
    CHECK(progress_words(resync) == "resync 1000 B left");
}

TEST_CASE("Rows: a link that two modules see differently is as bad as the worse view") {
    auto reply = reply_of({});
    add_link(reply, "production", "up");
    add_link(reply, "production", "unknown");
    add_link(reply, "production", "up");
    REQUIRE(merged_links(reply).size() == 1);
    CHECK(merged_links(reply).front().state() == "unknown");
}
