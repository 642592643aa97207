#include "wire/wire.hpp"

#include "support/catch.hpp"

using namespace safepair;
using namespace safepair::agent;

namespace {

ModuleSnapshot leader() {
    ModuleSnapshot snapshot;
    snapshot.module = "vm1";
    snapshot.kind = "vm";
    snapshot.folder = "/srv/vm1";
    snapshot.service = "running";
    snapshot.since = 42;
    snapshot.view.role = cluster::Role::prim;
    snapshot.view.readiness = cluster::Readiness::ready;
    snapshot.view.peer_heard = true;
    snapshot.view.lineage.term = {7, base::NodeId{"node1"}};
    snapshot.stats.dirty_bytes = 4096;
    return snapshot;
}

}  // namespace

TEST_CASE("This node's row says what its module is and has") {
    const auto row = wire::local_row(leader(), "node1", "node2");
    CHECK(row.module() == "vm1");
    CHECK(row.node() == "node1");
    CHECK(row.peer() == "node2");
    CHECK(row.role() == v1::ROLE_PRIM);
    CHECK(row.readiness() == v1::READINESS_READY);
    CHECK(row.data() == "uptodate");
    CHECK(row.service() == "running");
    CHECK(row.since() == 42);
    CHECK(row.term().counter() == 7);
    CHECK(row.heard());
    CHECK(row.dirty_bytes() == 4096);
}

TEST_CASE("A peer that was never heard, or is silent now, is shown as unknown") {
    auto snapshot = leader();
    auto row = wire::peer_row(snapshot, "node1", "node2");
    CHECK_FALSE(row.heard());
    CHECK(row.data() == "unknown");
    CHECK_THAT(row.text(), Catch::Contains("node2 has not been heard yet"));

    cluster::PeerStatus status;
    status.role = cluster::Role::second;
    status.readiness = cluster::Readiness::ready;
    snapshot.view.peer = status;
    row = wire::peer_row(snapshot, "node1", "node2");
    CHECK(row.heard());
    CHECK(row.role() == v1::ROLE_SECOND);
    CHECK(row.data() == "uptodate");

    snapshot.view.peer_heard = false;
    row = wire::peer_row(snapshot, "node1", "node2");
    CHECK_FALSE(row.heard());
    CHECK(row.role() == v1::ROLE_SECOND);
    CHECK(row.data() == "unknown");
    CHECK_THAT(row.text(), Catch::Contains("node2 is silent"));
}

TEST_CASE("A running resynchronisation is on the follower's row, with the time that is left") {
    auto snapshot = leader();
    cluster::PeerStatus status;
    status.role = cluster::Role::second;
    status.readiness = cluster::Readiness::transient;
    snapshot.view.peer = status;
    snapshot.stats.progress.running = true;
    snapshot.stats.progress.mode = replica::SyncMode::checksum;
    snapshot.stats.progress.bytes_total = 1000;
    snapshot.stats.progress.bytes_done = 400;
    snapshot.stats.progress.bytes_per_second = 200;
    const auto row = wire::peer_row(snapshot, "node1", "node2");
    CHECK(row.data() == "syncing");
    CHECK(row.resync().mode() == "checksum");
    CHECK(row.resync().eta_seconds() == 3);
    CHECK_FALSE(wire::local_row(snapshot, "node1", "node2").has_resync());
}

TEST_CASE("Every verb of the protocol is a command, with its flags and its actor") {
    const std::vector<std::pair<v1::Verb, cluster::Verb>> verbs{
        {v1::VERB_START, cluster::Verb::start},
        {v1::VERB_STOP, cluster::Verb::stop},
        {v1::VERB_RESTART, cluster::Verb::restart},
        {v1::VERB_SWAP, cluster::Verb::swap},
        {v1::VERB_AS_PRIMARY, cluster::Verb::as_primary},
        {v1::VERB_AS_SECONDARY, cluster::Verb::as_secondary},
        {v1::VERB_FORCESTOP, cluster::Verb::forcestop}};
    for (const auto& [wire_verb, verb] : verbs) {
        v1::CommandRequest request;
        request.set_verb(wire_verb);
        request.set_actor(std::string(500, 'a'));
        request.set_force(true);
        request.set_discard_local(true);
        const auto command = wire::to_command(request);
        REQUIRE(command);
        CHECK(command->verb == verb);
        CHECK(command->force);
        CHECK(command->discard_local);
        CHECK_FALSE(command->force_inconsistent);
        CHECK(command->actor.size() == 100);
    }
    const auto none = wire::to_command(v1::CommandRequest());
    REQUIRE_FALSE(none);
    CHECK(none.error().code == base::Errc::bad_input);
}

TEST_CASE("A stored event reaches the wire with every field") {
    EventEntry entry;
    entry.time = 5;
    entry.module = "vm1";
    entry.node = "node1";
    entry.kind = "transition";
    entry.from = "WAIT Transient";
    entry.to = "PRIM Ready";
    entry.reason = "operator-command";
    entry.actor = "root";
    entry.term_counter = 3;
    entry.term_node = "node1";
    entry.text = "text";
    entry.output = "output";
    const auto record = wire::to_proto(9, entry);
    CHECK(record.id() == 9);
    CHECK(record.time() == 5);
    CHECK(record.module() == "vm1");
    CHECK(record.node() == "node1");
    CHECK(record.kind() == "transition");
    CHECK(record.from() == "WAIT Transient");
    CHECK(record.to() == "PRIM Ready");
    CHECK(record.reason() == "operator-command");
    CHECK(record.actor() == "root");
    CHECK(record.term().counter() == 3);
    CHECK(record.term().node() == "node1");
    CHECK(record.text() == "text");
    CHECK(record.output() == "output");
}
