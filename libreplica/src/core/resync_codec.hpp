#pragma once

#include "core/tree.hpp"

#include <safepair/base/result.hpp>
#include <safepair/replica/operation.hpp>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

/// Questions that a resync asks the follower, and their answers. Format: docs/formats/resync.md.
namespace safepair::replica {

/// `count` blocks of limits::dirty_block_bytes from block `first` of one file.
struct DigestRange {
    FileId file;
    std::uint64_t first = 0;
    std::uint32_t count = 0;
    friend bool operator==(const DigestRange&, const DigestRange&) = default;
};

/// Bounds of one question: a larger one is refused as corrupt, because answering it would keep the
/// follower from applying the application's writes for too long.
inline constexpr std::size_t digest_ranges_max = 1024;
inline constexpr std::uint32_t digest_blocks_max = 4096;
/// Largest answer and largest piece of a map in it; leaves room for what the session puts around
/// it.
inline constexpr std::size_t answer_bytes_max = 512 * 1024;

struct Question {
    enum class Kind : std::uint8_t {
        map = 1,      ///< piece `index` of the follower's dirty map; 0 takes a fresh snapshot
        tree = 2,     ///< page `index` of its tree; 0 starts over
        digests = 3,  ///< of `ranges`
    };
    Kind kind = Kind::map;
    std::uint32_t index = 0;
    std::vector<DigestRange> ranges;
};

[[nodiscard]] std::vector<std::byte> encode_question(const Question& question);
/// Errors: Errc::corrupt, also when a bound is exceeded.
[[nodiscard]] base::Result<Question> decode_question(std::span<const std::byte> bytes);

struct MapAnswer {
    std::uint32_t pieces = 0;
    std::span<const std::byte> piece;
};

[[nodiscard]] std::vector<std::byte> encode_map_answer(const MapAnswer& answer);
/// `piece` borrows from `bytes`. Errors: Errc::corrupt.
[[nodiscard]] base::Result<MapAnswer> decode_map_answer(std::span<const std::byte> bytes);

/// One answer to Kind::tree, filled until it is full.
class TreePage {
  public:
    explicit TreePage(std::size_t bytes_max);

    /// Adds the object with as many of its names as fit, from `name_from` on. The index of the
    /// first name that did not fit (the object is then added again, from there, to the next page),
    /// or nullopt when nothing fit. An object that exceeds a page of its own is added all the same.
    [[nodiscard]] std::optional<std::size_t> add(FileId file,
                                                 const TreeNode& node,
                                                 std::size_t name_from);
    [[nodiscard]] std::vector<std::byte> finish(bool last);

  private:
    std::size_t bytes_max_;
    std::vector<std::byte> entries_;
};

/// Adds a page's objects to `tree`. Whether it was the last one. Errors: Errc::corrupt.
[[nodiscard]] base::Result<bool> decode_tree_page(std::span<const std::byte> bytes, Tree& tree);

/// Digests of one range; fewer than asked when the file ends before. nullopt: no such file.
using RangeDigests = std::optional<std::vector<Digest>>;

[[nodiscard]] std::vector<std::byte> encode_digest_answer(const std::vector<RangeDigests>& answer);
/// One element per asked range. Errors: Errc::corrupt, also when it does not fit the question.
[[nodiscard]] base::Result<std::vector<RangeDigests>> decode_digest_answer(
    std::span<const std::byte> bytes, const std::vector<DigestRange>& asked);

}  // namespace safepair::replica
