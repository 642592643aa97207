#include "doors/fuse/mount.hpp"

#include "store/busy.hpp"
#include "store/system_call.hpp"

#include <cerrno>
#include <system_error>
#include <utility>

#include <fcntl.h>
#include <poll.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

namespace safepair::replica::fuse_door {

namespace {

namespace fs = std::filesystem;

constexpr const char* device_path = "/dev/fuse";
constexpr const char* file_system_type = "fuse.safepair";
constexpr const char* connections_folder = "/sys/fs/fuse/connections";

bool write_abort(unsigned connection) {
    const auto path = std::string(connections_folder) + "/" + std::to_string(connection) + "/abort";
    const base::UniqueFd file(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
    return file && ::write(file.get(), "1", 1) == 1;
}

}  // namespace

base::Result<base::UniqueFd> open_device() {
    base::UniqueFd device(::open(device_path, O_RDWR | O_CLOEXEC));
    if (!device) {
        return errno_error(std::string("open ") + device_path +
                           " (is the kernel module fuse loaded?)");
    }
    return device;
}

Mount::Mount(fs::path point, std::string source, int device)
    : point_(std::move(point)), source_(std::move(source)), device_(device) {}

base::Result<Mount> Mount::make(const FuseOptions& options, int device) {
    std::error_code failed;
    // As mountinfo will show it.
    auto point = fs::canonical(options.mount_point, failed);
    if (failed) {
        return base::Error{failed, "mount at " + options.mount_point.string()};
    }
    Mount made(std::move(point), options.name, device);
    // dev and suid stay allowed, as in the plain folder; the kernel checks permissions as it does
    // there.
    const auto data = "fd=" + std::to_string(device) +
                      ",rootmode=40000,user_id=0,group_id=0,default_permissions,allow_other";
    const auto flags = options.read_only ? static_cast<unsigned long>(MS_RDONLY) : 0UL;
    if (::mount(made.source_.c_str(), made.point_.c_str(), file_system_type, flags, data.c_str()) !=
        0) {
        return errno_error("mount " + made.source_ + " at " + made.point_.string());
    }

    struct statx facts {};

    // Without synchronisation the kernel answers by itself: nobody serves yet.
    if (statx(AT_FDCWD, made.point_.c_str(), AT_STATX_DONT_SYNC | AT_NO_AUTOMOUNT, 0, &facts) ==
        0) {
        made.connection_ = facts.stx_dev_minor;
    }
    return made;
}

bool Mount::is_visible() const {
    bool visible = false;
    for (const auto& mount : current_mounts()) {
        if (mount.mount_point == point_.native()) {
            visible = mount.type == file_system_type && mount.source == source_;
        }
    }
    return visible;
}

base::Error Mount::busy_error() const {
    const auto what = "unmount " + point_.string() + ": ";
    for (const auto& mount : current_mounts()) {
        const auto below = point_.native() + "/";
        if (mount.mount_point.compare(0, below.size(), below) == 0) {
            return base::error_from_errno(
                EBUSY, what + mount.mount_point + " is mounted in it; unmount it first");
        }
    }
    if (const auto user = find_folder_user({point_})) {
        return base::error_from_errno(EBUSY, what + user->describe() + "; end it first");
    }
    return base::error_from_errno(
        EBUSY,
        what + "this process, a loop device, a swap file or another mount namespace uses it");
}

base::Result<void> Mount::unmount() const {
    if (!is_visible()) {
        return {};
    }
    if (umount2(point_.c_str(), UMOUNT_NOFOLLOW) != 0) {
        return errno == EBUSY ? busy_error() : errno_error("unmount " + point_.string());
    }
    return {};
}

bool Mount::try_unmount() const {
    return !is_visible() || umount2(point_.c_str(), UMOUNT_NOFOLLOW) == 0;
}

void Mount::force_unmount() const {
    if (is_visible()) {
        // MNT_FORCE aborts the connection, MNT_DETACH takes the mount away although it is in use.
        umount2(point_.c_str(), MNT_FORCE | MNT_DETACH | UMOUNT_NOFOLLOW);
    }
}

bool Mount::is_connected() const noexcept {
    pollfd device{device_, 0, 0};
    return ::poll(&device, 1, 0) != 1 || (device.revents & POLLERR) == 0;
}

bool Mount::abort_connection() const {
    if (!is_connected()) {
        return true;
    }
    if (!write_abort(connection_)) {
        // Minimal systems do not mount the control file system.
        ::mount("fusectl", connections_folder, "fusectl", 0, nullptr);
        write_abort(connection_);
    }
    return !is_connected();
}

}  // namespace safepair::replica::fuse_door
