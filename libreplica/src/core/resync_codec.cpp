#include "core/resync_codec.hpp"

#include <safepair/base/bytes.hpp>
#include <safepair/replica/limits.hpp>

#include <algorithm>
#include <utility>

namespace safepair::replica {

namespace {

constexpr std::uint8_t format_version = 1;
constexpr std::size_t id_bytes = 16;
constexpr std::size_t text_overhead = 4;
/// Identity, type, mode, owner, group, size, modified, rdev, two digests and two counts.
constexpr std::size_t node_bytes = id_bytes + 1 + 4 + 4 + 4 + 8 + 8 + 8 + 16 + 16 + 4 + 4;
/// Block numbers whose bytes an off_t can address.
constexpr std::uint64_t block_end_max = (std::uint64_t{1} << 63U) / limits::dirty_block_bytes;

std::size_t encoded_bytes(const NameOf& name) {
    return id_bytes + text_overhead + name.name.size();
}

base::Error corrupt(const char* what) {
    return base::error(base::Errc::corrupt, std::string("resync ") + what);
}

TreeNode read_node(base::ByteReader& reader, bool& good) {
    TreeNode node;
    const auto type = reader.u8();
    good = good && type <= static_cast<std::uint8_t>(NodeType::block_device);
    node.type = good ? static_cast<NodeType>(type) : NodeType::file;
    node.mode = reader.u32();
    node.uid = reader.u32();
    node.gid = reader.u32();
    node.size = reader.u64();
    node.modified = reader.i64();
    node.rdev = reader.u64();
    node.xattrs = reader.id();
    node.target = reader.id();
    const auto attribute_count = reader.u32();
    for (std::uint32_t i = 0; reader.ok() && i < attribute_count; ++i) {
        node.xattr_names.push_back(reader.text(limits::name_bytes_max));
    }
    const auto name_count = reader.u32();
    for (std::uint32_t i = 0; reader.ok() && i < name_count; ++i) {
        const FileId parent{reader.id()};
        auto name = reader.text(limits::name_bytes_max);
        good = good && !name.empty();
        node.names.push_back({parent, std::move(name)});
    }
    return node;
}

}  // namespace

std::vector<std::byte> encode_question(const Question& question) {
    base::ByteWriter writer;
    writer.u8(format_version);
    writer.u8(static_cast<std::uint8_t>(question.kind));
    if (question.kind != Question::Kind::digests) {
        writer.u32(question.index);
        return writer.take();
    }
    writer.u32(static_cast<std::uint32_t>(question.ranges.size()));
    for (const auto& range : question.ranges) {
        writer.id(range.file.bytes);
        writer.u64(range.first);
        writer.u32(range.count);
    }
    return writer.take();
}

base::Result<Question> decode_question(std::span<const std::byte> bytes) {
    base::ByteReader reader(bytes);
    Question question;
    if (reader.u8() != format_version) {
        return corrupt("question: version");
    }
    const auto kind = reader.u8();
    if (kind < static_cast<std::uint8_t>(Question::Kind::map) ||
        kind > static_cast<std::uint8_t>(Question::Kind::digests)) {
        return corrupt("question: kind");
    }
    question.kind = static_cast<Question::Kind>(kind);
    if (question.kind != Question::Kind::digests) {
        question.index = reader.u32();
    } else {
        const auto count = reader.u32();
        if (count > digest_ranges_max) {
            return corrupt("question: too many ranges");
        }
        std::uint64_t blocks = 0;
        for (std::uint32_t i = 0; reader.ok() && i < count; ++i) {
            DigestRange range;
            range.file.bytes = reader.id();
            range.first = reader.u64();
            range.count = reader.u32();
            blocks += range.count;
            if (range.first >= block_end_max || range.count > block_end_max - range.first) {
                return corrupt("question: block number");
            }
            question.ranges.push_back(range);
        }
        if (blocks > digest_blocks_max) {
            return corrupt("question: too many blocks");
        }
    }
    if (!reader.finished()) {
        return corrupt("question");
    }
    return question;
}

std::vector<std::byte> encode_map_answer(const MapAnswer& answer) {
    base::ByteWriter writer;
    writer.u32(answer.pieces);
    writer.raw(answer.piece);
    return writer.take();
}

base::Result<MapAnswer> decode_map_answer(std::span<const std::byte> bytes) {
    base::ByteReader reader(bytes);
    MapAnswer answer;
    answer.pieces = reader.u32();
    answer.piece = reader.raw(reader.remaining());
    if (!reader.finished() || answer.pieces == 0) {
        return corrupt("answer: map");
    }
    return answer;
}

TreePage::TreePage(std::size_t bytes_max) : bytes_max_(bytes_max - 1) {}

std::optional<std::size_t> TreePage::add(FileId file, const TreeNode& node, std::size_t name_from) {
    auto bytes = node_bytes;
    for (const auto& name : node.xattr_names) {
        bytes += text_overhead + name.size();
    }
    auto name_end = name_from;
    while (name_end < node.names.size()) {
        const auto more = encoded_bytes(node.names[name_end]);
        const bool full = entries_.size() + bytes + more > bytes_max_;
        if (full && !(entries_.empty() && name_end == name_from)) {
            break;
        }
        bytes += more;
        ++name_end;
    }
    const bool nothing_fits = name_end == name_from && name_from < node.names.size();
    if (!entries_.empty() && (nothing_fits || entries_.size() + bytes > bytes_max_)) {
        return std::nullopt;
    }
    base::ByteWriter writer;
    writer.id(file.bytes);
    writer.u8(static_cast<std::uint8_t>(node.type));
    writer.u32(node.mode);
    writer.u32(node.uid);
    writer.u32(node.gid);
    writer.u64(node.size);
    writer.i64(node.modified);
    writer.u64(node.rdev);
    writer.id(node.xattrs);
    writer.id(node.target);
    writer.u32(static_cast<std::uint32_t>(node.xattr_names.size()));
    for (const auto& name : node.xattr_names) {
        writer.text(name);
    }
    writer.u32(static_cast<std::uint32_t>(name_end - name_from));
    for (auto i = name_from; i < name_end; ++i) {
        writer.id(node.names[i].parent.bytes);
        writer.text(node.names[i].name);
    }
    entries_.insert(entries_.end(), writer.bytes().begin(), writer.bytes().end());
    return name_end;
}

std::vector<std::byte> TreePage::finish(bool last) {
    std::vector<std::byte> page;
    page.reserve(entries_.size() + 1);
    page.push_back(last ? std::byte{1} : std::byte{0});
    page.insert(page.end(), entries_.begin(), entries_.end());
    return page;
}

base::Result<bool> decode_tree_page(std::span<const std::byte> bytes, Tree& tree) {
    base::ByteReader reader(bytes);
    const bool last = reader.boolean();
    bool good = true;
    while (reader.ok() && reader.remaining() > 0) {
        const FileId file{reader.id()};
        auto node = read_node(reader, good);
        if (!reader.ok() || !good) {
            return corrupt("answer: tree");
        }
        // Again means: more names of the same object.
        const auto [place, fresh] = tree.try_emplace(file, std::move(node));
        if (!fresh) {
            auto& names = place->second.names;
            std::move(node.names.begin(), node.names.end(), std::back_inserter(names));
        }
    }
    if (!reader.finished()) {
        return corrupt("answer: tree");
    }
    return last;
}

std::vector<std::byte> encode_digest_answer(const std::vector<RangeDigests>& answer) {
    base::ByteWriter writer;
    for (const auto& range : answer) {
        writer.boolean(range.has_value());
        writer.u32(range ? static_cast<std::uint32_t>(range->size()) : 0);
        if (range) {
            for (const auto& digest : *range) {
                writer.id(digest);
            }
        }
    }
    return writer.take();
}

base::Result<std::vector<RangeDigests>> decode_digest_answer(
    std::span<const std::byte> bytes, const std::vector<DigestRange>& asked) {
    base::ByteReader reader(bytes);
    std::vector<RangeDigests> answer;
    answer.reserve(asked.size());
    for (const auto& range : asked) {
        const bool present = reader.boolean();
        const auto count = reader.u32();
        if (!reader.ok() || count > range.count || (!present && count != 0)) {
            return corrupt("answer: digests");
        }
        if (!present) {
            answer.emplace_back(std::nullopt);
            continue;
        }
        std::vector<Digest> digests(count);
        for (auto& digest : digests) {
            digest = reader.id();
        }
        answer.emplace_back(std::move(digests));
    }
    if (!reader.finished()) {
        return corrupt("answer: digests");
    }
    return answer;
}

}  // namespace safepair::replica
