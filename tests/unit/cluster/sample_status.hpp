#pragma once

#include <safepair/cluster/status.hpp>

#include <cstdint>

/// Values for codec tests in which every field differs from its default and from its neighbours.
namespace safepair::cluster::samples {

template <typename Id>
Id id(std::uint8_t start) {
    Id made;
    for (auto& byte : made.bytes) {
        byte = start++;
    }
    return made;
}

inline Lineage full_lineage() {
    Lineage lineage;
    lineage.initialised = true;
    lineage.consistent = false;
    lineage.outdated = true;
    lineage.peer_outdated = true;
    lineage.clean = false;
    lineage.pending = id<GenerationId>(1);
    lineage.current = id<GenerationId>(2);
    lineage.base = id<GenerationId>(3);
    for (std::size_t i = 0; i < lineage.history.size(); ++i) {
        lineage.history[i] = id<GenerationId>(static_cast<std::uint8_t>(10 + i));
    }
    lineage.term = {0x1122334455667788U, NodeId{"node2"}};
    lineage.last_role = LastRole::secondary;
    lineage.boot = id<BootId>(30);
    lineage.handed_to = NodeId{"node1"};
    lineage.alone_from = LastRole::primary;
    lineage.resync_mode = SyncMode::checksum;
    lineage.full_sync_due = true;
    return lineage;
}

inline PeerStatus full_status() {
    PeerStatus status;
    status.node = NodeId{"node1"};
    status.incarnation = id<Incarnation>(40);
    status.version = 7;
    status.role = Role::second;
    status.readiness = Readiness::transient;
    status.lineage = full_lineage();
    status.whole = true;
    status.changed_alone = true;
    status.map_usable = true;
    status.service_running = true;
    status.leaving = true;
    status.wants_exclusion = true;
    status.synced_session = id<SessionId>(50);
    status.handover =
        Handover{9, NodeId{"node2"}, {10, NodeId{"node1"}}, id<SessionId>(60), 11, true};
    status.handover_answer = HandoverAnswer{12, true};
    status.following = Following{id<SessionId>(70),
                                 NodeId{"node2"},
                                 id<Incarnation>(80),
                                 {13, NodeId{"node2"}},
                                 SyncMode::checksum,
                                 true};
    status.lost_session = id<SessionId>(90);
    status.claims_lead = true;
    status.heard_incarnation = id<Incarnation>(100);
    status.heard_version = 14;
    status.settings_hash = 0xA0B0C0D0E0F00102U;
    status.reason = "synchronising from node2";
    return status;
}

}  // namespace safepair::cluster::samples
