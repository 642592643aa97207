#include <algorithm>
#include <array>
#include <cerrno>
#include <mutex>

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "store/posix_store.hpp"
#include "store/system_call.hpp"

namespace safepair::replica {

namespace {

bool is_own(std::string_view attribute_name) {
    return attribute_name.substr(0, own_attribute_prefix.size()) == own_attribute_prefix;
}

}  // namespace

base::Result<void> PosixStore::write(const Operation& operation) {
    SAFEPAIR_TRY(const auto descriptor, data(operation.file));
    auto rest = operation.data;
    auto offset = operation.offset;
    const int flags = operation.durable ? RWF_DSYNC : 0;
    while (!rest.empty()) {
        // iovec has no const; the kernel only reads.
        const iovec part{const_cast<std::byte*>(rest.data()), rest.size()};
        const auto put =
            pwritev2(descriptor->get(), &part, 1, static_cast<off_t>(offset), flags);
        if (put < 0) {
            if (errno == EINTR) {
                continue;
            }
            return errno_error("write " + path_of(operation.file));
        }
        rest = rest.subspan(static_cast<std::size_t>(put));
        offset += static_cast<std::uint64_t>(put);
    }
    return {};
}

base::Result<void> PosixStore::allocate(const Operation& operation) {
    SAFEPAIR_TRY(const auto descriptor, data(operation.file));
    while (fallocate(descriptor->get(),
                     static_cast<int>(operation.flags),
                     static_cast<off_t>(operation.offset),
                     static_cast<off_t>(operation.length)) != 0) {
        if (errno != EINTR) {
            return errno_error("allocate in " + path_of(operation.file));
        }
    }
    if (operation.durable && fdatasync(descriptor->get()) != 0) {
        return errno_error("flush " + path_of(operation.file));
    }
    return {};
}

base::Result<void> PosixStore::set_attributes(const Operation& operation) {
    const auto valid = operation.valid;
    const auto& wanted = operation.attributes;
    if ((valid & attribute::size) != 0) {
        SAFEPAIR_TRY(const auto descriptor, data(operation.file));
        if (ftruncate(descriptor->get(), static_cast<off_t>(wanted.size)) != 0) {
            return errno_error("truncate " + path_of(operation.file));
        }
    }
    SAFEPAIR_TRY(const auto descriptor, object(operation.file));
    const int fd = descriptor->get();
    if ((valid & (attribute::owner | attribute::group)) != 0) {
        constexpr auto unchanged = static_cast<uid_t>(-1);
        const auto uid = (valid & attribute::owner) != 0 ? wanted.uid : unchanged;
        const auto gid = (valid & attribute::group) != 0 ? wanted.gid : unchanged;
        if (fchownat(fd, "", uid, gid, AT_EMPTY_PATH) != 0) {
            return errno_error("chown " + path_of(operation.file));
        }
    }
    // After the owner: changing that takes set-uid and set-gid away. A symbolic link has no mode of its own.
    if ((valid & attribute::mode) != 0 &&
        chmod(descriptor_path(fd).c_str(), wanted.mode & 07777U) != 0 && errno != EOPNOTSUPP) {
        return errno_error("chmod " + path_of(operation.file));
    }
    std::array<timespec, 2> times{timespec{0, UTIME_OMIT}, timespec{0, UTIME_OMIT}};
    if ((valid & attribute::accessed) != 0) {
        times[0] = to_timespec(wanted.accessed);
    }
    if ((valid & attribute::modified) != 0) {
        times[1] = to_timespec(wanted.modified);
    } else if ((valid & attribute::size) != 0 && operation.time != 0) {
        times[1] = to_timespec(operation.time);
    }
    if ((times[0].tv_nsec != UTIME_OMIT || times[1].tv_nsec != UTIME_OMIT) &&
        utimensat(fd, "", times.data(), AT_EMPTY_PATH) != 0) {
        return errno_error("set times of " + path_of(operation.file));
    }
    return {};
}

base::Result<void> PosixStore::set_xattr(const Operation& operation) {
    if (is_own(operation.name)) {
        return base::error_from_errno(EPERM, operation.name);
    }
    SAFEPAIR_TRY(const auto descriptor, object(operation.file));
    if (setxattr(descriptor_path(descriptor->get()).c_str(),
                 operation.name.c_str(),
                 operation.data.data(),
                 operation.data.size(),
                 static_cast<int>(operation.flags)) != 0) {
        return errno_error("set xattr " + operation.name + " of " + path_of(operation.file));
    }
    return {};
}

base::Result<void> PosixStore::remove_xattr(const Operation& operation) {
    if (is_own(operation.name)) {
        return base::error_from_errno(EPERM, operation.name);
    }
    SAFEPAIR_TRY(const auto descriptor, object(operation.file));
    if (removexattr(descriptor_path(descriptor->get()).c_str(), operation.name.c_str()) != 0) {
        return errno_error("remove xattr " + operation.name + " of " + path_of(operation.file));
    }
    return {};
}

base::Result<void> PosixStore::flush(const Operation& operation) {
    if (operation.file == root_file) {
        if (syncfs(root_.get()) != 0) {
            return errno_error("syncfs");
        }
        return {};
    }
    NodeType type = NodeType::file;
    {
        const std::shared_lock lock(mutex_);
        const auto* node = catalog_.find(operation.file);
        if (node == nullptr) {
            return base::error_from_errno(ENOENT, base::to_string(operation.file));
        }
        type = node->type;
    }
    if (type == NodeType::file) {
        SAFEPAIR_TRY(const auto descriptor, data(operation.file));
        const int failed = (operation.flags & 1U) != 0 ? fdatasync(descriptor->get())
                                                        : fsync(descriptor->get());
        if (failed != 0) {
            return errno_error("flush " + path_of(operation.file));
        }
        return {};
    }
    if (type == NodeType::directory) {
        SAFEPAIR_TRY(const auto descriptor, directory(operation.file));
        SAFEPAIR_TRY(const auto fd, open_at(descriptor->get(), ".", O_RDONLY | O_DIRECTORY));
        if (fsync(fd.get()) != 0) {
            return errno_error("flush " + path_of(operation.file));
        }
        return {};
    }
    // Links and special files cannot be opened for fsync.
    if (syncfs(root_.get()) != 0) {
        return errno_error("syncfs");
    }
    return {};
}

}  // namespace safepair::replica
