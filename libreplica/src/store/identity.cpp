#include "store/identity.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>

#include <safepair/base/bytes.hpp>

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include "store/system_call.hpp"

namespace safepair::replica {

base::Result<ObjectFacts> object_facts(int directory, const std::string& name) {
    struct statx status {};
    const int flags = AT_SYMLINK_NOFOLLOW | (name.empty() ? AT_EMPTY_PATH : 0);
    if (statx(directory, name.c_str(), flags, STATX_TYPE | STATX_INO | STATX_BTIME, &status) != 0) {
        return errno_error("statx " + name);
    }
    ObjectFacts facts;
    facts.type = node_type(status.stx_mode);
    facts.inode = status.stx_ino;
    facts.device = makedev(status.stx_dev_major, status.stx_dev_minor);
    if ((status.stx_mask & STATX_BTIME) != 0) {
        facts.birth_seconds = status.stx_btime.tv_sec;
        facts.birth_nanoseconds = status.stx_btime.tv_nsec;
    }
    return facts;
}

base::Result<std::optional<FileId>> read_identity(const std::string& path,
                                                  const ObjectFacts& facts) {
    std::array<std::byte, 64> value{};
    const auto got = lgetxattr(path.c_str(), identity_attribute, value.data(), value.size());
    if (got < 0) {
        if (errno == ENODATA || errno == ERANGE) {
            return std::optional<FileId>{};
        }
        return errno_error(std::string("read ") + identity_attribute);
    }
    base::ByteReader reader(
        std::span<const std::byte>(value).first(static_cast<std::size_t>(got)));
    const FileId file{reader.id()};
    const auto inode = reader.u64();
    const auto seconds = reader.i64();
    const auto nanoseconds = reader.u32();
    if (!reader.finished() || file == root_file || inode != facts.inode ||
        seconds != facts.birth_seconds || nanoseconds != facts.birth_nanoseconds) {
        return std::optional<FileId>{};
    }
    return std::optional<FileId>{file};
}

base::Result<void> write_identity(const std::string& path, FileId file, const ObjectFacts& facts) {
    base::ByteWriter writer;
    writer.id(file.bytes);
    writer.u64(facts.inode);
    writer.i64(facts.birth_seconds);
    writer.u32(facts.birth_nanoseconds);
    const auto& bytes = writer.bytes();
    if (lsetxattr(path.c_str(), identity_attribute, bytes.data(), bytes.size(), 0) != 0) {
        return errno_error(std::string("set ") + identity_attribute);
    }
    return {};
}

NodeType node_type(std::uint32_t mode) {
    switch (mode & S_IFMT) {
        case S_IFDIR:
            return NodeType::directory;
        case S_IFLNK:
            return NodeType::symlink;
        case S_IFIFO:
            return NodeType::fifo;
        case S_IFSOCK:
            return NodeType::socket;
        case S_IFCHR:
            return NodeType::character_device;
        case S_IFBLK:
            return NodeType::block_device;
        default:
            return NodeType::file;
    }
}

std::uint32_t type_bits(NodeType type) {
    switch (type) {
        case NodeType::file:
            return S_IFREG;
        case NodeType::directory:
            return S_IFDIR;
        case NodeType::symlink:
            return S_IFLNK;
        case NodeType::fifo:
            return S_IFIFO;
        case NodeType::socket:
            return S_IFSOCK;
        case NodeType::character_device:
            return S_IFCHR;
        case NodeType::block_device:
            return S_IFBLK;
    }
    return S_IFREG;
}

}  // namespace safepair::replica
