#pragma once

#include <cstdint>
#include <string>
#include <variant>

#include <safepair/cluster/event.hpp>
#include <safepair/cluster/status.hpp>

/// Everything a role machine asks for. Actions are carried out in list order; what needs durability first is not in the
/// list yet (the machine holds it until LineageSaved comes back).
namespace safepair::cluster {

/// Why a transition happened; logged, shown and asserted in tests. to_string gives the kebab-case word.
enum class Reason : std::uint8_t {
    none,
    operator_command,
    not_up_to_date,          ///< waits for a peer whose data may be newer
    first_start,             ///< neither copy was ever declared good
    peer_absent,             ///< leads because the peer is absent and known to be behind
    newest_data,             ///< leads because its copy is newest
    peer_leads,              ///< follows
    peer_silent,             ///< no sign of life on any network
    peer_stopped,            ///< announced
    peer_restarted,          ///< another incarnation of its agent
    handed_over,             ///< swap or stop of the leader
    peer_in_sync,            ///< resynchronisation ended
    channel_lost,            ///< replication link lost while the peer is heard
    resync_interrupted,
    split_brain_winner,
    split_brain_loser,
    superseded,              ///< another node leads with a higher term
    overslept,
    unrelated_data,
    inconsistent_data,
    folder_not_recognised,
    folder_busy,
    archive_failed,
    storage_failed,
    service_failed,
    service_exited,
    lineage_failed,
    failover_off,
    excluded,                ///< told by the leader that this copy is outdated
    settings_differ,
    refused,
    peer_follows,            ///< the peer joined and is being synchronised
};
[[nodiscard]] const char* to_string(Reason reason) noexcept;

/// Make `lineage` durable, then answer LineageSaved{id}. Saves of one module are carried out in order.
struct SaveLineage {
    std::uint64_t id = 0;
    Lineage lineage;
};

/// The status changed: tell the peer now, on every channel.
struct PublishStatus {};

enum class StorageRole : std::uint8_t { leader, follower };

/// Open the replicated folder: identity check, busy check, mount (leader: read-write, alone; follower: read-only).
/// From follower to leader: finish applying what was received, set times, flush, mount afresh. -> StorageOpened | StorageFailed
struct OpenStorage {
    std::uint64_t id = 0;
    StorageRole role = StorageRole::leader;
};

/// Unmount. clean: flush, persist maps, put the plain folder back in place. Otherwise it stays closed (R16). -> StorageClosed | StorageFailed
struct CloseStorage {
    std::uint64_t id = 0;
    bool clean = false;
};

/// Follower: accept a data channel for `session` from `leader`.
struct AcceptSession {
    SessionId session;
    NodeId leader;
    Term term;
};

/// Leader: connect to the follower and bring it up to date. -> SessionOpened, ResyncFinished | SessionLost
struct ConnectSession {
    SessionId session;
    NodeId follower;
    Term term;
    SyncMode mode = SyncMode::full;
};

/// Close the session and forget it; nothing received on it later counts.
struct DropSession {
    SessionId session;
};

/// Leader: the durable record says we are alone; complete what is held by the local result, go on alone.
struct ReleaseHeld {};

/// Hold every answer of the door from now on (R14).
struct FreezeStorage {};
/// The opposite of FreezeStorage; only when the role is confirmed.
struct ThawStorage {};
/// Answer everything held with EIO; their extents stay dirty (R14). Only after the service was killed.
struct FailHeld {};

/// Leader: drain, flush both nodes. -> Quiesced | QuiesceFailed
struct Quiesce {
    std::uint64_t id = 0;
};

/// Follower: is everything up to `sequence` of `session` applied and flushed? -> AppliedVerified
struct VerifyApplied {
    std::uint64_t id = 0;
    SessionId session;
    std::uint64_t sequence = 0;
};

/// Leader: R8's last step, clear base map and start afresh. -> MapCleared
struct FinishResync {
    std::uint64_t id = 0;
    SessionId session;
};

/// Copy this node's own changes aside before they are overwritten; `name` is its `current`. -> ArchiveFinished | ArchiveFailed
struct ArchiveLocal {
    std::uint64_t id = 0;
    GenerationId name;
};

enum class StartCause : std::uint8_t { start, failover, handover, restart };

/// -> ServiceStarted | ServiceFailed
struct StartService {
    std::uint64_t id = 0;
    StartCause cause = StartCause::start;
};

/// normal_stop with its deadline, then force_stop. -> ServiceStopped | ServiceFailed
struct StopService {
    std::uint64_t id = 0;
};

/// force_stop without asking the guest (R14). -> ServiceStopped | ServiceFailed
struct KillService {
    std::uint64_t id = 0;
};

/// Freeze the guest in place; best effort, no answer.
struct PauseService {};
struct ResumeService {};

enum class Outcome : std::uint8_t { done, refused, unsafe, failed, would_wait };

/// The end of an operator's command. `message` says what, why and what next.
struct Reply {
    std::uint64_t command = 0;
    Outcome outcome = Outcome::done;
    std::string message;
};

/// For the event log; one per change of the visible state (P7, I10).
struct Transition {
    Role from = Role::stop;
    Readiness from_readiness = Readiness::not_ready;
    Role to = Role::stop;
    Readiness to_readiness = Readiness::not_ready;
    Reason reason = Reason::none;
    std::string actor;
    std::string text;
    Term term;
};

using Action = std::variant<SaveLineage,
                            PublishStatus,
                            OpenStorage,
                            CloseStorage,
                            AcceptSession,
                            ConnectSession,
                            DropSession,
                            ReleaseHeld,
                            FreezeStorage,
                            ThawStorage,
                            FailHeld,
                            Quiesce,
                            VerifyApplied,
                            FinishResync,
                            ArchiveLocal,
                            StartService,
                            StopService,
                            KillService,
                            PauseService,
                            ResumeService,
                            Reply,
                            Transition>;

}  // namespace safepair::cluster
