#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include <safepair/base/time.hpp>
#include <safepair/cluster/lineage.hpp>

/// What one node tells the other about one module, in every heartbeat and over gRPC. The protocol between two role
/// machines is level-triggered: each looks at the other's latest PeerStatus, so a lost, repeated or reordered message
/// costs a pulse and nothing else (docs/adr/0005-level-triggered-peers.md).
namespace safepair::cluster {

enum class Role : std::uint8_t { stop, wait, alone, prim, second };
enum class Readiness : std::uint8_t { not_ready, transient, ready };

/// "STOP", "WAIT", "ALONE", "PRIM", "SECOND".
[[nodiscard]] const char* to_string(Role role) noexcept;
/// "NotReady", "Transient", "Ready".
[[nodiscard]] const char* to_string(Readiness readiness) noexcept;

/// R17: the leaver's request, durable on its side ({outdated, handed_to, term}) before it is first shown.
struct Handover {
    std::uint64_t id = 0;
    NodeId to;
    /// The term the taker must make durable.
    Term term;
    SessionId session;
    /// The taker must have applied and flushed the session up to this sequence number.
    std::uint64_t sequence = 0;
    /// swap: the leaver becomes SECOND. Otherwise it stops and the taker also records peer_outdated.
    bool swap = false;
    friend bool operator==(const Handover&, const Handover&) = default;
};

struct HandoverAnswer {
    std::uint64_t id = 0;
    bool taken = false;
    friend bool operator==(const HandoverAnswer&, const HandoverAnswer&) = default;
};

/// A node in SECOND says whom it follows, and under which session it accepts a data channel.
struct Following {
    SessionId session;
    NodeId leader;
    Incarnation leader_incarnation;
    Term term;
    SyncMode mode = SyncMode::full;
    /// The storage is open and the listener accepts `session`.
    bool accepting = false;
    friend bool operator==(const Following&, const Following&) = default;
};

struct PeerStatus {
    NodeId node;
    Incarnation incarnation;
    /// Grows with every change inside one incarnation, so that an older copy arriving late is dropped.
    std::uint64_t version = 0;
    Role role = Role::stop;
    Readiness readiness = Readiness::not_ready;
    Lineage lineage;
    bool whole = false;
    bool changed_alone = false;
    bool map_usable = false;
    bool service_running = false;
    /// An operator stop is being carried out here: hand nothing to this node.
    bool leaving = false;
    /// R7: "I lead and want to go on without you: make `outdated` durable and show it."
    bool wants_exclusion = false;
    /// R8: this leader made peer_outdated=false durable for this session; the follower may finish.
    SessionId synced_session;
    std::optional<Handover> handover;
    std::optional<HandoverAnswer> handover_answer;
    std::optional<Following> following;
    /// A leader's last data channel that is gone, or could not be opened: the follower that still shows it draws another.
    SessionId lost_session;
    /// A node in WAIT wants to lead; it does once the other has heard of it and does not claim with better right.
    bool claims_lead = false;
    /// Echo: the incarnation and the highest version of the other's status that had arrived here. Not counted as a
    /// change (no new version): of two statuses with one version the larger echo is the later one.
    Incarnation heard_incarnation;
    std::uint64_t heard_version = 0;
    /// Hash of the settings both nodes must share (R22 mixed settings).
    std::uint64_t settings_hash = 0;
    /// Why it is where it is, for the other node's status table (at most limits::reason_bytes_max).
    std::string reason;

    friend bool operator==(const PeerStatus&, const PeerStatus&) = default;
};

}  // namespace safepair::cluster
