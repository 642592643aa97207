#include "io/block_digest.hpp"

#include <safepair/replica/limits.hpp>

#include <xxhash.h>

#include <algorithm>
#include <cstring>

namespace safepair::replica {

namespace {

constexpr auto block_bytes = limits::dirty_block_bytes;

bool is_gone(const base::Error& error) {
    return error.code == std::errc::no_such_file_or_directory;
}

}  // namespace

Digest digest_of(std::span<const std::byte> bytes) {
    XXH128_canonical_t canonical;
    XXH128_canonicalFromHash(&canonical, XXH3_128bits(bytes.data(), bytes.size()));
    Digest digest;
    static_assert(sizeof canonical.digest == sizeof digest);
    std::memcpy(digest.data(), canonical.digest, digest.size());
    return digest;
}

BlockDigester::BlockDigester(Store& store)
    : store_(store), buffer_(block_bytes), zeros_(block_bytes), zero_block_(digest_of(zeros_)) {}

Digest BlockDigester::digest_of_zeros(std::size_t length) const {
    return length == block_bytes ? zero_block_ : digest_of(std::span(zeros_).first(length));
}

base::Result<Digest> BlockDigester::digest_block(FileId file,
                                                 std::uint64_t offset,
                                                 std::size_t length) {
    const auto into = std::span(buffer_).first(length);
    SAFEPAIR_TRY(const auto got, store_.read(file, offset, into));
    return digest_of(into.first(got));
}

base::Result<RangeDigests> BlockDigester::digests(const DigestRange& range) {
    const auto begin = range.first * block_bytes;
    const auto attributes = store_.attributes(range.file);
    if (!attributes) {
        return is_gone(attributes.error()) ? base::Result<RangeDigests>(RangeDigests())
                                           : attributes.error();
    }
    if (attributes->type != NodeType::file) {
        return RangeDigests();
    }
    const auto end = std::min(attributes->size, begin + range.count * block_bytes);
    std::vector<Digest> found;
    if (begin >= end) {
        return RangeDigests(std::move(found));
    }
    const auto extents = store_.data_extents(range.file, begin, end - begin);
    if (!extents) {
        return is_gone(extents.error()) ? base::Result<RangeDigests>(RangeDigests())
                                        : extents.error();
    }
    auto extent = extents->begin();
    for (auto at = begin; at < end; at += block_bytes) {
        const auto length = static_cast<std::size_t>(std::min(block_bytes, end - at));
        while (extent != extents->end() && extent->offset + extent->length <= at) {
            ++extent;
        }
        if (extent == extents->end() || extent->offset >= at + length) {
            found.push_back(digest_of_zeros(length));
            continue;
        }
        const auto digest = digest_block(range.file, at, length);
        if (!digest) {
            return is_gone(digest.error()) ? base::Result<RangeDigests>(RangeDigests())
                                           : digest.error();
        }
        found.push_back(*digest);
    }
    return RangeDigests(std::move(found));
}

}  // namespace safepair::replica
