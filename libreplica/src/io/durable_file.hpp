#pragma once

#include <safepair/base/ids.hpp>
#include <safepair/base/result.hpp>

#include <cstddef>
#include <filesystem>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

/// Small files of a node that are replaced whole: after a crash there is the old one or the new
/// one, never a part. Envelope: docs/formats/dirty-map.md, section 2.
namespace safepair::replica {

/// Writes `NAME.new` beside it, flushes, renames, flushes the directory. Errors: errno; the old
/// file is then still there.
[[nodiscard]] base::Result<void> replace_file(const std::filesystem::path& file,
                                              std::span<const std::byte> bytes);
/// nullopt when there is none.
[[nodiscard]] base::Result<std::optional<std::vector<std::byte>>> read_whole_file(
    const std::filesystem::path& file);
/// Durable on return; nothing to do when there is none.
[[nodiscard]] base::Result<void> remove_file(const std::filesystem::path& file);

/// `magic` (8 bytes), version 1, `folder`, `body`, and a checksum over them.
[[nodiscard]] std::vector<std::byte> seal(std::string_view magic,
                                          base::GenerationId folder,
                                          std::span<const std::byte> body);
/// The body. Errors: Errc::corrupt: torn, of another kind, of another version, of another folder.
[[nodiscard]] base::Result<std::vector<std::byte>> unseal(std::string_view magic,
                                                          base::GenerationId folder,
                                                          std::span<const std::byte> bytes);

}  // namespace safepair::replica
