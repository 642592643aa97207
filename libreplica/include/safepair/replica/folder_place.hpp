#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include <safepair/base/ids.hpp>
#include <safepair/base/result.hpp>

/// Where the folder's bytes are (R16). Cleanly stopped: plainly at the configured path. Otherwise ("closed"): renamed to the
/// hidden sibling `.NAME.safepair`, with an empty, immutable directory in its place as mount point; this survives crash and
/// reboot because it is on the disk itself.
namespace safepair::replica {

/// `.safepair/identity` of the folder, a line-based text file; never replicated, never seen through a door.
struct FolderIdentity {
    std::string module;
    std::string node;
    /// The folder itself: drawn when it was first taken, compared with the node's own record.
    base::GenerationId folder;
    /// Lineage's current at the last save; shown to people.
    base::GenerationId current;
};

enum class PlaceState : std::uint8_t {
    plain,   ///< at its path, no mount
    closed,  ///< at the hidden sibling
    absent,  ///< neither exists
};

class FolderPlace {
  public:
    /// `folder`: absolute path as configured.
    explicit FolderPlace(std::filesystem::path folder);

    [[nodiscard]] const std::filesystem::path& folder() const noexcept { return folder_; }
    /// Where the bytes are while in service.
    [[nodiscard]] const std::filesystem::path& hidden() const noexcept { return hidden_; }

    [[nodiscard]] base::Result<PlaceState> state() const;

    /// Refuses with Errc::refused and the remedy: a relative path, a folder that is itself the root of a mount, no directory, a file
    /// system without trusted xattrs.
    [[nodiscard]] base::Result<void> check() const;

    /// Unmounts what an earlier agent of ours left at the path (fuse mount named "safepair:*"), lazily if need be; nothing else.
    [[nodiscard]] base::Result<void> remove_dead_mount() const;

    /// Errc::busy naming pid, command and file when any process has an open file, mapping, cwd or root below the folder.
    [[nodiscard]] base::Result<void> check_not_busy() const;

    /// plain -> closed: rename, mount point, chattr +i where the file system can; every step fsynced. Nothing to do when closed.
    [[nodiscard]] base::Result<void> take() const;
    /// closed -> plain, fsynced. Nothing to do when plain. Errors leave it closed.
    [[nodiscard]] base::Result<void> give_back() const;

    /// The identity found where the bytes are now; nullopt when the folder has none yet. Errors: Errc::corrupt.
    [[nodiscard]] base::Result<std::optional<FolderIdentity>> identity() const;
    [[nodiscard]] base::Result<void> write_identity(const FolderIdentity& identity) const;

  private:
    std::filesystem::path folder_;
    std::filesystem::path hidden_;
};

}  // namespace safepair::replica
