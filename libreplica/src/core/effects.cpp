#include "core/effects.hpp"

#include <algorithm>
#include <span>

namespace safepair::replica {

namespace {

// fallocate(2) modes, <linux/falloc.h>.
constexpr std::uint32_t mode_keep_size = 0x01;
constexpr std::uint32_t mode_punch = 0x02;
constexpr std::uint32_t mode_zero = 0x10;

/// Above it a file is compared whole: marking its blocks one by one would cost more than that.
constexpr std::uint64_t marked_bytes_max = std::uint64_t{1} << 40U;

void add(Effects& effects, Effects::Touch touch) {
    touch.whole = touch.whole || touch.dirty_length > marked_bytes_max;
    effects.touches[effects.count++] = touch;
}

/// Everything but data.
void add_object(Effects& effects, FileId file) {
    Effects::Touch touch;
    touch.file = file;
    add(effects, touch);
}

Effects of_allocate(const Operation& operation, const Before& before) {
    Effects effects;
    Effects::Touch touch;
    touch.file = operation.file;
    touch.begin = operation.offset;
    touch.end = operation.length > UINT64_MAX - operation.offset
                    ? UINT64_MAX
                    : operation.offset + operation.length;
    const auto mode = operation.flags;
    effects.metadata = (mode & mode_keep_size) == 0;
    if ((mode & ~mode_keep_size) == 0) {
        // Reserves: what can be read stays, or is zeros behind the old end, which the size says.
    } else if ((mode & ~mode_keep_size) == mode_punch || (mode & ~mode_keep_size) == mode_zero) {
        // Behind the end there is nothing to mark, and a range may be given that ends far behind
        // it.
        if (!before.size) {
            touch.whole = true;
        } else if (touch.begin < *before.size) {
            touch.dirty_begin = touch.begin;
            touch.dirty_length = std::min(touch.end, *before.size) - touch.begin;
        }
    } else {
        touch.begin = 0;
        touch.end = UINT64_MAX;
        touch.whole = true;
    }
    add(effects, touch);
    return effects;
}

Effects of_set_attributes(const Operation& operation, const Before& before) {
    Effects effects;
    effects.metadata = true;
    Effects::Touch touch;
    touch.file = operation.file;
    if ((operation.valid & attribute::size) != 0) {
        if (!before.size) {
            touch.whole = true;
        } else if (operation.attributes.size < *before.size) {
            // What is cut off here is still there on the other node, and would be back when the
            // file grows again.
            touch.dirty_begin = operation.attributes.size;
            touch.dirty_length = *before.size - operation.attributes.size;
        }
    }
    add(effects, touch);
    return effects;
}

}  // namespace

void Effects::mark(DirtyMap& map) const {
    if (local) {
        return;
    }
    if (names) {
        map.note_tree_change();
    }
    for (const auto& touch : all()) {
        if (touch.whole) {
            map.mark_whole(touch.file);
        } else {
            map.mark(touch.file, touch.dirty_begin, touch.dirty_length);
        }
    }
}

bool Effects::overlaps(const Footprint& read) const noexcept {
    const auto touched = all();
    return std::any_of(touched.begin(), touched.end(), [&read](const Touch& touch) {
        if (touch.file != read.file) {
            return false;
        }
        if (read.kind != Footprint::Kind::data) {
            return true;
        }
        const auto end =
            read.length > UINT64_MAX - read.offset ? UINT64_MAX : read.offset + read.length;
        return read.offset < touch.end && touch.begin < end;
    });
}

Effects effects_of(const Operation& operation, const Before& before) {
    Effects effects;
    switch (operation.kind) {
        case OperationKind::write: {
            Effects::Touch touch;
            touch.file = operation.file;
            touch.begin = operation.offset;
            touch.end = operation.offset + operation.data.size();
            touch.dirty_begin = operation.offset;
            touch.dirty_length = operation.data.size();
            add(effects, touch);
            return effects;
        }
        case OperationKind::allocate:
            return of_allocate(operation, before);
        case OperationKind::set_attributes:
            return of_set_attributes(operation, before);
        case OperationKind::set_xattr:
        case OperationKind::remove_xattr:
            effects.metadata = true;
            add_object(effects, operation.file);
            return effects;
        case OperationKind::create:
        case OperationKind::link:
            effects.names = true;
            effects.metadata = true;
            add_object(effects, operation.parent);
            add_object(effects, operation.file);
            return effects;
        case OperationKind::rename:
        case OperationKind::unlink:
        case OperationKind::rmdir:
            effects.names = true;
            effects.metadata = true;
            add_object(effects, operation.parent);
            if (operation.kind == OperationKind::rename) {
                add_object(effects, operation.new_parent);
            }
            if (before.target) {
                add_object(effects, *before.target);
            }
            if (before.replaced) {
                add_object(effects, *before.replaced);
            }
            return effects;
        case OperationKind::flush:
            return effects;
    }
    return effects;
}

}  // namespace safepair::replica
