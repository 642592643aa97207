#include "doors/fuse/handlers.hpp"
#include "store/acl.hpp"
#include "store/identity.hpp"
#include "store/posix_store.hpp"

#include <safepair/base/system_time.hpp>
#include <safepair/replica/limits.hpp>

#include <array>
#include <cerrno>
#include <cstring>
#include <string_view>

#include <fcntl.h>
#include <sys/stat.h>

namespace safepair::replica::fuse_door {

namespace {

/// Why the name cannot be given to anything; 0 when it can.
int check_new_name(FileId parent, std::string_view name) {
    if (name.size() > limits::name_bytes_max) {
        return ENAMETOOLONG;
    }
    return parent == root_file && name == own_directory ? EPERM : 0;
}

Operation name_operation(OperationKind kind, FileId parent, const char* name) {
    Operation operation;
    operation.kind = kind;
    operation.parent = parent;
    operation.name = name;
    operation.time = base::wall_clock_now();
    return operation;
}

void lookup(Session& session, Reply reply, fuse_ino_t parent, const char* name) {
    const auto directory = session.inodes().find(parent);
    if (directory == nullptr) {
        return reply.error(ESTALE);
    }
    auto& store = session.store();
    const Footprint names{directory->file, 0, 0, Footprint::Kind::names};
    const auto file = store.lookup(directory->file, name);
    if (!file) {
        return session.fence(std::move(reply),
                             names,
                             [code = errno_of(file.error())](Reply answer) { answer.error(code); });
    }
    const auto attributes = store.attributes(*file);
    if (!attributes) {
        return reply.error(errno_of(attributes.error()));
    }
    const std::array<Footprint, 2> looked_at{names,
                                             Footprint{*file, 0, 0, Footprint::Kind::metadata}};
    session.fence(
        std::move(reply),
        looked_at,
        [&session, file = *file, attributes = *attributes](Reply answer) {
            reply_entry(session, std::move(answer), file, attributes, session.attribute_timeout());
        });
}

void forget(Session& session, Reply reply, fuse_ino_t inode, std::uint64_t lookups) {
    session.inodes().forget(inode, lookups);
    fuse_reply_none(reply.take());
}

void forget_multi(Session& session, Reply reply, std::size_t count, fuse_forget_data* forgets) {
    for (std::size_t i = 0; i < count; ++i) {
        session.inodes().forget(forgets[i].ino, forgets[i].nlookup);
    }
    fuse_reply_none(reply.take());
}

/// A new object as the kernel would make it in a plain folder: owner of the caller, group of a
/// set-gid directory, umask unless a default ACL takes its place (the store inherits that).
base::Result<Operation> create_operation(
    Session& session, const fuse_ctx& caller, const Inode& parent, const char* name, mode_t mode) {
    if (const int refused = check_new_name(parent.file, name); refused != 0) {
        return base::error_from_errno(refused, name);
    }
    SAFEPAIR_TRY(const auto above, session.store().attributes(parent.file));
    auto operation = name_operation(OperationKind::create, parent.file, name);
    operation.file = base::random_id<FileId>();
    auto& wanted = operation.attributes;
    wanted.type = node_type(mode);
    wanted.mode = mode & 07777U;
    wanted.uid = caller.uid;
    wanted.gid = caller.gid;
    if ((above.mode & S_ISGID) != 0) {
        wanted.gid = above.gid;
        if (wanted.type == NodeType::directory) {
            wanted.mode |= S_ISGID;
        }
    }
    if (wanted.type != NodeType::symlink &&
        !session.store().xattr(parent.file, default_acl_attribute)) {
        wanted.mode &= ~static_cast<std::uint32_t>(caller.umask);
    }
    return operation;
}

/// After a create: the entry, or the error.
void reply_created(Session& session, Reply reply, FileId file, int error) {
    if (error != 0) {
        return reply.error(error);
    }
    const auto attributes = session.store().attributes(file);
    if (!attributes) {
        return reply.error(errno_of(attributes.error()));
    }
    // Of an object with other names an operation may be in flight, so nobody else is told these
    // without a fence.
    reply_entry(session,
                std::move(reply),
                file,
                *attributes,
                attributes->links > 1 && attributes->type != NodeType::directory
                    ? 0.0
                    : session.attribute_timeout());
}

void make(Session& session,
          Reply reply,
          fuse_ino_t parent,
          const char* name,
          mode_t mode,
          dev_t device,
          const char* target) {
    const auto directory = session.inodes().find(parent);
    if (directory == nullptr) {
        return reply.error(ESTALE);
    }
    auto operation = create_operation(session, reply.caller(), *directory, name, mode);
    if (!operation) {
        return reply.error(errno_of(operation.error()));
    }
    operation->attributes.rdev = device;
    operation->text = target;
    session.submit(
        std::move(reply), *operation, [&session, file = operation->file](Reply answer, int error) {
            reply_created(session, std::move(answer), file, error);
        });
}

void mknod(
    Session& session, Reply reply, fuse_ino_t parent, const char* name, mode_t mode, dev_t device) {
    make(session, std::move(reply), parent, name, mode, device, "");
}

void mkdir(Session& session, Reply reply, fuse_ino_t parent, const char* name, mode_t mode) {
    make(session, std::move(reply), parent, name, S_IFDIR | (mode & 07777U), 0, "");
}

void symlink(
    Session& session, Reply reply, const char* target, fuse_ino_t parent, const char* name) {
    make(session, std::move(reply), parent, name, S_IFLNK | 0777U, 0, target);
}

/// After the create of an open(2): entry and handle, or the error, and nothing kept when the kernel
/// does not take them.
void reply_created_open(Session& session, Reply reply, FileId file, int flags, int error) {
    if (error != 0) {
        return reply.error(error);
    }
    const auto attributes = session.store().attributes(file);
    if (!attributes) {
        return reply.error(errno_of(attributes.error()));
    }
    const auto access = (flags & O_DIRECT) != 0 || session.is_direct_by_name(file)
                            ? Access::parallel
                            : Access::cached;
    const auto inode = session.inodes().remember(file);
    const auto handle =
        session.handles().open(session.store(), inode, access, (flags & O_ACCMODE) != O_RDONLY);
    if (!handle) {
        session.inodes().forget(inode->number, 1);
        return reply.error(errno_of(handle.error()));
    }
    const auto entry = to_entry(session, *inode, *attributes);
    if (reply_create(reply.take(), entry, HandleTable::number(*handle), access) != 0) {
        session.handles().close(session.front(), *handle);
        session.inodes().forget(inode->number, 1);
    }
}

void create(Session& session,
            Reply reply,
            fuse_ino_t parent,
            const char* name,
            mode_t mode,
            fuse_file_info* info) {
    const auto directory = session.inodes().find(parent);
    if (directory == nullptr) {
        return reply.error(ESTALE);
    }
    auto operation =
        create_operation(session, reply.caller(), *directory, name, S_IFREG | (mode & 07777U));
    if (!operation) {
        return reply.error(errno_of(operation.error()));
    }
    session.submit(
        std::move(reply),
        *operation,
        [&session, file = operation->file, flags = info->flags](Reply answer, int error) {
            reply_created_open(session, std::move(answer), file, flags, error);
        });
}

void link(
    Session& session, Reply reply, fuse_ino_t number, fuse_ino_t new_parent, const char* name) {
    const auto inode = session.inodes().find(number);
    const auto directory = session.inodes().find(new_parent);
    if (inode == nullptr || directory == nullptr) {
        return reply.error(ESTALE);
    }
    if (const int refused = check_new_name(directory->file, name); refused != 0) {
        return reply.error(refused);
    }
    auto operation = name_operation(OperationKind::link, directory->file, name);
    operation.file = inode->file;
    session.submit(
        std::move(reply), operation, [&session, file = inode->file](Reply answer, int error) {
            reply_created(session, std::move(answer), file, error);
        });
}

void remove(
    Session& session, Reply reply, fuse_ino_t parent, const char* name, OperationKind kind) {
    const auto directory = session.inodes().find(parent);
    if (directory == nullptr) {
        return reply.error(ESTALE);
    }
    session.submit(std::move(reply), name_operation(kind, directory->file, name), &reply_done);
}

void unlink(Session& session, Reply reply, fuse_ino_t parent, const char* name) {
    remove(session, std::move(reply), parent, name, OperationKind::unlink);
}

void rmdir(Session& session, Reply reply, fuse_ino_t parent, const char* name) {
    remove(session, std::move(reply), parent, name, OperationKind::rmdir);
}

void rename(Session& session,
            Reply reply,
            fuse_ino_t parent,
            const char* name,
            fuse_ino_t new_parent,
            const char* new_name,
            unsigned flags) {
    const auto from = session.inodes().find(parent);
    const auto into = session.inodes().find(new_parent);
    if (from == nullptr || into == nullptr) {
        return reply.error(ESTALE);
    }
    if (flags != 0 && flags != RENAME_NOREPLACE && flags != RENAME_EXCHANGE) {
        return reply.error(EINVAL);
    }
    if (const int refused = check_new_name(into->file, new_name); refused != 0) {
        return reply.error(refused);
    }
    auto operation = name_operation(OperationKind::rename, from->file, name);
    operation.new_parent = into->file;
    operation.new_name = new_name;
    operation.flags = flags;
    session.submit(std::move(reply), operation, &reply_done);
}

void readlink(Session& session, Reply reply, fuse_ino_t number) {
    const auto inode = session.inodes().find(number);
    if (inode == nullptr) {
        return reply.error(ESTALE);
    }
    auto target = session.store().read_link(inode->file);
    if (!target) {
        return reply.error(errno_of(target.error()));
    }
    session.fence(std::move(reply),
                  Footprint{inode->file, 0, 0, Footprint::Kind::metadata},
                  [target = std::move(*target)](Reply answer) {
                      fuse_reply_readlink(answer.take(), target.c_str());
                  });
}

}  // namespace

void add_name_handlers(fuse_lowlevel_ops& operations) {
    operations.lookup = guarded<&lookup>;
    operations.forget = guarded<&forget>;
    operations.forget_multi = guarded<&forget_multi>;
    operations.mknod = guarded<&mknod>;
    operations.mkdir = guarded<&mkdir>;
    operations.symlink = guarded<&symlink>;
    operations.create = guarded<&create>;
    operations.link = guarded<&link>;
    operations.unlink = guarded<&unlink>;
    operations.rmdir = guarded<&rmdir>;
    operations.rename = guarded<&rename>;
    operations.readlink = guarded<&readlink>;
}

}  // namespace safepair::replica::fuse_door
