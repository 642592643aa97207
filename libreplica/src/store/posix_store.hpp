#pragma once

#include <safepair/base/unique_fd.hpp>
#include <safepair/replica/store.hpp>

#include <atomic>
#include <shared_mutex>
#include <string>
#include <vector>

#include "store/catalog.hpp"
#include "store/descriptor_cache.hpp"
#include "store/identity.hpp"

namespace safepair::replica {

/// The Store over a directory of a local file system. Names live in the catalog; whatever turns names into descriptors or
/// changes names holds mutex_ across the system call, so that a name means the same to the catalog and to the kernel.
/// Data and metadata calls work on descriptors outside the lock.
class PosixStore final : public Store {
  public:
    using Descriptor = DescriptorCache::Descriptor;

    PosixStore();

    /// Called once, before anybody else sees the store.
    base::Result<void> open(const std::filesystem::path& directory, std::vector<FileId>* fresh);

    base::Result<FileId> lookup(FileId directory, std::string_view name) override;
    base::Result<Attributes> attributes(FileId file) override;
    base::Result<std::vector<Entry>> list(FileId directory) override;
    base::Result<std::string> read_link(FileId file) override;
    base::Result<std::size_t> read(FileId file,
                                   std::uint64_t offset,
                                   std::span<std::byte> into) override;
    base::Result<std::vector<std::string>> xattr_names(FileId file) override;
    base::Result<std::vector<std::byte>> xattr(FileId file, const std::string& name) override;
    base::Result<Space> space() override;
    base::Result<std::vector<Extent>> data_extents(FileId file,
                                                   std::uint64_t offset,
                                                   std::uint64_t length) override;
    base::Result<std::uint64_t> seek(FileId file, std::uint64_t offset, int whence) override;

    base::Result<void> hold(FileId file) override;
    void release(FileId file) noexcept override;
    [[nodiscard]] bool is_orphan(FileId file) const override;
    [[nodiscard]] bool knows(FileId file) const override;

    base::Result<void> apply(const Operation& operation) override;

    void for_each(
        const std::function<void(FileId file, NodeType type, const std::vector<NameOf>& names)>&
            visit) const override;
    [[nodiscard]] std::vector<NameOf> names(FileId file) const override;
    [[nodiscard]] std::string path_of(FileId file) const override;

    base::Result<void> stage(FileId parent, const std::string& name) override;
    base::Result<void> unstage(FileId file, FileId parent, const std::string& name) override;
    base::Result<void> clear_stage() override;
    base::Result<void> copy_out(FileId file, const std::filesystem::path& target) override;

  private:
    // Opening: scan.cpp
    base::Result<void> scan(std::vector<FileId>* fresh);
    base::Result<void> scan_directory(FileId directory,
                                      std::vector<FileId>& pending,
                                      std::vector<FileId>* fresh);
    base::Result<void> scan_name(FileId directory,
                                 int directory_fd,
                                 const std::string& name,
                                 std::vector<FileId>& pending,
                                 std::vector<FileId>* fresh);

    // Descriptors. Those named locked_* need mutex_ held, shared or not.
    base::Result<base::UniqueFd> open_at(int directory, const std::string& name, int flags);
    /// O_PATH, cached.
    base::Result<Descriptor> locked_directory(FileId directory);
    /// O_PATH of anything, not cached unless it is.
    base::Result<Descriptor> locked_object(FileId file);
    /// A regular file for pread and pwrite, cached.
    base::Result<Descriptor> locked_data(FileId file);
    base::Result<Descriptor> directory(FileId directory);
    base::Result<Descriptor> object(FileId file);
    base::Result<Descriptor> data(FileId file);

    // Operations without names: file_operations.cpp
    base::Result<void> write(const Operation& operation);
    base::Result<void> allocate(const Operation& operation);
    base::Result<void> set_attributes(const Operation& operation);
    base::Result<void> set_xattr(const Operation& operation);
    base::Result<void> remove_xattr(const Operation& operation);
    base::Result<void> flush(const Operation& operation);

    // Operations with names: name_operations.cpp
    base::Result<void> create(const Operation& operation);
    base::Result<void> make_staged(const Operation& operation, const std::string& staged_name);
    base::Result<void> dress_staged(const Operation& operation, const std::string& staged_name);
    base::Result<void> link(const Operation& operation);
    base::Result<void> rename(const Operation& operation);
    base::Result<void> remove(const Operation& operation);
    base::Result<void> locked_check_free(FileId parent, const std::string& name);
    /// Makes sure that a held file stays reachable when its last name goes.
    base::Result<void> locked_prepare_loss(FileId file);
    /// After the kernel took the name: forgets the file unless something still holds or names it.
    void locked_forget_if_gone(FileId file);
    /// Best effort: the change itself has happened.
    void locked_set_modified(FileId directory, std::int64_t time);
    base::Result<void> locked_unstage_tree(FileId file);

    mutable std::shared_mutex mutex_;
    Catalog catalog_;  // guarded by mutex_

    base::UniqueFd root_;   // constant after open()
    base::UniqueFd stage_;  // constant after open()
    std::uint64_t device_ = 0;

    DescriptorCache directories_;  // also holds orphans and staged objects that are no regular files
    DescriptorCache files_;
};

/// EINVAL, ENAMETOOLONG, and EPERM for `.safepair` in the root.
[[nodiscard]] base::Result<void> check_name(FileId parent, std::string_view name);
/// Our folder in the root.
inline constexpr std::string_view own_directory = ".safepair";

}  // namespace safepair::replica
