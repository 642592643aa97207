#pragma once

#include <cstdint>
#include <string>
#include <variant>

#include <safepair/base/time.hpp>
#include <safepair/cluster/status.hpp>

/// Everything that can happen to a role machine. A closed set: a new alternative breaks the build at every core.
/// Results carry the id of the action that asked for them; a late one is recognised and dropped.
namespace safepair::cluster {

/// Time passed; sent at least once per pulse.
struct Tick {};

enum class Verb : std::uint8_t {
    start,         ///< lead if the data is newest, else follow, else wait
    stop,          ///< announced stop; a PRIM with a ready SECOND hands over
    restart,       ///< stop and start the service on this node, role kept
    swap,          ///< hand the service to the ready SECOND and follow it
    as_primary,    ///< declare this copy the newest
    as_secondary,  ///< follow the leading peer, giving up what only this side has
    forcestop,     ///< STOP now: kill the service, clean=false
    shutdown,      ///< as stop, because the node goes down
};

struct OperatorCommand {
    std::uint64_t id = 0;
    Verb verb = Verb::start;
    /// "root@node1", "SYSTEM", "heart"; kept in every transition this command causes.
    std::string actor;
    /// stop: although the SECOND is still synchronising.
    bool force = false;
    /// as-primary: although the data is half-synchronised; the next sync is full.
    bool force_inconsistent = false;
    /// as-secondary: give up local data that the leader lacks (it is archived).
    bool discard_local = false;
    /// as-secondary: copy everything.
    bool full = false;
};

/// A status of the peer, authenticated, from whichever channel.
struct PeerStatusReceived {
    PeerStatus status;
};

/// The failure detector: the peer is silent on every network and channel.
struct PeerLost {};

/// This agent was not scheduled for `length`, longer than the timeout minus margin (R18).
struct Overslept {
    base::Duration length{};
};

struct LineageSaved {
    std::uint64_t id = 0;
};

struct LineageSaveFailed {
    std::uint64_t id = 0;
    std::string why;
};

/// The storage is open in the wanted role (OpenStorage), or closed (CloseStorage).
struct StorageOpened {
    std::uint64_t id = 0;
};

struct StorageClosed {
    std::uint64_t id = 0;
};

struct StorageFailed {
    std::uint64_t id = 0;
    /// Machine-readable: "folder-not-recognised", "folder-busy", "archive-full", "storage-error".
    std::string reason;
    std::string why;
};

struct ServiceStarted {
    std::uint64_t id = 0;
};

struct ServiceStopped {
    std::uint64_t id = 0;
};

/// Start failed, or stop and kill both failed.
struct ServiceFailed {
    std::uint64_t id = 0;
    std::string why;
};

/// The service ended by itself (crash of the VM, shutdown from inside).
struct ServiceExited {
    std::string why;
};

/// The data channel of `session` carries records (both sides get it).
struct SessionOpened {
    SessionId session;
};

/// The data channel of `session` is gone, or could not be opened. On a leader all answers are held from here on.
struct SessionLost {
    SessionId session;
    std::string why;
    /// The follower could not apply or flush: it is not eligible in this incarnation (R13).
    bool apply_failed = false;
};

/// Leader: the follower has everything and flushed it, and new writes wait for both (R8 begins).
struct ResyncFinished {
    SessionId session;
};

/// Leader: FinishResync done, base and map are cleared.
struct MapCleared {
    std::uint64_t id = 0;
};

/// Leader: no write is in flight, both stores are flushed up to `sequence` of the session.
struct Quiesced {
    std::uint64_t id = 0;
    std::uint64_t sequence = 0;
};

struct QuiesceFailed {
    std::uint64_t id = 0;
    std::string why;
};

/// Follower: the answer to VerifyApplied.
struct AppliedVerified {
    std::uint64_t id = 0;
    bool complete = false;
};

struct ArchiveFinished {
    std::uint64_t id = 0;
};

struct ArchiveFailed {
    std::uint64_t id = 0;
    std::string why;
};

/// This node's own store failed or stalled while leading (R13); answers are held.
struct LocalStoreFailed {
    std::string why;
};

/// The dirty map: whether it covers every difference, and whether it holds anything. Optional: a shell that never sends
/// it lets the machine assume that whoever served alone has written.
struct MapChanged {
    bool usable = false;
    bool changed = false;
};

using Event = std::variant<Tick,
                           OperatorCommand,
                           PeerStatusReceived,
                           PeerLost,
                           Overslept,
                           LineageSaved,
                           LineageSaveFailed,
                           StorageOpened,
                           StorageClosed,
                           StorageFailed,
                           ServiceStarted,
                           ServiceStopped,
                           ServiceFailed,
                           ServiceExited,
                           SessionOpened,
                           SessionLost,
                           ResyncFinished,
                           MapCleared,
                           Quiesced,
                           QuiesceFailed,
                           AppliedVerified,
                           ArchiveFinished,
                           ArchiveFailed,
                           LocalStoreFailed,
                           MapChanged>;

}  // namespace safepair::cluster
