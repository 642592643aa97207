#include <safepair/replica/limits.hpp>

#include <algorithm>
#include <array>
#include <cerrno>
#include <mutex>

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "store/posix_store.hpp"
#include "store/system_call.hpp"

namespace safepair::replica {

namespace {

constexpr std::size_t copy_bytes = 1024 * 1024;

base::Result<void> copy_range(int from, int to, off_t begin, off_t end) {
    std::vector<std::byte> buffer;
    while (begin < end) {
        const auto rest = static_cast<std::size_t>(end - begin);
        loff_t in = begin;
        loff_t out = begin;
        ssize_t copied = copy_file_range(from, &in, to, &out, rest, 0);
        if (copied < 0 && (errno == EXDEV || errno == EINVAL || errno == EOPNOTSUPP ||
                           errno == ENOSYS)) {
            buffer.resize(copy_bytes);
            copied = pread(from, buffer.data(), std::min(rest, buffer.size()), begin);
            if (copied > 0) {
                copied = pwrite(to, buffer.data(), static_cast<std::size_t>(copied), begin);
            }
        }
        if (copied < 0) {
            if (errno == EINTR) {
                continue;
            }
            return errno_error("copy");
        }
        if (copied == 0) {
            break;
        }
        begin += copied;
    }
    return {};
}

base::Result<void> copy_data(int from, int to) {
    if (ioctl(to, FICLONE, from) == 0) {
        return {};
    }
    struct stat status {};
    if (fstat(from, &status) != 0 || ftruncate(to, status.st_size) != 0) {
        return errno_error("size");
    }
    for (off_t at = 0; at < status.st_size;) {
        const auto begin = lseek(from, at, SEEK_DATA);
        if (begin < 0) {
            if (errno == ENXIO) {
                break;
            }
            return errno_error("seek");
        }
        const auto hole = lseek(from, begin, SEEK_HOLE);
        if (hole < 0) {
            return errno_error("seek");
        }
        SAFEPAIR_CHECK(copy_range(from, to, begin, std::min(hole, status.st_size)));
        at = hole;
    }
    return {};
}

base::Result<base::UniqueFd> open_parent(const std::filesystem::path& target) {
    std::error_code failed;
    std::filesystem::create_directories(target.parent_path(), failed);
    if (failed) {
        return base::Error{failed, "make " + target.parent_path().string()};
    }
    base::UniqueFd parent(
        ::open(target.parent_path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!parent) {
        return errno_error("open " + target.parent_path().string());
    }
    return parent;
}

}  // namespace

base::Result<void> PosixStore::copy_out(FileId file, const std::filesystem::path& target) {
    SAFEPAIR_TRY(const auto parent, open_parent(target));
    const auto name = target.filename().string();
    SAFEPAIR_TRY(const auto wanted, attributes(file));
    base::UniqueFd made;
    int failed = 0;
    switch (wanted.type) {
        case NodeType::file: {
            made = base::UniqueFd(openat(parent.get(),
                                         name.c_str(),
                                         O_RDWR | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC,
                                         0600));
            failed = made ? 0 : -1;
            break;
        }
        case NodeType::directory:
            failed = mkdirat(parent.get(), name.c_str(), 0700);
            break;
        case NodeType::symlink: {
            SAFEPAIR_TRY(const auto text, read_link(file));
            failed = symlinkat(text.c_str(), parent.get(), name.c_str());
            break;
        }
        default:
            failed = mknodat(parent.get(),
                             name.c_str(),
                             type_bits(wanted.type) | 0600U,
                             static_cast<dev_t>(wanted.rdev));
            break;
    }
    if (failed != 0 && !(errno == EEXIST && wanted.type == NodeType::directory)) {
        return errno_error("make " + target.string());
    }
    if (made) {
        SAFEPAIR_TRY(const auto source, data(file));
        if (auto copied = copy_data(source->get(), made.get()); !copied) {
            return copied.error().within(target.string());
        }
    }
    if (fchownat(parent.get(), name.c_str(), wanted.uid, wanted.gid, AT_SYMLINK_NOFOLLOW) != 0) {
        return errno_error("chown " + target.string());
    }
    if (wanted.type != NodeType::symlink &&
        fchmodat(parent.get(), name.c_str(), wanted.mode, 0) != 0) {
        return errno_error("chmod " + target.string());
    }
    SAFEPAIR_TRY(const auto attribute_names, xattr_names(file));
    const auto path = descriptor_path(parent.get(), name);
    for (const auto& attribute_name : attribute_names) {
        SAFEPAIR_TRY(const auto value, xattr(file, attribute_name));
        if (lsetxattr(path.c_str(), attribute_name.c_str(), value.data(), value.size(), 0) != 0) {
            return errno_error("set xattr " + attribute_name + " of " + target.string());
        }
    }
    const std::array<timespec, 2> times{to_timespec(wanted.accessed),
                                        to_timespec(wanted.modified)};
    if (utimensat(parent.get(), name.c_str(), times.data(), AT_SYMLINK_NOFOLLOW) != 0) {
        return errno_error("set times of " + target.string());
    }
    if ((made && fsync(made.get()) != 0) || fsync(parent.get()) != 0) {
        return errno_error("flush " + target.string());
    }
    return {};
}

}  // namespace safepair::replica
