#include "output.hpp"

#include "cli_support.hpp"
#include "rows.hpp"
#include "support/catch.hpp"

#include <yaml-cpp/yaml.h>

namespace {

using namespace safepair;
using namespace safepair::cli;
using namespace safepair::cli::tests;

v1::StatusReply small_reply() {
    auto reply = syncing_reply();
    reply.mutable_modules()->erase(reply.modules().begin());
    reply.mutable_links()->erase(reply.links().begin());
    return reply;
}

}  // namespace

TEST_CASE("JSON: a status has its documented keys") {
    CHECK("\n" + render_json(to_json(small_reply())) == R"(
{
  "cluster": "prod",
  "node": "node1",
  "nodes": [
    "node1",
    "node2"
  ],
  "time": "2026-11-22T19:04:11.000000Z",
  "witness": "none",
  "modules": [
    {
      "module": "vm1",
      "node": "node2",
      "role": "SECOND",
      "readiness": "Transient",
      "data": "syncing",
      "service": null,
      "reason": "peer-leads",
      "text": "is brought up to date by node1",
      "since": "2026-11-22T19:04:08.000000Z",
      "heard": true,
      "degraded": false,
      "peer": "node1",
      "folder": "/srv/vm1",
      "term": null,
      "generation": null,
      "dirty_bytes": 0,
      "last_resync_copied_bytes": 0,
      "last_resync_changed_bytes": 0,
      "resync": {
        "mode": "dirty-blocks",
        "percent": 42,
        "bytes_total": 57800000000,
        "bytes_done": 24300000000,
        "bytes_copied": 24000000000,
        "bytes_per_second": 118000000,
        "eta_seconds": 271,
        "file": "disk.qcow2"
      }
    }
  ],
  "links": [
    {
      "network": "replication",
      "peer": "node2",
      "state": "up",
      "sent": 1000,
      "received": 999,
      "forged": 0,
      "replayed": 0
    }
  ]
}
)");
}

TEST_CASE("YAML: a status says the same as in JSON") {
    CHECK("\n" + render_yaml(to_json(small_reply())) == R"(
cluster: prod
node: node1
nodes:
  - node1
  - node2
time: "2026-11-22T19:04:11.000000Z"
witness: none
modules:
  - module: vm1
    node: node2
    role: SECOND
    readiness: Transient
    data: syncing
    service: null
    reason: peer-leads
    text: is brought up to date by node1
    since: "2026-11-22T19:04:08.000000Z"
    heard: true
    degraded: false
    peer: node1
    folder: "/srv/vm1"
    term: null
    generation: null
    dirty_bytes: 0
    last_resync_copied_bytes: 0
    last_resync_changed_bytes: 0
    resync:
      mode: dirty-blocks
      percent: 42
      bytes_total: 57800000000
      bytes_done: 24300000000
      bytes_copied: 24000000000
      bytes_per_second: 118000000
      eta_seconds: 271
      file: disk.qcow2
links:
  - network: replication
    peer: node2
    state: up
    sent: 1000
    received: 999
    forged: 0
    replayed: 0
)");
}

TEST_CASE("YAML: a string is read back as that string") {
    for (const auto* text :
         {"",      "on",   "No",  "true", "null", "~",  "1",  "1.5", "0x10",
          "a: b",  "a #b", "- a", "'a'",  "\"",   "\\", " a", "a ",  "line\nfeed",
          "tab\t", "Büro", "{a}", "*a",   "&a",   "!a", "%a", "@a",  "plain words"}) {
        DYNAMIC_SECTION("'" << text << "'") {
            const auto yaml = render_yaml(Json{{"key", text}});
            INFO(yaml);
            const auto node = YAML::Load(yaml)["key"];
            REQUIRE(node.IsScalar());
            CHECK(node.Scalar() == text);
            // A quoted scalar has the tag "!": no reader takes it for a number or a truth value.
            const bool is_plain = node.Tag() == "?";
            CHECK((!is_plain || std::string(text) == "plain words"));
        }
    }
}

TEST_CASE("JSON and YAML: a stream is one object per line or one document each") {
    const Json value{{"id", 1}, {"text", "a\nb"}};
    CHECK(render_stream_item(value, Format::json) == "{\"id\":1,\"text\":\"a\\nb\"}\n");
    CHECK(render_stream_item(value, Format::yaml) == "---\nid: 1\ntext: \"a\\nb\"\n");
    CHECK(render_yaml(Json{{"list", Json::array()}}) == "list: []\n");
}

TEST_CASE("JSON: bytes that are no UTF-8 are replaced, not fatal") {
    v1::EventRecord record;
    record.set_id(1);
    const auto json = to_json(record);
    auto broken = json;
    broken["output"] = "a\xff";
    CHECK_THAT(render_json(broken), Catch::Contains("a\xef\xbf\xbd"));
}

TEST_CASE("JSON: an event has its documented keys") {
    v1::EventRecord record;
    record.set_id(41);
    record.set_time(noon);
    record.set_module("vm1");
    record.set_node("node2");
    record.set_kind("transition");
    record.set_from("SECOND Ready");
    record.set_to("ALONE Transient");
    record.set_reason("peer-silent");
    record.set_actor("heartbeat");
    record.mutable_term()->set_counter(8);
    record.mutable_term()->set_node("node2");
    record.set_text("see safectl stop MODULE");
    record.set_output("ok\n");
    CHECK(
        to_json(record).dump() ==
        R"({"id":41,"time":"2026-11-22T19:04:11.000000Z","module":"vm1","node":"node2","kind":"transition",)"
        R"("from":"SECOND Ready","to":"ALONE Transient","reason":"peer-silent","actor":"heartbeat",)"
        R"("term":{"counter":8,"node":"node2"},"text":"see safectl stop vm1","output":"ok\n"})");
}

TEST_CASE("Table: columns are aligned by what is seen and lines have no end of blanks") {
    Table table({"A", "BB", "C"});
    table.add({{"機械"}, {"x"}, {""}});
    table.add({{"y", Style::bad}, {"zzz"}, {"last"}});
    CHECK(table.render(true, false) == "A     BB   C\n機械  x\ny     zzz  last\n");
    CHECK(table.render(false, true) == "機械  x\n\033[31my\033[0m     zzz  last\n");
}
