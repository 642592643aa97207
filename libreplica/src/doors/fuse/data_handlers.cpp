#include "doors/fuse/handlers.hpp"

#include <safepair/base/system_time.hpp>

#include <cerrno>
#include <cstddef>
#include <memory>
#include <span>
#include <vector>

#include <fcntl.h>
#include <linux/falloc.h>

/// Coherence of direct and cached opens of one file. The kernel's page cache is written through, so
/// whoever goes past it reads what cached writers wrote. In the other direction, and for pages that
/// a shared mapping made dirty:
/// - a direct write drops the pages it covered before it is answered, in case an overlapping cached
/// read brought old bytes;
/// - while a cached handle may write, a direct read or write first has dirty pages in its range
/// written. Both happen on the notifier, and only while a file is open both ways. Kernels from 6.6
/// on do the same themselves in fuse_direct_io(); Debian 12's 6.1 does not.
namespace safepair::replica::fuse_door {

namespace {

Notifier::Range range_of(const Inode& inode, std::uint64_t offset, std::uint64_t length) {
    return {inode.number, static_cast<std::int64_t>(offset), static_cast<std::int64_t>(length)};
}

// open, release

void open(Session& session, Reply reply, fuse_ino_t number, fuse_file_info* info) {
    const auto inode = session.inodes().find(number);
    if (inode == nullptr) {
        return reply.error(ESTALE);
    }
    const auto access = (info->flags & O_DIRECT) != 0 || session.is_direct_by_name(inode->file)
                            ? Access::parallel
                            : Access::cached;
    const auto handle = session.handles().open(
        session.store(), inode, access, (info->flags & O_ACCMODE) != O_RDONLY);
    if (!handle) {
        return reply.error(errno_of(handle.error()));
    }
    if (reply_open(reply.take(), HandleTable::number(*handle), access) != 0) {
        session.handles().close(session.front(), *handle);
    }
}

void release(Session& session, Reply reply, fuse_ino_t /*number*/, fuse_file_info* info) {
    auto& handle = HandleTable::of(info->fh);
    const auto inode = handle.inode;
    const auto closed = session.handles().close(session.front(), &handle);
    reply.error(0);
    if (closed.only_direct_left) {
        session.notifier().invalidate(range_of(*inode, 0, 0),
                                      [&session, inode, epoch = closed.epoch] {
                                          session.handles().forget_cached_pages(*inode, epoch);
                                      });
    }
}

// read

void read_now(Session& session, Reply reply, FileId file, std::size_t size, std::uint64_t offset) {
    auto buffer = std::make_unique_for_overwrite<std::byte[]>(size);
    const auto got = session.store().read(file, offset, std::span(buffer.get(), size));
    if (!got) {
        return reply.error(errno_of(got.error()));
    }
    session.fence(std::move(reply),
                  Footprint{file, offset, size, Footprint::Kind::data},
                  [buffer = std::move(buffer), count = *got](Reply answer) {
                      fuse_reply_buf(
                          answer.take(), reinterpret_cast<const char*>(buffer.get()), count);
                  });
}

void read(Session& session,
          Reply reply,
          fuse_ino_t /*number*/,
          std::size_t size,
          off_t offset,
          fuse_file_info* info) {
    const auto& handle = HandleTable::of(info->fh);
    const auto& inode = *handle.inode;
    const auto from = static_cast<std::uint64_t>(offset);
    if (handle.access == Access::parallel && inode.may_be_dirty.load()) {
        session.notifier().invalidate(
            range_of(inode, from, size),
            [&session, reply = std::move(reply), file = inode.file, size, from]() mutable {
                read_now(session, std::move(reply), file, size, from);
            });
        return;
    }
    read_now(session, std::move(reply), inode.file, size, from);
}

// write

struct Change {
    Operation operation;
    /// Take set-uid and set-gid away first.
    std::optional<std::uint32_t> new_mode;
};

/// Ships the change; `answer(Reply)` ends the request when it is done and no reader of the page
/// cache can see older bytes.
template <typename Answer>
void ship(
    Session& session, Reply reply, const Handle& handle, const Change& change, Answer answer) {
    const auto& inode = handle.inode;
    if (!inode->written.load(std::memory_order_relaxed)) {
        inode->written.store(true);
    }
    const bool direct = handle.access == Access::parallel;
    const bool killed = change.new_mode.has_value();
    auto finish = [&session,
                   inode,
                   direct,
                   killed,
                   offset = change.operation.offset,
                   length = change.operation.length,
                   answer = std::move(answer)](Reply done, int error) mutable {
        if ((direct && inode->may_be_cached.load()) || killed) {
            session.notifier().invalidate(
                range_of(*inode, offset, length),
                [done = std::move(done), error, answer = std::move(answer)]() mutable {
                    return error != 0 ? done.error(error) : answer(std::move(done));
                });
            return;
        }
        return error != 0 ? done.error(error) : answer(std::move(done));
    };
    if (killed) {
        session.submit(std::move(reply),
                       kill_operation(inode->file, *change.new_mode),
                       change.operation,
                       std::move(finish));
    } else {
        session.submit(std::move(reply), change.operation, std::move(finish));
    }
}

void ship_write(Session& session, Reply reply, const Handle& handle, const Change& change) {
    ship(session,
         std::move(reply),
         handle,
         change,
         [size = change.operation.data.size()](Reply answer) {
             fuse_reply_write(answer.take(), size);
         });
}

void write(Session& session,
           Reply reply,
           fuse_ino_t /*number*/,
           const char* data,
           std::size_t size,
           off_t offset,
           fuse_file_info* info) {
    const auto& handle = HandleTable::of(info->fh);
    auto& inode = *handle.inode;
    Change change;
    auto& operation = change.operation;
    operation.kind = OperationKind::write;
    operation.file = inode.file;
    operation.offset = static_cast<std::uint64_t>(offset);
    operation.length = size;
    operation.time = base::wall_clock_now();
    // O_SYNC contains O_DSYNC (R15).
    operation.durable = (info->flags & O_DSYNC) != 0;
    operation.data = std::as_bytes(std::span(data, size));
    if (write_kills_privileges()) {
        change.new_mode = mode_to_kill(session, inode);
    }
    if (handle.access == Access::parallel && inode.may_be_dirty.load()) {
        std::vector<std::byte> copy(operation.data.begin(), operation.data.end());
        session.notifier().invalidate(range_of(inode, operation.offset, size),
                                      [&session,
                                       reply = std::move(reply),
                                       &handle,
                                       change = std::move(change),
                                       copy = std::move(copy)]() mutable {
                                          change.operation.data = copy;
                                          ship_write(session, std::move(reply), handle, change);
                                      });
        return;
    }
    ship_write(session, std::move(reply), handle, change);
}

void fallocate(Session& session,
               Reply reply,
               fuse_ino_t /*number*/,
               int mode,
               off_t offset,
               off_t length,
               fuse_file_info* info) {
    constexpr int known = FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE;
    if ((mode & ~known) != 0) {
        return reply.error(EOPNOTSUPP);
    }
    const auto& handle = HandleTable::of(info->fh);
    Change change;
    auto& operation = change.operation;
    operation.kind = OperationKind::allocate;
    operation.file = handle.inode->file;
    operation.offset = static_cast<std::uint64_t>(offset);
    operation.length = static_cast<std::uint64_t>(length);
    operation.flags = static_cast<std::uint32_t>(mode);
    operation.time = base::wall_clock_now();
    // The kernel has no flag for it here, and only privileged callers keep set-uid.
    if (reply.caller().uid != 0) {
        change.new_mode = mode_to_kill(session, *handle.inode);
    }
    ship(session, std::move(reply), handle, change, [](Reply answer) { answer.error(0); });
}

// fsync, lseek, ioctl

void fsync(
    Session& session, Reply reply, fuse_ino_t /*number*/, int data_only, fuse_file_info* info) {
    if (session.read_only()) {
        // Nothing of ours is dirty, and the front would say EROFS.
        return reply.error(0);
    }
    Operation operation;
    operation.kind = OperationKind::flush;
    operation.file = HandleTable::of(info->fh).inode->file;
    operation.flags = data_only != 0 ? 1U : 0U;
    operation.time = base::wall_clock_now();
    session.submit(std::move(reply), operation, &reply_done);
}

void lseek(Session& session,
           Reply reply,
           fuse_ino_t /*number*/,
           off_t offset,
           int whence,
           fuse_file_info* info) {
    const auto file = HandleTable::of(info->fh).inode->file;
    const auto from = static_cast<std::uint64_t>(offset);
    const auto found = session.store().seek(file, from, whence);
    const int error = found ? 0 : errno_of(found.error());
    const auto position = found.value_or(0);
    session.fence(std::move(reply),
                  Footprint{file, from, UINT64_MAX - from, Footprint::Kind::data},
                  [error, position](Reply answer) {
                      if (error != 0) {
                          return answer.error(error);
                      }
                      fuse_reply_lseek(answer.take(), static_cast<off_t>(position));
                  });
}

void ioctl(Session& /*session*/,
           Reply reply,
           fuse_ino_t /*number*/,
           unsigned /*command*/,
           void* /*argument*/,
           fuse_file_info* /*info*/,
           unsigned /*flags*/,
           const void* /*in*/,
           std::size_t /*in_size*/,
           std::size_t /*out_size*/) {
    reply.error(ENOTTY);
}

}  // namespace

void add_data_handlers(fuse_lowlevel_ops& operations) {
    operations.open = guarded<&open>;
    operations.release = guarded<&release>;
    operations.read = guarded<&read>;
    operations.write = guarded<&write>;
    operations.fallocate = guarded<&fallocate>;
    operations.fsync = guarded<&fsync>;
    // Directories flush like files.
    operations.fsyncdir = guarded<&fsync>;
    operations.lseek = guarded<&lseek>;
    operations.ioctl = guarded<&ioctl>;
}

}  // namespace safepair::replica::fuse_door
