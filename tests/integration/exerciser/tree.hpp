#pragma once

#include <safepair/base/prng.hpp>
#include <safepair/base/unique_fd.hpp>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <sys/types.h>

/// One process's subtree, on the mount and in the model. Every step does the same on both and
/// compares what the kernel says: result, errno, bytes, attributes. What exists is asked of the
/// model each time, so the tree itself keeps no state but its open files.
namespace safepair::exerciser {

/// The same file open on both sides.
struct OpenPair {
    base::UniqueFd mount;
    base::UniqueFd model;
    /// Past the page cache on the mount: offsets and lengths are whole blocks.
    bool direct = false;
    bool append = false;
    std::string opened_as;
};

enum class Kind : std::uint8_t { any, file, directory };

class Tree {
  public:
    /// Both directories exist and are empty. `privileged`: chown, device nodes. `xattrs`: the model
    /// has user xattrs.
    Tree(std::string mount, std::string model, std::uint64_t seed, bool privileged, bool xattrs);

    /// One random operation.
    void step();
    /// Closes what is open, comparing it first.
    void finish();

  private:
    // Choice: tree.cpp
    std::uint64_t below(std::uint64_t bound) { return random_.below(bound); }

    /// A name that exists, "" when there is none of that kind.
    std::string pick(Kind kind);
    /// A directory that exists; "." is the root.
    std::string pick_directory();
    /// A name, taken or not, out of so few that they meet often.
    std::string pick_new();
    OpenPair* pick_open();
    std::vector<std::byte> random_bytes(std::size_t count);
    [[nodiscard]] std::uint64_t pick_offset();

    // Comparison: tree.cpp
    /// Both errnos (0 is success); fails unless they agree. True when both succeeded.
    bool agree(int mount_error, int model_error, const std::string& what);
    void compare_range(const OpenPair& pair, std::uint64_t offset, std::size_t length);
    void compare_attributes(const std::string& path);

    // Contents: file_operations.cpp
    std::optional<OpenPair> open_pair(const std::string& path, int flags, mode_t mode = 0644);
    void open_one();
    void close_one();
    void write_some();
    void append_some();
    void write_durable();
    void read_some();
    void truncate_some();
    void allocate_some();
    void map_some();
    void flush_some();
    void copy_some();
    void write_at(OpenPair& pair, std::uint64_t offset, std::size_t length);

    // Names and attributes: name_operations.cpp
    void make_file();
    void make_directory();
    void make_link();
    void make_symlink();
    void make_special();
    void rename_some();
    void remove_file();
    void remove_directory();
    void change_mode();
    void change_owner();
    void change_times();
    void set_xattr();
    void remove_xattr();
    void list_some();
    void stat_some();

    struct Choice;
    static const std::vector<Choice>& choices();

    const std::string mount_;
    const std::string model_;
    base::UniqueFd mount_root_;
    base::UniqueFd model_root_;
    base::Prng random_;
    const bool privileged_;
    const bool xattrs_;
    std::vector<OpenPair> open_;
};

/// 0 or the errno of a call that returns -1 on failure.
template <typename T>
int error_of(T result);

/// The last name of a path relative to the tree's root, and what is above it.
[[nodiscard]] std::string join(const std::string& directory, const std::string& name);

}  // namespace safepair::exerciser

#include <cerrno>

template <typename T>
int safepair::exerciser::error_of(T result) {
    return result == -1 ? errno : 0;
}
