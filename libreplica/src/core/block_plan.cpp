#include "core/block_plan.hpp"

#include <safepair/replica/limits.hpp>

#include <algorithm>
#include <tuple>

namespace safepair::replica {

namespace {

constexpr auto block_bytes = limits::dirty_block_bytes;

/// Cut at the end of the file; nothing when it is behind it.
void append(std::vector<ByteRange>& ranges,
            std::uint64_t begin,
            std::uint64_t end,
            std::uint64_t size) {
    end = std::min(end, size);
    if (begin >= end) {
        return;
    }
    if (!ranges.empty() && ranges.back().end == begin) {
        ranges.back().end = end;
    } else {
        ranges.push_back({begin, end});
    }
}

/// What the map says, and what the follower's file did not have.
std::vector<ByteRange> marked_ranges(const FileBlocks* marked,
                                     std::uint64_t size,
                                     std::uint64_t their_size) {
    FileBlocks blocks = marked != nullptr ? *marked : FileBlocks();
    const auto tail = std::min(size, their_size) / block_bytes;
    const auto end = (size + block_bytes - 1) / block_bytes;
    if (their_size < size && tail < end) {
        blocks.insert({tail, end - tail});
    }
    std::vector<ByteRange> ranges;
    for (const auto& range : blocks.ranges()) {
        append(ranges, range.first * block_bytes, (range.first + range.count) * block_bytes, size);
    }
    return ranges;
}

FileWork plan_file(SyncMode mode,
                   FileId file,
                   const TreeNode& node,
                   const TreeNode* theirs,
                   const DirtyMap& dirty) {
    FileWork work;
    work.file = file;
    work.fresh = theirs == nullptr;
    const auto* marked = dirty.find(file);
    const bool by_map = mode == SyncMode::dirty_blocks && !(marked != nullptr && marked->whole());
    if (!work.fresh && by_map) {
        work.ranges = marked_ranges(marked, node.size, theirs->size);
        return work;
    }
    work.compare = !work.fresh && mode != SyncMode::full;
    append(work.ranges, 0, node.size, node.size);
    return work;
}

}  // namespace

std::vector<FileWork> plan_blocks(SyncMode mode,
                                  const Tree& mine,
                                  const Tree& theirs,
                                  const std::set<FileId>& created,
                                  const DirtyMap& dirty) {
    std::vector<Tree::const_iterator> files;
    for (auto at = mine.begin(); at != mine.end(); ++at) {
        if (at->second.type == NodeType::file && !at->second.names.empty()) {
            files.push_back(at);
        }
    }
    std::sort(files.begin(), files.end(), [](const auto& left, const auto& right) {
        const auto& a = left->second.names.front();
        const auto& b = right->second.names.front();
        return std::tie(a.parent, a.name) < std::tie(b.parent, b.name);
    });
    std::vector<FileWork> plan;
    for (const auto& at : files) {
        const auto found = created.count(at->first) != 0 ? theirs.end() : theirs.find(at->first);
        const auto* counterpart = found == theirs.end() ? nullptr : &found->second;
        auto work = plan_file(mode, at->first, at->second, counterpart, dirty);
        if (!work.ranges.empty()) {
            plan.push_back(std::move(work));
        }
    }
    return plan;
}

std::uint64_t total_bytes(const std::vector<ByteRange>& ranges) {
    std::uint64_t bytes = 0;
    for (const auto& range : ranges) {
        bytes += range.end - range.begin;
    }
    return bytes;
}

std::vector<ByteRange> differing_ranges(const DigestRange& asked,
                                        const std::vector<Digest>& mine,
                                        const std::vector<Digest>& theirs,
                                        std::uint64_t size) {
    std::vector<ByteRange> ranges;
    for (std::size_t i = 0; i < asked.count; ++i) {
        const bool both = i < mine.size() && i < theirs.size();
        const bool neither = i >= mine.size() && i >= theirs.size();
        if (neither || (both && mine[i] == theirs[i])) {
            continue;
        }
        const auto begin = (asked.first + i) * block_bytes;
        append(ranges, begin, begin + block_bytes, size);
    }
    return ranges;
}

}  // namespace safepair::replica
