#include <safepair/replica/dirty_map.hpp>

#include <algorithm>
#include <bit>

#include <safepair/base/bytes.hpp>

namespace safepair::replica {

namespace {

constexpr std::size_t word_bits = 64;
constexpr std::size_t chunk_words = FileBlocks::chunk_blocks / word_bits;
/// Index and bits.
constexpr std::size_t chunk_bytes = 8 + chunk_words * 8;
/// Identity, flag, number of chunks.
constexpr std::size_t file_bytes = 16 + 1 + 4;

constexpr std::uint8_t flag_whole = 1;
constexpr std::uint8_t flag_tree_changed = 1;

/// `count` bits from bit `first` of a word.
std::uint64_t bits(std::uint64_t first, std::uint64_t count) {
    const auto ones = count >= word_bits ? ~std::uint64_t{0} : (std::uint64_t{1} << count) - 1;
    return ones << first;
}

/// One piece of the encoding: files are appended until it is full.
class Piece {
  public:
    explicit Piece(bool tree_changed) {
        writer_.u8(tree_changed ? flag_tree_changed : std::uint8_t{0});
    }

    [[nodiscard]] std::size_t size() const { return writer_.bytes().size(); }

    void begin_file(FileId file, bool whole, std::uint32_t chunk_count) {
        writer_.id(file.bytes);
        writer_.u8(whole ? flag_whole : std::uint8_t{0});
        writer_.u32(chunk_count);
    }

    void chunk(std::uint64_t index, const FileBlocks::Chunk& words) {
        writer_.u64(index);
        for (const auto word : words) {
            writer_.u64(word);
        }
    }

    [[nodiscard]] std::vector<std::byte> take() { return writer_.take(); }

  private:
    base::ByteWriter writer_;
};

}  // namespace

void FileBlocks::insert(BlockRange range) {
    auto block = range.first;
    const auto end = range.first + range.count;
    while (block < end) {
        auto& chunk = chunks_[block / chunk_blocks];
        const auto within = block % chunk_blocks;
        const auto bit = within % word_bits;
        const auto count = std::min<std::uint64_t>(end - block, word_bits - bit);
        auto& word = chunk[within / word_bits];
        const auto wanted = bits(bit, count);
        count_ += static_cast<std::uint64_t>(std::popcount(wanted & ~word));
        word |= wanted;
        block += count;
    }
}

void FileBlocks::merge_chunk(std::uint64_t index, const Chunk& chunk) {
    auto& mine = chunks_[index];
    for (std::size_t i = 0; i < chunk_words; ++i) {
        count_ += static_cast<std::uint64_t>(std::popcount(chunk[i] & ~mine[i]));
        mine[i] |= chunk[i];
    }
}

void FileBlocks::merge(const FileBlocks& other) {
    for (const auto& [index, chunk] : other.chunks_) {
        merge_chunk(index, chunk);
    }
    whole_ = whole_ || other.whole_;
}

bool FileBlocks::contains(std::uint64_t block) const {
    const auto found = chunks_.find(block / chunk_blocks);
    if (found == chunks_.end()) {
        return false;
    }
    const auto within = block % chunk_blocks;
    return (found->second[within / word_bits] & bits(within % word_bits, 1)) != 0;
}

std::vector<BlockRange> FileBlocks::ranges() const {
    std::vector<BlockRange> found;
    for (const auto& [index, chunk] : chunks_) {
        for (std::size_t i = 0; i < chunk_words; ++i) {
            auto word = chunk[i];
            while (word != 0) {
                const auto bit = static_cast<std::uint64_t>(std::countr_zero(word));
                const auto count = static_cast<std::uint64_t>(std::countr_one(word >> bit));
                const auto first = index * chunk_blocks + i * word_bits + bit;
                if (!found.empty() && found.back().first + found.back().count == first) {
                    found.back().count += count;
                } else {
                    found.push_back({first, count});
                }
                word &= ~bits(bit, count);
            }
        }
    }
    return found;
}

void DirtyMap::mark(FileId file, std::uint64_t offset, std::uint64_t length) {
    auto& blocks = files_[file];
    if (length == 0) {
        return;
    }
    const auto first = offset / limits::dirty_block_bytes;
    const auto last = (offset + length - 1) / limits::dirty_block_bytes;
    blocks.insert({first, last - first + 1});
}

void DirtyMap::mark_whole(FileId file) {
    files_[file].set_whole();
}

void DirtyMap::touch(FileId file) {
    files_[file];
}

void DirtyMap::merge(const DirtyMap& other) {
    for (const auto& [file, blocks] : other.files_) {
        files_[file].merge(blocks);
    }
    tree_changed_ = tree_changed_ || other.tree_changed_;
}

void DirtyMap::clear() {
    files_.clear();
    tree_changed_ = false;
}

const FileBlocks* DirtyMap::find(FileId file) const {
    const auto found = files_.find(file);
    return found == files_.end() ? nullptr : &found->second;
}

std::uint64_t DirtyMap::bytes() const noexcept {
    std::uint64_t blocks = 0;
    for (const auto& [file, marked] : files_) {
        blocks += marked.count();
    }
    return blocks * limits::dirty_block_bytes;
}

std::vector<std::vector<std::byte>> DirtyMap::encode(std::size_t bytes_max) const {
    std::vector<std::vector<std::byte>> pieces;
    Piece piece(tree_changed_);
    const auto next_piece = [&] {
        pieces.push_back(piece.take());
        piece = Piece(tree_changed_);
    };
    for (const auto& [file, blocks] : files_) {
        auto chunk = blocks.chunks().begin();
        auto left = blocks.chunks().size();
        do {
            if (piece.size() + file_bytes + (left > 0 ? chunk_bytes : 0) > bytes_max) {
                next_piece();
            }
            const auto room = (bytes_max - piece.size() - file_bytes) / chunk_bytes;
            const auto count = std::min(left, room);
            piece.begin_file(file, blocks.whole(), static_cast<std::uint32_t>(count));
            for (std::size_t i = 0; i < count; ++i, ++chunk) {
                piece.chunk(chunk->first, chunk->second);
            }
            left -= count;
        } while (left > 0);
    }
    pieces.push_back(piece.take());
    return pieces;
}

base::Result<DirtyMap> DirtyMap::decode(std::span<const std::byte> bytes) {
    base::ByteReader reader(bytes);
    DirtyMap map;
    map.tree_changed_ = (reader.u8() & flag_tree_changed) != 0;
    while (reader.ok() && reader.remaining() > 0) {
        const FileId file{reader.id()};
        const auto flags = reader.u8();
        const auto chunk_count = reader.u32();
        if (!reader.ok() || flags > flag_whole || chunk_count > reader.remaining() / chunk_bytes) {
            return base::error(base::Errc::corrupt, "dirty map: file");
        }
        auto& blocks = map.files_[file];
        if ((flags & flag_whole) != 0) {
            blocks.set_whole();
        }
        for (std::uint32_t i = 0; i < chunk_count; ++i) {
            const auto index = reader.u64();
            FileBlocks::Chunk chunk{};
            for (auto& word : chunk) {
                word = reader.u64();
            }
            // The last byte of the last block must be addressable by an off_t.
            if (index >= (std::uint64_t{1} << 63U) / limits::dirty_block_bytes /
                             FileBlocks::chunk_blocks) {
                return base::error(base::Errc::corrupt, "dirty map: chunk index");
            }
            blocks.merge_chunk(index, chunk);
        }
    }
    if (!reader.finished()) {
        return base::error(base::Errc::corrupt, "dirty map");
    }
    return map;
}

}  // namespace safepair::replica
