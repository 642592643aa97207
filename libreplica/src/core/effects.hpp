#pragma once

#include <safepair/replica/dirty_map.hpp>
#include <safepair/replica/door.hpp>
#include <safepair/replica/operation.hpp>

#include <array>
#include <cstdint>
#include <optional>

/// What an operation changes: for readers that have to wait for it (R25), and for the maps (R9,
/// R10).
namespace safepair::replica {

/// What has to be known of the copy, before the operation, to say what the operation changes.
struct Before {
    /// Of the file of set_attributes (size) and allocate.
    std::optional<std::uint64_t> size;
    /// What `name` in `parent` is (unlink, rmdir, rename).
    std::optional<FileId> target;
    /// What `new_name` in `new_parent` is (rename).
    std::optional<FileId> replaced;
};

struct Effects {
    struct Touch {
        FileId file;
        /// Bytes that readers may see changing.
        std::uint64_t begin = 0;
        std::uint64_t end = UINT64_MAX;
        /// Bytes to mark as changed.
        std::uint64_t dirty_begin = 0;
        std::uint64_t dirty_length = 0;
        bool whole = false;
    };

    std::array<Touch, 4> touches{};
    std::uint8_t count = 0;
    bool names = false;
    /// Not only data: `every_write` may not skip the next flush of these files (R15).
    bool metadata = false;
    /// Nothing of it is replicated or marked.
    bool local = false;

    /// The used ones.
    [[nodiscard]] std::span<const Touch> all() const noexcept { return {touches.data(), count}; }

    void mark(DirtyMap& map) const;
    /// R25: `read` may have seen what this changes.
    [[nodiscard]] bool overlaps(const Footprint& read) const noexcept;
};

[[nodiscard]] Effects effects_of(const Operation& operation, const Before& before);

}  // namespace safepair::replica
