#include "doors/fuse/handlers.hpp"
#include "store/identity.hpp"

#include <safepair/base/system_time.hpp>
#include <safepair/replica/limits.hpp>

#include <cerrno>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace safepair::replica::fuse_door {

namespace {

bool is_own(std::string_view name) {
    return name.substr(0, own_attribute_prefix.size()) == own_attribute_prefix;
}

/// The protocol of getxattr(2) and listxattr(2): size 0 asks for the length.
void reply_value(Reply reply, std::span<const char> value, std::size_t size) {
    if (size == 0) {
        fuse_reply_xattr(reply.take(), value.size());
    } else if (value.size() > size) {
        reply.error(ERANGE);
    } else {
        fuse_reply_buf(reply.take(), value.data(), value.size());
    }
}

void setxattr(Session& session,
              Reply reply,
              fuse_ino_t number,
              const char* name,
              const char* value,
              std::size_t size,
              int flags) {
    const auto inode = session.inodes().find(number);
    if (inode == nullptr) {
        return reply.error(ESTALE);
    }
    if (is_own(name)) {
        return reply.error(EPERM);
    }
    if (size > limits::xattr_bytes_max) {
        return reply.error(E2BIG);
    }
    Operation operation;
    operation.kind = OperationKind::set_xattr;
    operation.file = inode->file;
    operation.name = name;
    operation.flags = static_cast<std::uint32_t>(flags);
    operation.time = base::wall_clock_now();
    operation.data = std::as_bytes(std::span(value, size));
    session.submit(std::move(reply), operation, &reply_done);
}

void removexattr(Session& session, Reply reply, fuse_ino_t number, const char* name) {
    const auto inode = session.inodes().find(number);
    if (inode == nullptr) {
        return reply.error(ESTALE);
    }
    if (is_own(name)) {
        return reply.error(EPERM);
    }
    Operation operation;
    operation.kind = OperationKind::remove_xattr;
    operation.file = inode->file;
    operation.name = name;
    operation.time = base::wall_clock_now();
    session.submit(std::move(reply), operation, &reply_done);
}

void getxattr(
    Session& session, Reply reply, fuse_ino_t number, const char* name, std::size_t size) {
    const auto inode = session.inodes().find(number);
    if (inode == nullptr) {
        return reply.error(ESTALE);
    }
    if (is_own(name)) {
        return reply.error(ENODATA);
    }
    auto value = session.store().xattr(inode->file, name);
    const int error = value ? 0 : errno_of(value.error());
    session.fence(std::move(reply),
                  Footprint{inode->file, 0, 0, Footprint::Kind::metadata},
                  [error, value = std::move(value), size](Reply answer) {
                      if (error != 0) {
                          return answer.error(error);
                      }
                      const auto* begin = reinterpret_cast<const char*>(value->data());
                      reply_value(std::move(answer), {begin, value->size()}, size);
                  });
}

void listxattr(Session& session, Reply reply, fuse_ino_t number, std::size_t size) {
    const auto inode = session.inodes().find(number);
    if (inode == nullptr) {
        return reply.error(ESTALE);
    }
    const auto names = session.store().xattr_names(inode->file);
    if (!names) {
        return reply.error(errno_of(names.error()));
    }
    std::string all;
    for (const auto& name : *names) {
        if (!is_own(name)) {
            all.append(name).push_back('\0');
        }
    }
    session.fence(
        std::move(reply),
        Footprint{inode->file, 0, 0, Footprint::Kind::metadata},
        [all = std::move(all), size](Reply answer) { reply_value(std::move(answer), all, size); });
}

}  // namespace

void add_xattr_handlers(fuse_lowlevel_ops& operations) {
    operations.setxattr = guarded<&setxattr>;
    operations.getxattr = guarded<&getxattr>;
    operations.listxattr = guarded<&listxattr>;
    operations.removexattr = guarded<&removexattr>;
}

}  // namespace safepair::replica::fuse_door
