#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace safepair::exerciser {

/// Without "." and "..", sorted. Fails the run when the directory cannot be read.
[[nodiscard]] std::vector<std::string> sorted_names(const std::string& directory);

/// Reads [offset, offset + length) from both; `difference` says where they part. Reads whole blocks
/// at aligned offsets, so that it works with O_DIRECT.
[[nodiscard]] bool same_bytes(
    int mount, int model, std::uint64_t offset, std::size_t length, std::string& difference);

/// Type, mode, owner, size, links, device number and link target of `path`, relative to both roots;
/// "" when they agree, also when it exists on neither side.
[[nodiscard]] std::string compare_objects(int mount_root, int model_root, const std::string& path);

/// Everything below both directories: names, attributes, contents, user xattrs. "" when they agree.
[[nodiscard]] std::string compare_trees(const std::string& mount,
                                        const std::string& model,
                                        bool xattrs);

}  // namespace safepair::exerciser
