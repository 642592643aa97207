#pragma once

#include <safepair/replica/operation.hpp>
#include <safepair/replica/store.hpp>

#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

/// A whole folder without its data: what two copies must have in common (R25), as a value that can
/// be compared.
namespace safepair::replica {

/// XXH3-128, canonical (big-endian) form.
using Digest = std::array<std::uint8_t, 16>;

struct TreeNode {
    NodeType type = NodeType::file;
    std::uint32_t mode = 0;
    std::uint32_t uid = 0;
    std::uint32_t gid = 0;
    /// Of files; other types have 0.
    std::uint64_t size = 0;
    std::int64_t modified = 0;
    /// Of device nodes; other types have 0.
    std::uint64_t rdev = 0;
    /// Of all names and values; zeros when there are none.
    Digest xattrs{};
    std::vector<std::string> xattr_names;
    /// Of a symbolic link's target; zeros for other types.
    Digest target{};
    /// Empty for the root only.
    std::vector<NameOf> names;

    friend bool operator==(const TreeNode&, const TreeNode&) = default;
};

/// The root is in it under its nil id.
using Tree = std::map<FileId, TreeNode>;

}  // namespace safepair::replica
