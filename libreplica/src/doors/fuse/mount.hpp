#pragma once

#include <safepair/base/result.hpp>
#include <safepair/base/unique_fd.hpp>
#include <safepair/replica/door.hpp>

#include <filesystem>
#include <string>

/// mount(2) and umount2(2) for a FUSE door. libfuse's own mounting prints to stderr, forgets the
/// errno and runs fusermount; a root process needs none of it.
namespace safepair::replica::fuse_door {

/// An open /dev/fuse. Errors name what to do.
[[nodiscard]] base::Result<base::UniqueFd> open_device();

/// One mount of ours. Not thread-safe.
class Mount {
  public:
    /// Mounts the file system that `device` serves. Errors: errno of mount(2), naming the mount
    /// point.
    [[nodiscard]] static base::Result<Mount> make(const FuseOptions& options, int device);

    /// Ours is what the mount point shows. False after somebody else unmounted it or mounted over
    /// it.
    [[nodiscard]] bool is_visible() const;

    /// Unmounts when nobody uses it. Errors: EBUSY with the process and file, or with the mount in
    /// the way.
    [[nodiscard]] base::Result<void> unmount() const;

    /// Lets the kernel write what it has, then unmounts if nobody uses it; true when it is gone.
    /// May wait for the session's answers.
    bool try_unmount() const;

    /// Aborts the connection and detaches the mount, whoever uses it.
    void force_unmount() const;

    /// Ends the connection also where a copy of the mount lives on in another mount namespace.
    /// False when that cannot be done.
    [[nodiscard]] bool abort_connection() const;

  private:
    Mount(std::filesystem::path point, std::string source, int device);

    [[nodiscard]] bool is_connected() const noexcept;
    [[nodiscard]] base::Error busy_error() const;

    std::filesystem::path point_;
    std::string source_;
    int device_;
    /// Number of the connection below /sys/fs/fuse/connections.
    unsigned connection_ = 0;
};

}  // namespace safepair::replica::fuse_door
