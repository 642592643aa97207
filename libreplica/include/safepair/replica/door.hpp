#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include <safepair/base/result.hpp>
#include <safepair/replica/operation.hpp>
#include <safepair/replica/store.hpp>

/// A door is how the application reaches the folder: FUSE here, iSCSI later. A door translates its protocol into
/// Operations and reads, and gives its answers when told; it decides nothing about replication.
namespace safepair::replica {

/// Called exactly once, from any thread, possibly before submit returns. `error` is 0 or a positive errno.
struct Completion {
    void (*call)(void* context, int error) = nullptr;
    void* context = nullptr;

    void operator()(int error) const { call(context, error); }
};

/// What a read-like request looked at: it may be answered only when every mutation of these that was in flight at the
/// time is acknowledged (R25).
struct Footprint {
    FileId file;
    /// Bytes for reads; 0,0 for attributes, names below a directory and links.
    std::uint64_t offset = 0;
    std::uint64_t length = 0;
    enum class Kind : std::uint8_t { data, metadata, names } kind = Kind::data;
};

/// What stands behind a door: Primary on the leader, a read-only view on the follower.
class Front {
  public:
    virtual ~Front() = default;

    /// Mutates. Operations that overlap keep the order of their submit calls. Data and strings are borrowed until the call
    /// returns. `done` comes when the durability mode is satisfied on both nodes (or on this one, alone); it may be held
    /// for long while the cluster decides. EROFS on a follower.
    virtual void submit(const Operation& operation, Completion done) = 0;
    /// The caller has read; `done(0)` comes when it may answer. EIO after the role was lost.
    virtual void fence(const Footprint& footprint, Completion done) = 0;
    /// For reads. Lives as long as the front.
    [[nodiscard]] virtual Store& store() noexcept = 0;
    /// Smaller space of both nodes.
    [[nodiscard]] virtual base::Result<Space> space() = 0;
    /// The last handle of a file written through this door closed: makes mtime equal on the follower (R25).
    virtual void closed(FileId file) noexcept = 0;
};

class Door {
  public:
    virtual ~Door() = default;
    /// Ends the session: unmounts (lazily when something still holds it and `force`), answers what is left with ENOTCONN,
    /// joins its threads. Errors: EBUSY with the pid and file that holds it, when not forced. Idempotent.
    [[nodiscard]] virtual base::Result<void> close(bool force) = 0;
};

struct FuseOptions {
    std::filesystem::path mount_point;
    /// fsname shown in /proc/mounts: "safepair:<module>".
    std::string name;
    /// The follower's view: MS_RDONLY, direct I/O, zero timeouts (R20).
    bool read_only = false;
    /// Names (fnmatch(3) globs on the path inside the folder) that always get direct I/O.
    std::vector<std::string> direct;
    unsigned workers = 2;
};

/// Mounts a FUSE file system at the (empty) mount point and serves it from its own threads until close(). Low-level API;
/// an open with O_DIRECT gets FOPEN_DIRECT_IO with FOPEN_PARALLEL_DIRECT_WRITES, any other goes through the page cache, written
/// through. Errors: EBUSY, ENOENT, EPERM as from mount(2), naming the mount point.
[[nodiscard]] base::Result<std::unique_ptr<Door>> mount_fuse_door(const FuseOptions& options, Front& front);

}  // namespace safepair::replica
