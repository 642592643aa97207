#include <safepair/replica/limits.hpp>

#include <algorithm>
#include <cerrno>
#include <mutex>
#include <utility>

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/uio.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "store/posix_store.hpp"
#include "store/system_call.hpp"

namespace safepair::replica {

namespace {

/// Descriptors kept open without a reason but speed; held files come on top.
constexpr std::size_t directories_open_max = 256;
constexpr std::size_t files_open_max = 512;

Attributes to_attributes(const struct stat& status) {
    Attributes attributes;
    attributes.type = node_type(status.st_mode);
    attributes.mode = status.st_mode & 07777U;
    attributes.uid = status.st_uid;
    attributes.gid = status.st_gid;
    attributes.size = static_cast<std::uint64_t>(status.st_size);
    attributes.modified = to_nanoseconds(status.st_mtim);
    attributes.accessed = to_nanoseconds(status.st_atim);
    attributes.changed = to_nanoseconds(status.st_ctim);
    attributes.rdev = status.st_rdev;
    attributes.links = status.st_nlink;
    attributes.blocks = static_cast<std::uint64_t>(status.st_blocks);
    return attributes;
}

bool is_own(std::string_view attribute_name) {
    return attribute_name.substr(0, own_attribute_prefix.size()) == own_attribute_prefix;
}

}  // namespace

base::Result<void> check_name(FileId parent, std::string_view name) {
    if (name.empty() || name == "." || name == ".." ||
        name.find('/') != std::string_view::npos || name.find('\0') != std::string_view::npos) {
        return base::error_from_errno(EINVAL, "name \"" + std::string(name) + "\"");
    }
    if (name.size() > limits::name_bytes_max) {
        return base::error_from_errno(ENAMETOOLONG, std::string(name));
    }
    if (parent == root_file && name == own_directory) {
        return base::error_from_errno(EPERM, std::string(name));
    }
    return {};
}

PosixStore::PosixStore() : directories_(directories_open_max), files_(files_open_max) {}

// Descriptors

base::Result<base::UniqueFd> PosixStore::open_at(int directory, const std::string& name, int flags) {
    int fd = openat(directory, name.c_str(), flags | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 && (errno == EMFILE || errno == ENFILE)) {
        directories_.shrink();
        files_.shrink();
        fd = openat(directory, name.c_str(), flags | O_NOFOLLOW | O_CLOEXEC);
    }
    if (fd < 0) {
        return errno_error("open " + name);
    }
    return base::UniqueFd(fd);
}

base::Result<PosixStore::Descriptor> PosixStore::locked_directory(FileId directory) {
    if (auto cached = directories_.find(directory)) {
        return cached;
    }
    const auto* node = catalog_.find(directory);
    if (node == nullptr) {
        return base::error_from_errno(ENOENT, base::to_string(directory));
    }
    if (node->type != NodeType::directory) {
        return base::error_from_errno(ENOTDIR, catalog_.path_of(directory));
    }
    if (directory == root_file) {
        SAFEPAIR_TRY(auto fd, open_at(root_.get(), ".", O_PATH | O_DIRECTORY));
        return directories_.insert(directory, std::move(fd));
    }
    SAFEPAIR_TRY(auto opened, locked_object(directory));
    if (auto cached = directories_.find(directory)) {
        return cached;
    }
    return directories_.insert(directory, std::move(*opened));
}

base::Result<PosixStore::Descriptor> PosixStore::locked_object(FileId file) {
    if (auto cached = directories_.find(file)) {
        return cached;
    }
    if (auto cached = files_.find(file)) {
        return cached;
    }
    if (file == root_file) {
        return locked_directory(file);
    }
    const auto* node = catalog_.find(file);
    if (node == nullptr) {
        return base::error_from_errno(ENOENT, base::to_string(file));
    }
    if (node->staged) {
        SAFEPAIR_TRY(auto fd, open_at(stage_.get(), base::to_string(file), O_PATH));
        return std::make_shared<base::UniqueFd>(std::move(fd));
    }
    if (node->names.empty()) {
        return base::error_from_errno(ENOENT, base::to_string(file));
    }
    const auto& first = node->names.front();
    SAFEPAIR_TRY(const auto parent, locked_directory(first.parent));
    SAFEPAIR_TRY(auto fd, open_at(parent->get(), first.name, O_PATH));
    return std::make_shared<base::UniqueFd>(std::move(fd));
}

base::Result<PosixStore::Descriptor> PosixStore::locked_data(FileId file) {
    if (auto cached = files_.find(file)) {
        return cached;
    }
    const auto* node = catalog_.find(file);
    if (node == nullptr || (node->names.empty() && !node->staged && file != root_file)) {
        return base::error_from_errno(ENOENT, base::to_string(file));
    }
    if (node->type == NodeType::directory) {
        return base::error_from_errno(EISDIR, catalog_.path_of(file));
    }
    if (node->type != NodeType::file) {
        return base::error_from_errno(EINVAL, catalog_.path_of(file));
    }
    if (node->staged) {
        SAFEPAIR_TRY(auto fd, open_at(stage_.get(), base::to_string(file), O_RDWR));
        return files_.insert(file, std::move(fd));
    }
    const auto& first = node->names.front();
    SAFEPAIR_TRY(const auto parent, locked_directory(first.parent));
    SAFEPAIR_TRY(auto fd, open_at(parent->get(), first.name, O_RDWR));
    return files_.insert(file, std::move(fd));
}

base::Result<PosixStore::Descriptor> PosixStore::directory(FileId directory) {
    if (auto cached = directories_.find(directory)) {
        return cached;
    }
    const std::shared_lock lock(mutex_);
    return locked_directory(directory);
}

base::Result<PosixStore::Descriptor> PosixStore::object(FileId file) {
    if (auto cached = files_.find(file)) {
        return cached;
    }
    const std::shared_lock lock(mutex_);
    return locked_object(file);
}

base::Result<PosixStore::Descriptor> PosixStore::data(FileId file) {
    if (auto cached = files_.find(file)) {
        return cached;
    }
    const std::shared_lock lock(mutex_);
    return locked_data(file);
}

// Reading

base::Result<FileId> PosixStore::lookup(FileId directory, std::string_view name) {
    if (name.size() > limits::name_bytes_max) {
        return base::error_from_errno(ENAMETOOLONG, std::string(name));
    }
    const std::shared_lock lock(mutex_);
    return catalog_.child(directory, name);
}

base::Result<Attributes> PosixStore::attributes(FileId file) {
    struct stat status {};
    auto cached = files_.find(file);
    if (!cached) {
        cached = directories_.find(file);
    }
    if (cached) {
        if (fstatat(cached->get(), "", &status, AT_EMPTY_PATH) != 0) {
            return errno_error("stat " + path_of(file));
        }
        return to_attributes(status);
    }
    const std::shared_lock lock(mutex_);
    const auto* node = catalog_.find(file);
    if (node != nullptr && !node->names.empty() && node->type != NodeType::directory) {
        // Spares the descriptor of an object that is only looked at.
        const auto& first = node->names.front();
        SAFEPAIR_TRY(const auto parent, locked_directory(first.parent));
        if (fstatat(parent->get(), first.name.c_str(), &status, AT_SYMLINK_NOFOLLOW) != 0) {
            return errno_error("stat " + catalog_.path_of(file));
        }
        return to_attributes(status);
    }
    if (node != nullptr && node->type == NodeType::directory) {
        SAFEPAIR_TRY(const auto descriptor, locked_directory(file));
        if (fstatat(descriptor->get(), "", &status, AT_EMPTY_PATH) != 0) {
            return errno_error("stat " + catalog_.path_of(file));
        }
        return to_attributes(status);
    }
    SAFEPAIR_TRY(const auto descriptor, locked_object(file));
    if (fstatat(descriptor->get(), "", &status, AT_EMPTY_PATH) != 0) {
        return errno_error("stat " + catalog_.path_of(file));
    }
    return to_attributes(status);
}

base::Result<std::vector<Entry>> PosixStore::list(FileId directory) {
    const std::shared_lock lock(mutex_);
    const auto* node = catalog_.find(directory);
    if (node == nullptr) {
        return base::error_from_errno(ENOENT, base::to_string(directory));
    }
    if (node->type != NodeType::directory) {
        return base::error_from_errno(ENOTDIR, catalog_.path_of(directory));
    }
    std::vector<Entry> entries;
    entries.reserve(node->children.size());
    for (const auto& [name, file] : node->children) {
        entries.push_back({name, file, catalog_.find(file)->type});
    }
    return entries;
}

base::Result<std::string> PosixStore::read_link(FileId file) {
    SAFEPAIR_TRY(const auto descriptor, object(file));
    std::string target(limits::link_target_bytes_max, '\0');
    const auto got = readlinkat(descriptor->get(), "", target.data(), target.size());
    if (got < 0) {
        // The kernel says ENOENT for "no link" with an empty path; readlink(2) says EINVAL.
        return base::error_from_errno(errno == ENOENT ? EINVAL : errno,
                                      "read link " + path_of(file));
    }
    target.resize(static_cast<std::size_t>(got));
    return target;
}

base::Result<std::size_t> PosixStore::read(FileId file,
                                           std::uint64_t offset,
                                           std::span<std::byte> into) {
    SAFEPAIR_TRY(const auto descriptor, data(file));
    std::size_t done = 0;
    while (done < into.size()) {
        const auto rest = into.subspan(done);
        const auto got = pread(
            descriptor->get(), rest.data(), rest.size(), static_cast<off_t>(offset + done));
        if (got < 0) {
            if (errno == EINTR) {
                continue;
            }
            return errno_error("read " + path_of(file));
        }
        if (got == 0) {
            break;
        }
        done += static_cast<std::size_t>(got);
    }
    return done;
}

base::Result<std::vector<std::string>> PosixStore::xattr_names(FileId file) {
    SAFEPAIR_TRY(const auto descriptor, object(file));
    std::string buffer(limits::xattr_bytes_max, '\0');
    const auto got =
        listxattr(descriptor_path(descriptor->get()).c_str(), buffer.data(), buffer.size());
    if (got < 0) {
        return errno_error("list xattrs of " + path_of(file));
    }
    std::vector<std::string> attribute_names;
    const std::string_view all(buffer.data(), static_cast<std::size_t>(got));
    for (std::size_t begin = 0; begin < all.size();) {
        const auto end = std::min(all.find('\0', begin), all.size());
        if (const auto name = all.substr(begin, end - begin); !is_own(name)) {
            attribute_names.emplace_back(name);
        }
        begin = end + 1;
    }
    std::sort(attribute_names.begin(), attribute_names.end());
    return attribute_names;
}

base::Result<std::vector<std::byte>> PosixStore::xattr(FileId file, const std::string& name) {
    if (is_own(name)) {
        return base::error_from_errno(ENODATA, name);
    }
    SAFEPAIR_TRY(const auto descriptor, object(file));
    const auto path = descriptor_path(descriptor->get());
    // Most values are small, and one call is enough for them.
    std::vector<std::byte> value(256);
    auto got = getxattr(path.c_str(), name.c_str(), value.data(), value.size());
    if (got < 0 && errno == ERANGE) {
        value.resize(limits::xattr_bytes_max);
        got = getxattr(path.c_str(), name.c_str(), value.data(), value.size());
    }
    if (got < 0) {
        return errno_error("xattr " + name);
    }
    value.resize(static_cast<std::size_t>(got));
    return value;
}

base::Result<Space> PosixStore::space() {
    struct statvfs status {};
    if (fstatvfs(root_.get(), &status) != 0) {
        return errno_error("statvfs");
    }
    return Space{status.f_frsize,
                 status.f_blocks,
                 status.f_bfree,
                 status.f_bavail,
                 status.f_files,
                 status.f_ffree};
}

base::Result<std::vector<Extent>> PosixStore::data_extents(FileId file,
                                                           std::uint64_t offset,
                                                           std::uint64_t length) {
    SAFEPAIR_TRY(const auto descriptor, data(file));
    std::vector<Extent> extents;
    const auto end = offset + std::min(length, std::uint64_t(INT64_MAX) - offset);
    for (auto at = offset; at < end;) {
        const auto begin = lseek(descriptor->get(), static_cast<off_t>(at), SEEK_DATA);
        if (begin < 0) {
            if (errno == ENXIO) {
                break;
            }
            return errno_error("seek " + path_of(file));
        }
        const auto hole = lseek(descriptor->get(), begin, SEEK_HOLE);
        if (hole < 0) {
            // Cut off between the two calls.
            if (errno == ENXIO) {
                break;
            }
            return errno_error("seek " + path_of(file));
        }
        const auto first = static_cast<std::uint64_t>(begin);
        const auto last = std::min(static_cast<std::uint64_t>(hole), end);
        if (first >= end) {
            break;
        }
        extents.push_back({first, last - first});
        at = static_cast<std::uint64_t>(hole);
    }
    return extents;
}

base::Result<std::uint64_t> PosixStore::seek(FileId file, std::uint64_t offset, int whence) {
    if (whence != SEEK_DATA && whence != SEEK_HOLE) {
        return base::error_from_errno(EINVAL, "seek");
    }
    SAFEPAIR_TRY(const auto descriptor, data(file));
    const auto at = lseek(descriptor->get(), static_cast<off_t>(offset), whence);
    if (at < 0) {
        return errno_error("seek " + path_of(file));
    }
    return static_cast<std::uint64_t>(at);
}

// Being open at a door

base::Result<void> PosixStore::hold(FileId file) {
    const std::unique_lock lock(mutex_);
    auto* node = catalog_.find(file);
    if (node == nullptr) {
        return base::error_from_errno(ENOENT, base::to_string(file));
    }
    if (++node->holds == 1) {
        files_.keep(file);
    }
    return {};
}

void PosixStore::release(FileId file) noexcept {
    const std::unique_lock lock(mutex_);
    auto* node = catalog_.find(file);
    if (node == nullptr || node->holds == 0) {
        return;
    }
    if (--node->holds == 0) {
        files_.stop_keeping(file);
        locked_forget_if_gone(file);
    }
}

bool PosixStore::is_orphan(FileId file) const {
    const std::shared_lock lock(mutex_);
    return catalog_.is_orphan(file);
}

bool PosixStore::knows(FileId file) const {
    const std::shared_lock lock(mutex_);
    return catalog_.find(file) != nullptr;
}

void PosixStore::for_each(
    const std::function<void(FileId file, NodeType type, const std::vector<NameOf>& names)>& visit)
    const {
    // A copy, so that the visitor may use the store.
    std::vector<std::pair<FileId, CatalogNode>> nodes;
    {
        const std::shared_lock lock(mutex_);
        nodes.reserve(catalog_.nodes().size());
        for (const auto& [file, node] : catalog_.nodes()) {
            if (file != root_file && !node.names.empty()) {
                nodes.emplace_back(file, CatalogNode{node.type, false, 0, node.names, {}});
            }
        }
    }
    for (const auto& [file, node] : nodes) {
        visit(file, node.type, node.names);
    }
}

std::vector<NameOf> PosixStore::names(FileId file) const {
    const std::shared_lock lock(mutex_);
    const auto* node = catalog_.find(file);
    return node == nullptr ? std::vector<NameOf>{} : node->names;
}

std::string PosixStore::path_of(FileId file) const {
    const std::shared_lock lock(mutex_);
    return catalog_.path_of(file);
}

base::Result<void> PosixStore::apply(const Operation& operation) {
    switch (operation.kind) {
        case OperationKind::write:
            return write(operation);
        case OperationKind::allocate:
            return allocate(operation);
        case OperationKind::set_attributes:
            return set_attributes(operation);
        case OperationKind::create:
            return create(operation);
        case OperationKind::link:
            return link(operation);
        case OperationKind::rename:
            return rename(operation);
        case OperationKind::unlink:
        case OperationKind::rmdir:
            return remove(operation);
        case OperationKind::set_xattr:
            return set_xattr(operation);
        case OperationKind::remove_xattr:
            return remove_xattr(operation);
        case OperationKind::flush:
            return flush(operation);
    }
    return base::error_from_errno(EOPNOTSUPP, "operation");
}

}  // namespace safepair::replica
