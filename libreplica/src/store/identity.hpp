#pragma once

#include <safepair/base/result.hpp>
#include <safepair/replica/operation.hpp>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

/// How a FileId stays with its object (R11): the xattr `trusted.safepair.id`, 36 bytes little-endian: id 16, inode u64,
/// seconds i64 and nanoseconds u32 of the birth time. A copy carries the xattr along but not inode and birth, and is thereby recognised.
namespace safepair::replica {

inline constexpr const char* identity_attribute = "trusted.safepair.id";
/// Everything of ours; never shown, never replicated.
inline constexpr std::string_view own_attribute_prefix = "trusted.safepair.";

/// What statx(2) tells about an object.
struct ObjectFacts {
    NodeType type = NodeType::file;
    std::uint64_t inode = 0;
    std::uint64_t device = 0;
    std::int64_t birth_seconds = 0;
    std::uint32_t birth_nanoseconds = 0;
};

/// `name` in `directory`, or `directory` itself when the name is empty; links are not followed.
[[nodiscard]] base::Result<ObjectFacts> object_facts(int directory, const std::string& name);

/// The id recorded at `path` (not followed), nullopt when there is none or it was recorded for another object.
[[nodiscard]] base::Result<std::optional<FileId>> read_identity(const std::string& path,
                                                                const ObjectFacts& facts);
[[nodiscard]] base::Result<void> write_identity(const std::string& path,
                                                FileId file,
                                                const ObjectFacts& facts);

[[nodiscard]] NodeType node_type(std::uint32_t mode);
/// S_IFREG and the like.
[[nodiscard]] std::uint32_t type_bits(NodeType type);

}  // namespace safepair::replica
