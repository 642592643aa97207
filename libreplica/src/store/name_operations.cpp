#include <array>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <mutex>
#include <utility>

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "store/acl.hpp"
#include "store/posix_store.hpp"
#include "store/system_call.hpp"

namespace safepair::replica {

namespace {

/// Removes what a failed create left in the stage folder, unless told that it went to its place.
class StagedLeftover {
  public:
    StagedLeftover(int stage, std::string name, bool directory)
        : stage_(stage), name_(std::move(name)), directory_(directory) {}

    ~StagedLeftover() {
        if (armed_) {
            unlinkat(stage_, name_.c_str(), directory_ ? AT_REMOVEDIR : 0);
        }
    }

    StagedLeftover(const StagedLeftover&) = delete;
    StagedLeftover& operator=(const StagedLeftover&) = delete;
    void placed() { armed_ = false; }

  private:
    int stage_;
    std::string name_;
    bool directory_;
    bool armed_ = true;
};

}  // namespace

base::Result<void> PosixStore::locked_check_free(FileId parent, const std::string& name) {
    SAFEPAIR_CHECK(check_name(parent, name));
    const auto taken = catalog_.child(parent, name);
    if (taken.has_value()) {
        return base::error_from_errno(EEXIST, name);
    }
    if (taken.error().code.value() != ENOENT || catalog_.find(parent) == nullptr) {
        return taken.error();
    }
    return {};
}

void PosixStore::locked_set_modified(FileId directory, std::int64_t time) {
    if (time == 0) {
        return;
    }
    const auto descriptor = locked_directory(directory);
    if (!descriptor) {
        return;
    }
    const std::array<timespec, 2> times{timespec{0, UTIME_OMIT}, to_timespec(time)};
    utimensat((*descriptor)->get(), "", times.data(), AT_EMPTY_PATH);
}

base::Result<void> PosixStore::locked_prepare_loss(FileId file) {
    const auto* node = catalog_.find(file);
    if (node == nullptr || node->holds == 0 || node->names.size() > 1) {
        return {};
    }
    if (node->type == NodeType::file) {
        SAFEPAIR_TRY(const auto descriptor, locked_data(file));
        return {};
    }
    if (directories_.find(file) == nullptr) {
        SAFEPAIR_TRY(auto descriptor, locked_object(file));
        [[maybe_unused]] const auto cached =
            directories_.insert(file, std::move(*descriptor));
    }
    directories_.keep(file);
    return {};
}

void PosixStore::locked_forget_if_gone(FileId file) {
    const auto* node = catalog_.find(file);
    if (node != nullptr && node->holds == 0 && catalog_.is_orphan(file)) {
        catalog_.erase(file);
        files_.drop(file);
        directories_.drop(file);
    }
}

// create

base::Result<void> PosixStore::make_staged(const Operation& operation,
                                           const std::string& staged_name) {
    const auto& wanted = operation.attributes;
    int failed = 0;
    switch (wanted.type) {
        case NodeType::file: {
            base::UniqueFd fd(openat(stage_.get(),
                                     staged_name.c_str(),
                                     O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
                                     0600));
            failed = fd ? 0 : -1;
            break;
        }
        case NodeType::directory:
            failed = mkdirat(stage_.get(), staged_name.c_str(), 0700);
            break;
        case NodeType::symlink:
            failed = symlinkat(operation.text.c_str(), stage_.get(), staged_name.c_str());
            break;
        case NodeType::fifo:
        case NodeType::socket:
        case NodeType::character_device:
        case NodeType::block_device:
            failed = mknodat(stage_.get(),
                             staged_name.c_str(),
                             type_bits(wanted.type) | 0600U,
                             static_cast<dev_t>(wanted.rdev));
            break;
    }
    if (failed != 0) {
        return errno_error("create " + operation.name);
    }
    return {};
}

base::Result<void> PosixStore::dress_staged(const Operation& operation,
                                            const std::string& staged_name) {
    const auto& wanted = operation.attributes;
    SAFEPAIR_TRY(const auto facts, object_facts(stage_.get(), staged_name));
    const auto path = descriptor_path(stage_.get(), staged_name);
    SAFEPAIR_CHECK(write_identity(path, operation.file, facts));
    if (fchownat(
            stage_.get(), staged_name.c_str(), wanted.uid, wanted.gid, AT_SYMLINK_NOFOLLOW) != 0) {
        return errno_error("chown " + operation.name);
    }
    if (wanted.type != NodeType::symlink) {
        auto mode = wanted.mode & 07777U;
        const auto default_acl = xattr(operation.parent, default_acl_attribute);
        if (default_acl) {
            const auto inherited = inherit_acl(*default_acl, mode);
            if (inherited) {
                mode = inherited->mode;
            }
            if (inherited && !inherited->access.empty() &&
                lsetxattr(path.c_str(),
                          access_acl_attribute,
                          inherited->access.data(),
                          inherited->access.size(),
                          0) != 0) {
                return errno_error("inherit ACL for " + operation.name);
            }
            if (wanted.type == NodeType::directory &&
                lsetxattr(path.c_str(),
                          default_acl_attribute,
                          default_acl->data(),
                          default_acl->size(),
                          0) != 0) {
                return errno_error("inherit ACL for " + operation.name);
            }
        }
        if (fchmodat(stage_.get(), staged_name.c_str(), mode, 0) != 0) {
            return errno_error("chmod " + operation.name);
        }
    }
    if (operation.time != 0) {
        const auto time = to_timespec(operation.time);
        const std::array<timespec, 2> times{time, time};
        if (utimensat(stage_.get(), staged_name.c_str(), times.data(), AT_SYMLINK_NOFOLLOW) != 0) {
            return errno_error("set times of " + operation.name);
        }
    }
    return {};
}

base::Result<void> PosixStore::create(const Operation& operation) {
    if (operation.file == root_file) {
        return base::error_from_errno(EINVAL, "create without an id");
    }
    {
        // Told early; checked again when the name is taken.
        const std::shared_lock lock(mutex_);
        SAFEPAIR_CHECK(locked_check_free(operation.parent, operation.name));
        if (catalog_.find(operation.file) != nullptr) {
            return base::error_from_errno(EEXIST, base::to_string(operation.file));
        }
    }
    const auto staged_name = base::to_string(operation.file);
    SAFEPAIR_CHECK(make_staged(operation, staged_name));
    StagedLeftover leftover(
        stage_.get(), staged_name, operation.attributes.type == NodeType::directory);
    SAFEPAIR_CHECK(dress_staged(operation, staged_name));

    const std::unique_lock lock(mutex_);
    SAFEPAIR_CHECK(locked_check_free(operation.parent, operation.name));
    SAFEPAIR_TRY(const auto parent, locked_directory(operation.parent));
    if (renameat2(stage_.get(),
                  staged_name.c_str(),
                  parent->get(),
                  operation.name.c_str(),
                  RENAME_NOREPLACE) != 0) {
        return errno_error("create " + operation.name);
    }
    leftover.placed();
    catalog_.add(operation.file, operation.attributes.type);
    catalog_.add_name(operation.file, operation.parent, operation.name);
    locked_set_modified(operation.parent, operation.time);
    return {};
}

// link, rename, unlink, rmdir

base::Result<void> PosixStore::link(const Operation& operation) {
    const std::unique_lock lock(mutex_);
    SAFEPAIR_CHECK(locked_check_free(operation.parent, operation.name));
    const auto* node = catalog_.find(operation.file);
    if (node == nullptr || catalog_.is_orphan(operation.file)) {
        return base::error_from_errno(ENOENT, base::to_string(operation.file));
    }
    if (node->type == NodeType::directory) {
        return base::error_from_errno(EPERM, catalog_.path_of(operation.file));
    }
    SAFEPAIR_TRY(const auto parent, locked_directory(operation.parent));
    SAFEPAIR_TRY(const auto descriptor, locked_object(operation.file));
    if (linkat(descriptor->get(), "", parent->get(), operation.name.c_str(), AT_EMPTY_PATH) != 0) {
        return errno_error("link " + operation.name);
    }
    catalog_.add_name(operation.file, operation.parent, operation.name);
    locked_set_modified(operation.parent, operation.time);
    return {};
}

base::Result<void> PosixStore::rename(const Operation& operation) {
    constexpr unsigned known_flags = RENAME_NOREPLACE | RENAME_EXCHANGE;
    if ((operation.flags & ~known_flags) != 0) {
        return base::error_from_errno(EINVAL, "rename flags");
    }
    const std::unique_lock lock(mutex_);
    SAFEPAIR_CHECK(check_name(operation.parent, operation.name));
    SAFEPAIR_CHECK(check_name(operation.new_parent, operation.new_name));
    SAFEPAIR_TRY(const auto file, catalog_.child(operation.parent, operation.name));
    SAFEPAIR_TRY(const auto parent, locked_directory(operation.parent));
    SAFEPAIR_TRY(const auto new_parent, locked_directory(operation.new_parent));
    const auto target = catalog_.child(operation.new_parent, operation.new_name);
    const bool exchange = (operation.flags & RENAME_EXCHANGE) != 0;
    if (target.has_value() && !exchange && *target != file) {
        SAFEPAIR_CHECK(locked_prepare_loss(*target));
    }
    if (renameat2(parent->get(),
                  operation.name.c_str(),
                  new_parent->get(),
                  operation.new_name.c_str(),
                  operation.flags) != 0) {
        return errno_error("rename " + operation.name + " to " + operation.new_name);
    }
    // Two names of one file: the kernel does nothing, and so the times stay as well.
    if (target.has_value() && *target == file) {
        return {};
    }
    catalog_.remove_name(operation.parent, operation.name);
    if (target.has_value()) {
        catalog_.remove_name(operation.new_parent, operation.new_name);
    }
    catalog_.add_name(file, operation.new_parent, operation.new_name);
    if (target.has_value() && exchange) {
        catalog_.add_name(*target, operation.parent, operation.name);
    } else if (target.has_value()) {
        locked_forget_if_gone(*target);
    }
    locked_set_modified(operation.parent, operation.time);
    if (operation.new_parent != operation.parent) {
        locked_set_modified(operation.new_parent, operation.time);
    }
    return {};
}

base::Result<void> PosixStore::remove(const Operation& operation) {
    const std::unique_lock lock(mutex_);
    SAFEPAIR_CHECK(check_name(operation.parent, operation.name));
    SAFEPAIR_TRY(const auto file, catalog_.child(operation.parent, operation.name));
    SAFEPAIR_TRY(const auto parent, locked_directory(operation.parent));
    SAFEPAIR_CHECK(locked_prepare_loss(file));
    const int flags = operation.kind == OperationKind::rmdir ? AT_REMOVEDIR : 0;
    if (unlinkat(parent->get(), operation.name.c_str(), flags) != 0) {
        return errno_error("remove " + operation.name);
    }
    catalog_.remove_name(operation.parent, operation.name);
    locked_forget_if_gone(file);
    locked_set_modified(operation.parent, operation.time);
    return {};
}

// The stage folder

base::Result<void> PosixStore::stage(FileId parent, const std::string& name) {
    const std::unique_lock lock(mutex_);
    SAFEPAIR_CHECK(check_name(parent, name));
    SAFEPAIR_TRY(const auto file, catalog_.child(parent, name));
    SAFEPAIR_TRY(const auto directory_descriptor, locked_directory(parent));
    auto* node = catalog_.find(file);
    if (node->staged || node->names.size() > 1) {
        // Another name keeps the object reachable; this one just goes.
        if (unlinkat(directory_descriptor->get(), name.c_str(), 0) != 0) {
            return errno_error("remove " + name);
        }
        catalog_.remove_name(parent, name);
        return {};
    }
    if (renameat2(directory_descriptor->get(),
                  name.c_str(),
                  stage_.get(),
                  base::to_string(file).c_str(),
                  RENAME_NOREPLACE) != 0) {
        return errno_error("stage " + name);
    }
    catalog_.remove_name(parent, name);
    node->staged = true;
    return {};
}

base::Result<void> PosixStore::unstage(FileId file, FileId parent, const std::string& name) {
    const std::unique_lock lock(mutex_);
    SAFEPAIR_CHECK(locked_check_free(parent, name));
    auto* node = catalog_.find(file);
    if (node == nullptr || !node->staged) {
        return base::error_from_errno(ENOENT, base::to_string(file));
    }
    SAFEPAIR_TRY(const auto directory_descriptor, locked_directory(parent));
    if (renameat2(stage_.get(),
                  base::to_string(file).c_str(),
                  directory_descriptor->get(),
                  name.c_str(),
                  RENAME_NOREPLACE) != 0) {
        return errno_error("unstage " + name);
    }
    node->staged = false;
    catalog_.add_name(file, parent, name);
    return {};
}

base::Result<void> PosixStore::locked_unstage_tree(FileId file) {
    // By value: the node's children go one by one.
    const auto children = catalog_.find(file)->children;
    for (const auto& [name, child] : children) {
        SAFEPAIR_CHECK(locked_prepare_loss(child));
        if (catalog_.find(child)->type == NodeType::directory) {
            SAFEPAIR_CHECK(locked_unstage_tree(child));
        }
        catalog_.remove_name(file, name);
        locked_forget_if_gone(child);
    }
    return {};
}

base::Result<void> PosixStore::clear_stage() {
    const std::unique_lock lock(mutex_);
    std::vector<FileId> staged;
    for (const auto& [file, node] : catalog_.nodes()) {
        if (node.staged) {
            staged.push_back(file);
        }
    }
    for (const auto file : staged) {
        SAFEPAIR_CHECK(locked_prepare_loss(file));
        SAFEPAIR_CHECK(locked_unstage_tree(file));
        catalog_.find(file)->staged = false;
        locked_forget_if_gone(file);
    }
    std::error_code failed;
    std::vector<std::filesystem::path> left;
    for (std::filesystem::directory_iterator entry(descriptor_path(stage_.get()) + "/.", failed), end;
         !failed && entry != end;
         entry.increment(failed)) {
        left.push_back(entry->path());
    }
    for (const auto& path : left) {
        if (!failed) {
            std::filesystem::remove_all(path, failed);
        }
    }
    if (failed) {
        return base::Error{failed, "clear the stage folder"};
    }
    return {};
}

}  // namespace safepair::replica
