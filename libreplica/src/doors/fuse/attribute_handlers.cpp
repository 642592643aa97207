#include "doors/fuse/handlers.hpp"
#include "store/system_call.hpp"

#include <safepair/base/system_time.hpp>

#include <cerrno>

#include <sys/stat.h>
#include <sys/statvfs.h>

namespace safepair::replica::fuse_door {

namespace {

/// By number when there is no handle: a file without names can then be gone.
int errno_by_number(const base::Error& error) {
    const int code = errno_of(error);
    return code == ENOENT ? ESTALE : code;
}

void getattr(Session& session, Reply reply, fuse_ino_t number, fuse_file_info* /*info*/) {
    const auto inode = session.inodes().find(number);
    if (inode == nullptr) {
        return reply.error(ESTALE);
    }
    const auto attributes = session.store().attributes(inode->file);
    if (!attributes) {
        return reply.error(errno_by_number(attributes.error()));
    }
    session.fence(std::move(reply),
                  Footprint{inode->file, 0, 0, Footprint::Kind::metadata},
                  [&session, status = to_stat(inode->file, *attributes)](Reply answer) {
                      fuse_reply_attr(answer.take(), &status, session.attribute_timeout());
                  });
}

/// The wanted change, as the kernel says it in `what`.
Operation to_operation(FileId file, const struct stat& wanted, int what) {
    Operation operation;
    operation.kind = OperationKind::set_attributes;
    operation.file = file;
    operation.time = base::wall_clock_now();
    auto& attributes = operation.attributes;
    const auto take = [&operation, what](int asked, std::uint32_t valid) {
        if ((what & asked) == 0) {
            return false;
        }
        operation.valid |= valid;
        return true;
    };
    if (take(FUSE_SET_ATTR_MODE, attribute::mode)) {
        attributes.mode = wanted.st_mode & 07777U;
    }
    if (take(FUSE_SET_ATTR_UID, attribute::owner)) {
        attributes.uid = wanted.st_uid;
    }
    if (take(FUSE_SET_ATTR_GID, attribute::group)) {
        attributes.gid = wanted.st_gid;
    }
    if (take(FUSE_SET_ATTR_SIZE, attribute::size)) {
        attributes.size = static_cast<std::uint64_t>(wanted.st_size);
    }
    // NOW comes beside the plain bit and beats it.
    if (take(FUSE_SET_ATTR_ATIME | FUSE_SET_ATTR_ATIME_NOW, attribute::accessed)) {
        attributes.accessed =
            (what & FUSE_SET_ATTR_ATIME_NOW) != 0 ? operation.time : to_nanoseconds(wanted.st_atim);
    }
    if (take(FUSE_SET_ATTR_MTIME | FUSE_SET_ATTR_MTIME_NOW, attribute::modified)) {
        attributes.modified =
            (what & FUSE_SET_ATTR_MTIME_NOW) != 0 ? operation.time : to_nanoseconds(wanted.st_mtim);
    }
    return operation;
}

/// A new owner, or a truncation by somebody who may not keep them, takes set-uid and set-gid away.
/// It travels as a mode of the same operation, so that it does not depend on what the kernel of
/// either node does.
void kill_privileges(Session& session, Inode& inode, int what, Operation& operation) {
    const bool new_owner = (operation.valid & (attribute::owner | attribute::group)) != 0;
    const bool asked = (what & FUSE_SET_ATTR_KILL_SUID) != 0;
    if ((!new_owner && !asked) || (operation.valid & attribute::mode) != 0) {
        return;
    }
    const auto attributes = session.store().attributes(inode.file);
    if (!attributes || attributes->type == NodeType::directory ||
        attributes->type == NodeType::symlink) {
        return;
    }
    if (const auto mode = without_privileges(attributes->mode); mode != attributes->mode) {
        operation.valid |= attribute::mode;
        operation.attributes.mode = mode;
    }
}

void setattr(Session& session,
             Reply reply,
             fuse_ino_t number,
             struct stat* wanted,
             int what,
             fuse_file_info* info) {
    const auto inode = session.inodes().find(number);
    if (inode == nullptr) {
        return reply.error(ESTALE);
    }
    auto operation = to_operation(inode->file, *wanted, what);
    kill_privileges(session, *inode, what, operation);
    if (operation.valid == 0) {
        return getattr(session, std::move(reply), number, info);
    }
    session.submit(std::move(reply), operation, [&session, inode](Reply answer, int error) {
        // Set-uid may have come in; see mode_to_kill().
        inode->plain_mode.store(false);
        if (error != 0) {
            return answer.error(error == ENOENT ? ESTALE : error);
        }
        const auto attributes = session.store().attributes(inode->file);
        if (!attributes) {
            return answer.error(errno_by_number(attributes.error()));
        }
        const auto status = to_stat(inode->file, *attributes);
        // Another operation may be in flight on this file, so nobody else is told these without a
        // fence.
        fuse_reply_attr(answer.take(), &status, 0.0);
    });
}

void statfs(Session& session, Reply reply, fuse_ino_t /*number*/) {
    const auto space = session.front().space();
    if (!space) {
        return reply.error(errno_of(space.error()));
    }

    struct statvfs status {};

    status.f_bsize = space->block_bytes;
    status.f_frsize = space->block_bytes;
    status.f_blocks = space->blocks;
    status.f_bfree = space->blocks_free;
    status.f_bavail = space->blocks_available;
    status.f_files = space->files;
    status.f_ffree = space->files_free;
    status.f_favail = space->files_free;
    status.f_namemax = 255;
    fuse_reply_statfs(reply.take(), &status);
}

}  // namespace

void add_attribute_handlers(fuse_lowlevel_ops& operations) {
    operations.getattr = guarded<&getattr>;
    operations.setattr = guarded<&setattr>;
    operations.statfs = guarded<&statfs>;
}

}  // namespace safepair::replica::fuse_door
