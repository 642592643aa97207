#include <safepair/replica/folder_place.hpp>

#include <array>
#include <cerrno>
#include <fstream>
#include <sstream>
#include <utility>

#include <safepair/base/unique_fd.hpp>

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "store/busy.hpp"
#include "store/system_call.hpp"

namespace safepair::replica {

namespace {

namespace fs = std::filesystem;

constexpr const char* own_source_prefix = "safepair:";
constexpr std::size_t identity_bytes_max = 4096;

enum class Presence : std::uint8_t { absent, directory, mount_root, other };

/// Links are not followed: the folder has to be the real thing.
base::Result<Presence> presence(const fs::path& path) {
    struct statx status {};
    if (statx(AT_FDCWD, path.c_str(), AT_SYMLINK_NOFOLLOW, STATX_TYPE, &status) != 0) {
        if (errno == ENOENT) {
            return Presence::absent;
        }
        // A FUSE mount whose process is gone.
        if (errno == ENOTCONN || errno == ECONNABORTED) {
            return Presence::mount_root;
        }
        return errno_error(path.string());
    }
    if ((status.stx_attributes & STATX_ATTR_MOUNT_ROOT) != 0) {
        return Presence::mount_root;
    }
    return S_ISDIR(status.stx_mode) ? Presence::directory : Presence::other;
}

base::Result<base::UniqueFd> open_directory(const fs::path& path) {
    base::UniqueFd fd(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    if (!fd) {
        return errno_error("open " + path.string());
    }
    return fd;
}

base::Result<void> flush_directory(const fs::path& path) {
    SAFEPAIR_TRY(const auto fd, open_directory(path));
    if (fsync(fd.get()) != 0) {
        return errno_error("flush " + path.string());
    }
    return {};
}

/// chattr +i or -i; file systems without the flag are left alone.
base::Result<void> set_immutable(const fs::path& path, bool immutable) {
    SAFEPAIR_TRY(const auto fd, open_directory(path));
    int flags = 0;
    int failed = ioctl(fd.get(), FS_IOC_GETFLAGS, &flags);
    if (failed == 0) {
        const int wanted = immutable ? flags | FS_IMMUTABLE_FL : flags & ~FS_IMMUTABLE_FL;
        failed = wanted == flags ? 0 : ioctl(fd.get(), FS_IOC_SETFLAGS, &wanted);
    }
    if (failed != 0 && errno != ENOTTY && errno != EOPNOTSUPP && errno != EINVAL) {
        return errno_error(std::string(immutable ? "set" : "clear") + " immutable flag of " +
                           path.string());
    }
    fsync(fd.get());
    return {};
}

base::Result<bool> is_empty_directory(const fs::path& path) {
    std::error_code failed;
    const bool empty = fs::is_empty(path, failed);
    if (failed) {
        return base::Error{failed, "read " + path.string()};
    }
    return empty;
}

base::Error mounted_error(const fs::path& path) {
    return base::error(base::Errc::busy,
                       "something is mounted at " + path.string() + "; unmount it first");
}

/// Empty, immutable, in the place of the folder.
base::Result<void> make_mount_point(const fs::path& folder) {
    if (mkdir(folder.c_str(), 0700) != 0 && errno != EEXIST) {
        return errno_error("make mount point " + folder.string());
    }
    SAFEPAIR_CHECK(set_immutable(folder, true));
    return flush_directory(folder.parent_path());
}

base::Result<void> write_whole(int fd, const std::string& text) {
    std::string_view rest = text;
    while (!rest.empty()) {
        const auto put = ::write(fd, rest.data(), rest.size());
        if (put < 0 && errno != EINTR) {
            return errno_error("write identity");
        }
        rest.remove_prefix(put < 0 ? 0 : static_cast<std::size_t>(put));
    }
    if (fsync(fd) != 0) {
        return errno_error("flush identity");
    }
    return {};
}

base::Result<FolderIdentity> parse_identity(const std::string& text, const fs::path& path) {
    FolderIdentity identity;
    std::istringstream lines(text);
    bool good = true;
    int known = 0;
    const auto take_id = [&](base::GenerationId& id, const std::string& value) {
        const auto bytes = base::from_hex(value);
        good = good && bytes.has_value();
        id.bytes = bytes.value_or(std::array<std::uint8_t, 16>{});
    };
    for (std::string line; std::getline(lines, line);) {
        const auto colon = line.find(": ");
        const auto key = line.substr(0, colon);
        const auto value = colon == std::string::npos ? std::string() : line.substr(colon + 2);
        ++known;
        if (key == "module") {
            identity.module = value;
        } else if (key == "node") {
            identity.node = value;
        } else if (key == "folder") {
            take_id(identity.folder, value);
        } else if (key == "current") {
            take_id(identity.current, value);
        } else {
            --known;
        }
    }
    if (!good || known != 4 || identity.module.empty() || identity.folder.is_nil()) {
        return base::error(base::Errc::corrupt, path.string());
    }
    return identity;
}

}  // namespace

FolderPlace::FolderPlace(fs::path folder) : folder_(folder.lexically_normal()) {
    if (!folder_.has_filename()) {
        // "/srv/vm1/"
        folder_ = folder_.parent_path();
    }
    hidden_ = folder_.parent_path() / ("." + folder_.filename().string() + ".safepair");
}

base::Result<PlaceState> FolderPlace::state() const {
    SAFEPAIR_TRY(const auto hidden_presence, presence(hidden_));
    if (hidden_presence != Presence::absent) {
        return PlaceState::closed;
    }
    SAFEPAIR_TRY(const auto folder_presence, presence(folder_));
    return folder_presence == Presence::absent ? PlaceState::absent : PlaceState::plain;
}

base::Result<void> FolderPlace::check() const {
    const auto refuse = [this](const std::string& why) {
        return base::error(base::Errc::refused, folder_.string() + " " + why);
    };
    if (!folder_.is_absolute()) {
        return refuse("is a relative path; give the absolute one");
    }
    if (folder_ == folder_.root_path()) {
        return refuse("is the root directory; use a folder in it");
    }
    SAFEPAIR_TRY(const auto where, state());
    const auto& bytes = where == PlaceState::closed ? hidden_ : folder_;
    SAFEPAIR_TRY(const auto found, presence(bytes));
    switch (found) {
        case Presence::absent:
            return refuse("does not exist; is its disk mounted?");
        case Presence::mount_root:
            return refuse(
                "is itself the root of a mount; make a folder in it and name that one, because the "
                "folder is renamed while in service");
        case Presence::other:
            return refuse("is no directory; name the real directory, not a link to it");
        case Presence::directory:
            break;
    }
    constexpr const char* probe = "trusted.safepair.probe";
    if (lsetxattr(bytes.c_str(), probe, "1", 1, 0) != 0) {
        return refuse(
            std::string("is on a file system that keeps no trusted extended attributes (") +
            std::error_code(errno, std::generic_category()).message() +
            "); use ext4, XFS or Btrfs, and run as root");
    }
    lremovexattr(bytes.c_str(), probe);
    return {};
}

base::Result<void> FolderPlace::remove_dead_mount() const {
    // Mounts may lie on top of each other; only ours are taken away, from the top.
    constexpr int layers_max = 64;
    for (int layer = 0; layer < layers_max; ++layer) {
        const Mount* top = nullptr;
        const auto mounts = current_mounts();
        for (const auto& mount : mounts) {
            if (mount.mount_point == folder_.native()) {
                top = &mount;
            }
        }
        if (top == nullptr || top->type.rfind("fuse", 0) != 0 ||
            top->source.rfind(own_source_prefix, 0) != 0) {
            return {};
        }
        if (umount2(folder_.c_str(), UMOUNT_NOFOLLOW) != 0 &&
            umount2(folder_.c_str(), MNT_DETACH | UMOUNT_NOFOLLOW) != 0) {
            return errno_error("unmount " + folder_.string());
        }
    }
    return base::error(base::Errc::limit_reached, "mounts on " + folder_.string());
}

base::Result<void> FolderPlace::check_not_busy() const {
    if (const auto user = find_folder_user({folder_, hidden_})) {
        return base::error(base::Errc::busy, user->describe());
    }
    return {};
}

base::Result<void> FolderPlace::take() const {
    SAFEPAIR_TRY(const auto hidden_presence, presence(hidden_));
    SAFEPAIR_TRY(const auto folder_presence, presence(folder_));
    if (folder_presence == Presence::mount_root) {
        return mounted_error(folder_);
    }
    if (folder_presence == Presence::other) {
        return base::error(base::Errc::refused, folder_.string() + " is no directory");
    }
    if (hidden_presence == Presence::directory) {
        // Closed already, or interrupted after the rename.
        if (folder_presence == Presence::directory) {
            SAFEPAIR_TRY(const auto empty, is_empty_directory(folder_));
            if (!empty) {
                return base::error(base::Errc::refused,
                                   folder_.string() + " is not empty though the module's files are in " +
                                       hidden_.string() +
                                       "; somebody wrote there: move those files away");
            }
        }
        return make_mount_point(folder_);
    }
    if (hidden_presence != Presence::absent) {
        return base::error(base::Errc::refused, hidden_.string() + " is in the way; move it away");
    }
    if (folder_presence == Presence::absent) {
        return base::error(base::Errc::not_found, folder_.string());
    }
    if (renameat2(AT_FDCWD, folder_.c_str(), AT_FDCWD, hidden_.c_str(), RENAME_NOREPLACE) != 0) {
        return errno_error("rename " + folder_.string() + " to " + hidden_.string());
    }
    SAFEPAIR_CHECK(flush_directory(folder_.parent_path()));
    return make_mount_point(folder_);
}

base::Result<void> FolderPlace::give_back() const {
    SAFEPAIR_TRY(const auto where, state());
    if (where == PlaceState::plain) {
        return {};
    }
    if (where == PlaceState::absent) {
        return base::error(base::Errc::not_found, folder_.string());
    }
    SAFEPAIR_TRY(const auto folder_presence, presence(folder_));
    if (folder_presence == Presence::mount_root) {
        return mounted_error(folder_);
    }
    if (folder_presence == Presence::directory) {
        SAFEPAIR_CHECK(set_immutable(folder_, false));
        if (rmdir(folder_.c_str()) != 0) {
            const auto failure = errno_error("remove mount point " + folder_.string());
            [[maybe_unused]] const auto closed_again = set_immutable(folder_, true);
            return failure;
        }
    }
    if (renameat2(AT_FDCWD, hidden_.c_str(), AT_FDCWD, folder_.c_str(), RENAME_NOREPLACE) != 0) {
        const auto failure = errno_error("rename " + hidden_.string() + " to " + folder_.string());
        [[maybe_unused]] const auto closed_again = make_mount_point(folder_);
        return failure;
    }
    return flush_directory(folder_.parent_path());
}

base::Result<std::optional<FolderIdentity>> FolderPlace::identity() const {
    SAFEPAIR_TRY(const auto where, state());
    const auto path =
        (where == PlaceState::closed ? hidden_ : folder_) / ".safepair" / "identity";
    base::UniqueFd fd(::open(path.c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC));
    if (!fd) {
        if (errno == ENOENT || errno == ENOTDIR) {
            return std::optional<FolderIdentity>{};
        }
        return errno_error("open " + path.string());
    }
    std::string text(identity_bytes_max, '\0');
    const auto got = ::read(fd.get(), text.data(), text.size());
    if (got < 0) {
        return errno_error("read " + path.string());
    }
    text.resize(static_cast<std::size_t>(got));
    SAFEPAIR_TRY(auto parsed, parse_identity(text, path));
    return std::optional<FolderIdentity>{std::move(parsed)};
}

base::Result<void> FolderPlace::write_identity(const FolderIdentity& identity) const {
    SAFEPAIR_TRY(const auto where, state());
    if (where == PlaceState::absent) {
        return base::error(base::Errc::not_found, folder_.string());
    }
    const auto& bytes = where == PlaceState::closed ? hidden_ : folder_;
    const auto own = bytes / ".safepair";
    if (mkdir(own.c_str(), 0700) != 0 && errno != EEXIST) {
        return errno_error("make " + own.string());
    }
    const auto temporary = own / "identity.new";
    base::UniqueFd fd(::open(
        temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600));
    if (!fd) {
        return errno_error("create " + temporary.string());
    }
    SAFEPAIR_CHECK(write_whole(fd.get(),
                               "module: " + identity.module + "\nnode: " + identity.node +
                                   "\nfolder: " + base::to_string(identity.folder) +
                                   "\ncurrent: " + base::to_string(identity.current) + "\n"));
    if (::rename(temporary.c_str(), (own / "identity").c_str()) != 0) {
        return errno_error("rename " + temporary.string());
    }
    SAFEPAIR_CHECK(flush_directory(own));
    return flush_directory(bytes);
}

}  // namespace safepair::replica
