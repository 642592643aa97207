#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <vector>

#include <safepair/base/result.hpp>
#include <safepair/replica/limits.hpp>
#include <safepair/replica/operation.hpp>

/// Which 64 KiB blocks of which files may differ on the other node. A bitmap in chunks, because a random writer marks blocks
/// all over a large file, where ranges would grow without bound. Format: docs/formats/dirty-map.md.
namespace safepair::replica {

/// `count` blocks from block number `first`.
struct BlockRange {
    std::uint64_t first = 0;
    std::uint64_t count = 0;
    friend bool operator==(const BlockRange&, const BlockRange&) = default;
};

/// The dirty blocks of one file.
class FileBlocks {
  public:
    /// Blocks in one chunk: 256 MiB of file in 512 bytes.
    static constexpr std::uint64_t chunk_blocks = 4096;
    using Chunk = std::array<std::uint64_t, chunk_blocks / 64>;

    void insert(BlockRange range);
    void merge(const FileBlocks& other);
    void merge_chunk(std::uint64_t index, const Chunk& chunk);
    /// Nothing is known about the content: compare all of it.
    void set_whole() noexcept { whole_ = true; }

    [[nodiscard]] bool whole() const noexcept { return whole_; }
    [[nodiscard]] bool contains(std::uint64_t block) const;
    [[nodiscard]] std::uint64_t count() const noexcept { return count_; }
    /// Maximal ranges, ascending.
    [[nodiscard]] std::vector<BlockRange> ranges() const;
    [[nodiscard]] const std::map<std::uint64_t, Chunk>& chunks() const noexcept { return chunks_; }

  private:
    std::map<std::uint64_t, Chunk> chunks_;
    std::uint64_t count_ = 0;
    bool whole_ = false;
};

/// A set of (file, block). A value; not thread-safe.
class DirtyMap {
  public:
    /// Marks every block that [offset, offset + length) touches.
    void mark(FileId file, std::uint64_t offset, std::uint64_t length);
    void mark_whole(FileId file);
    /// Something but the data changed: no block, but the file counts as changed.
    void touch(FileId file);
    /// Names changed; which ones is found by comparing the trees.
    void note_tree_change() noexcept { tree_changed_ = true; }
    void merge(const DirtyMap& other);
    void clear();

    /// No file and no name changed.
    [[nodiscard]] bool empty() const noexcept { return files_.empty() && !tree_changed_; }
    [[nodiscard]] bool tree_changed() const noexcept { return tree_changed_; }
    /// Null when the file is not in the map.
    [[nodiscard]] const FileBlocks* find(FileId file) const;
    [[nodiscard]] const std::map<FileId, FileBlocks>& files() const noexcept { return files_; }
    /// Bytes of the marked blocks; files marked whole count nothing here.
    [[nodiscard]] std::uint64_t bytes() const noexcept;

    /// Pieces of at most `bytes_max` (at least 1024) each; merging what decode() makes of each gives the map again.
    [[nodiscard]] std::vector<std::vector<std::byte>> encode(std::size_t bytes_max) const;
    /// Errors: Errc::corrupt.
    [[nodiscard]] static base::Result<DirtyMap> decode(std::span<const std::byte> bytes);

  private:
    std::map<FileId, FileBlocks> files_;
    bool tree_changed_ = false;
};

/// What is written but not flushed on both nodes, in two generations: those before the flush that is under way, and those
/// after it (R9).
class UnflushedMap {
  public:
    [[nodiscard]] DirtyMap& current() noexcept { return current_; }
    /// A flush of everything marked so far begins.
    void begin_flush() { before_.merge(current_); current_.clear(); }
    /// It ended: what it covered is forgotten, or kept when it failed.
    void end_flush(bool flushed) {
        if (!flushed) {
            current_.merge(before_);
        }
        before_.clear();
    }
    [[nodiscard]] bool empty() const noexcept { return current_.empty() && before_.empty(); }
    /// Everything, and forgets it.
    [[nodiscard]] DirtyMap take() {
        DirtyMap all = std::move(current_);
        all.merge(before_);
        current_.clear();
        before_.clear();
        return all;
    }

  private:
    DirtyMap current_;
    DirtyMap before_;
};

}  // namespace safepair::replica
