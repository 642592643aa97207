#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <safepair/base/ids.hpp>
#include <safepair/base/result.hpp>
#include <safepair/replica/data_channel.hpp>

/// The whole room behind one object: what is written in the folder here is also there, or known to be missing there.
/// An HA product drives it with its own cluster logic; this library never decides who leads.
namespace safepair::replica {

using base::GenerationId;
using base::SessionId;

/// How a follower is brought up to date; the leader's choice, from the lineages.
enum class SyncMode : std::uint8_t { dirty_blocks, checksum, full };

/// What happens inside, told from the folder's own threads. Implementations must not block and must not call back.
class FolderEvents {
  public:
    virtual ~FolderEvents() = default;
    virtual void session_opened(SessionId session) = 0;
    /// Leader: from here on every answer is held until release_held() (unless it already was alone: then nothing is held).
    virtual void session_lost(SessionId session, const std::string& why, bool apply_failed) = 0;
    /// Leader: the follower has everything, flushed; writes now wait for both nodes.
    virtual void resync_finished(SessionId session) = 0;
    virtual void local_store_failed(const std::string& why) = 0;
    /// Something for the event log ("archived 3 files", "folder scanned").
    virtual void note(const std::string& text) = 0;
    /// An authenticated record of the peer arrived; at most once per 100 ms. For the failure detector (R7).
    virtual void peer_heard() = 0;
};

/// Test-only faults; the shipped agent never sets them.
struct FolderFaults {
    /// Answer before the peer acknowledged, and ship late.
    bool acknowledge_without_peer = false;
};

enum class Durability : std::uint8_t { flush_durable, every_write, received };

struct FolderOptions {
    std::filesystem::path folder;
    /// Node-local, not in the folder: dirty map, manifest, folder record.
    std::filesystem::path state_directory;
    std::string module;
    std::string node;
    Durability durability = Durability::flush_durable;
    std::vector<std::string> direct;
    FolderFaults faults;
};

struct Progress {
    bool running = false;
    SyncMode mode = SyncMode::full;
    std::uint64_t bytes_total = 0;
    /// Compared or copied so far.
    std::uint64_t bytes_done = 0;
    /// Actually sent as resync blocks.
    std::uint64_t bytes_copied = 0;
    std::uint64_t bytes_per_second = 0;
    std::string file;
};

struct FolderStats {
    std::uint64_t dirty_bytes = 0;
    std::uint64_t in_flight_bytes = 0;
    std::uint64_t sent_bytes = 0;
    std::uint64_t applied_sequence = 0;
    Progress progress;
    /// Bytes copied and dirty in the last finished resync.
    std::uint64_t last_resync_copied_bytes = 0;
    std::uint64_t last_resync_changed_bytes = 0;
};

struct MapState {
    /// The map on disk (or in memory) covers every difference since it started.
    bool usable = false;
    bool changed = false;
};

class ReplicatedFolder {
  public:
    /// Reads the node's records; touches nothing yet. Errors: Errc::bad_input for a bad path.
    static base::Result<std::unique_ptr<ReplicatedFolder>> create(FolderOptions options, FolderEvents& events);
    virtual ~ReplicatedFolder() = default;

    [[nodiscard]] virtual MapState map_state() const = 0;

    /// Serves read-write at the folder's path, alone. From closed: checks place, busy, identity (`first_use` allows a folder
    /// without identity; Errc::refused "folder-not-recognised" otherwise), takes the folder, scans. From follower: finishes applying,
    /// sets pending times, flushes, mounts afresh. Blocks; call from a worker.
    /// Errors: Errc::refused ("folder-not-recognised: ..."), Errc::busy ("folder-busy: ..."), errno.
    [[nodiscard]] virtual base::Result<void> open_leader(bool first_use) = 0;
    /// Mounts the read-only view, from closed or from leader (after quiesce or fail_held).
    [[nodiscard]] virtual base::Result<void> open_follower(bool first_use) = 0;
    /// Ends the door. clean: flushes, saves map and manifest, gives the plain folder back. Otherwise stays closed (R16).
    [[nodiscard]] virtual base::Result<void> close(bool clean) = 0;
    /// What an earlier agent left: removes its dead mount, keeps the folder closed. Call once before anything else.
    [[nodiscard]] virtual base::Result<void> recover() = 0;

    /// Follower: the listener hands channels of `session` here. Replaces an earlier expectation.
    virtual void accept_session(SessionId session, std::uint64_t term) = 0;
    /// Leader: connect, resynchronise, then replicate. Returns at once; events follow.
    virtual void connect_session(SessionId session, std::uint64_t term, const DataEndpoint& peer, SyncMode mode) = 0;
    virtual void drop_session(SessionId session) = 0;

    /// Leader, after its going alone is durable: completes what is held with the local result.
    virtual void release_held() = 0;
    virtual void freeze() = 0;
    virtual void thaw() = 0;
    virtual void fail_held() = 0;

    /// Leader: waits for everything in flight, flushes both. The sequence number reached. Errors: Errc::timed_out.
    [[nodiscard]] virtual base::Result<std::uint64_t> quiesce(base::Duration deadline) = 0;
    /// Follower: applied and flushed up to `sequence` in `session`?
    [[nodiscard]] virtual bool verify_applied(SessionId session, std::uint64_t sequence) = 0;
    /// Leader: R8's last step: base map cleared, durable.
    [[nodiscard]] virtual base::Result<void> finish_resync(SessionId session) = 0;
    /// Copies this node's own changed files (all files when the map is not usable) to `.safepair/archive/<name>/` before they
    /// are overwritten; durable on return (R24).
    [[nodiscard]] virtual base::Result<void> archive_local(GenerationId name) = 0;

    [[nodiscard]] virtual FolderStats stats() const = 0;
    /// device minor of the FUSE connection (/sys/fs/fuse/connections/N), 0 when not mounted; for the guard's abort.
    [[nodiscard]] virtual unsigned fuse_connection() const = 0;
    /// For DataListener.
    [[nodiscard]] virtual ChannelAcceptor& acceptor() = 0;
};

}  // namespace safepair::replica
