#include "doors/fuse/handlers.hpp"

#include "store/identity.hpp"
#include "store/system_call.hpp"

#include <safepair/base/system_time.hpp>
#include <safepair/replica/limits.hpp>

#include <cerrno>

#include <sys/stat.h>

namespace safepair::replica::fuse_door {

namespace {

/// One record carries one write, with room for what else a record says.
constexpr unsigned write_bytes_max = limits::record_bytes_max / 2;
constexpr unsigned background_requests_max = 64;

void initialise(void* userdata, fuse_conn_info* connection) {
    const auto& session = *static_cast<Session*>(userdata);
    connection->max_write = write_bytes_max;
    connection->max_background = background_requests_max;
    connection->congestion_threshold = background_requests_max / 4 * 3;
    const auto want = [connection](unsigned capability, bool wanted) {
        connection->want &= ~capability;
        if (wanted) {
            connection->want |= connection->capable & capability;
        }
    };
    want(FUSE_CAP_PARALLEL_DIROPS, true);
    want(FUSE_CAP_POSIX_ACL, true);
    // A default ACL takes the place of the umask, so the handlers apply it.
    want(FUSE_CAP_DONT_MASK, true);
    want(FUSE_CAP_CACHE_SYMLINKS, !session.read_only());
    // Truncation comes as an attribute operation of its own, and ships as one.
    want(FUSE_CAP_ATOMIC_O_TRUNC, false);
    // Every change of data comes through this mount or is told by the notifier. A new mtime alone
    // must not cost the cache.
    want(FUSE_CAP_AUTO_INVAL_DATA, false);
    want(FUSE_CAP_EXPLICIT_INVAL_DATA, true);
    // The kernel would acknowledge writes on its own.
    want(FUSE_CAP_WRITEBACK_CACHE, false);
    want(FUSE_CAP_EXPORT_SUPPORT, false);
}

fuse_lowlevel_ops make_handlers() {
    fuse_lowlevel_ops operations{};
    operations.init = &initialise;
    add_name_handlers(operations);
    add_attribute_handlers(operations);
    add_data_handlers(operations);
    add_directory_handlers(operations);
    add_xattr_handlers(operations);
    // Left out on purpose. flush: nothing waits for close(2), the kernel has written dirty pages
    // before. getlk, setlk, flock: the kernel keeps locks itself. access: default_permissions.
    // copy_file_range: the kernel copies through read and write.
    return operations;
}

}  // namespace

const fuse_lowlevel_ops& handlers() {
    static const auto operations = make_handlers();
    return operations;
}

struct stat to_stat(FileId file, const Attributes& attributes) noexcept {
    struct stat status {};

    status.st_ino = visible_number(file);
    status.st_mode = type_bits(attributes.type) | (attributes.mode & 07777U);
    status.st_nlink = attributes.links;
    status.st_uid = attributes.uid;
    status.st_gid = attributes.gid;
    status.st_rdev = attributes.rdev;
    status.st_size = static_cast<off_t>(attributes.size);
    status.st_blksize = 4096;
    status.st_blocks = static_cast<blkcnt_t>(attributes.blocks);
    status.st_atim = to_timespec(attributes.accessed);
    status.st_mtim = to_timespec(attributes.modified);
    status.st_ctim = to_timespec(attributes.changed);
    return status;
}

fuse_entry_param to_entry(const Session& session,
                          const Inode& inode,
                          const Attributes& attributes) noexcept {
    fuse_entry_param entry{};
    entry.ino = inode.number;
    entry.attr = to_stat(inode.file, attributes);
    entry.entry_timeout = session.entry_timeout();
    entry.attr_timeout = session.attribute_timeout();
    return entry;
}

void reply_entry(Session& session,
                 Reply reply,
                 FileId file,
                 const Attributes& attributes,
                 double attribute_timeout) {
    const auto inode = session.inodes().remember(file);
    auto entry = to_entry(session, *inode, attributes);
    entry.attr_timeout = attribute_timeout;
    if (fuse_reply_entry(reply.take(), &entry) != 0) {
        session.inodes().forget(inode->number, 1);
    }
}

void reply_done(Reply reply, int error) { reply.error(error); }

std::uint32_t without_privileges(std::uint32_t mode) noexcept {
    // Set-gid without group execution gives no privilege: it marks mandatory locking, and the
    // kernel leaves it too.
    if ((mode & (S_ISGID | S_IXGRP)) == (S_ISGID | S_IXGRP)) {
        mode &= ~static_cast<std::uint32_t>(S_ISGID);
    }
    return mode & ~static_cast<std::uint32_t>(S_ISUID);
}

std::optional<std::uint32_t> mode_to_kill(Session& session, Inode& inode) {
    if (inode.plain_mode.load()) {
        return std::nullopt;
    }
    // Believed first and looked at afterwards, so that a chmod in between is not overlooked: it
    // withdraws the belief when done.
    inode.plain_mode.store(true);
    const auto attributes = session.store().attributes(inode.file);
    if (!attributes || (attributes->mode & (S_ISUID | S_ISGID)) != 0) {
        inode.plain_mode.store(false);
    }
    if (!attributes || without_privileges(attributes->mode) == attributes->mode) {
        return std::nullopt;
    }
    return without_privileges(attributes->mode);
}

Operation kill_operation(FileId file, std::uint32_t mode) {
    Operation operation;
    operation.kind = OperationKind::set_attributes;
    operation.file = file;
    operation.valid = attribute::mode;
    operation.attributes.mode = mode;
    operation.time = base::wall_clock_now();
    return operation;
}

}  // namespace safepair::replica::fuse_door
