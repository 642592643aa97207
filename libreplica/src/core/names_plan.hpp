#pragma once

#include "core/tree.hpp"

#include <safepair/base/result.hpp>
#include <safepair/replica/operation.hpp>

#include <cstdint>
#include <functional>
#include <set>
#include <string>
#include <vector>

/// Turns one tree into another, step by step (R11). Everything that is in the wrong place is first
/// moved aside, so that swaps, cycles and moves into new directories need no special case; then the
/// wanted tree is built from the top down, from what stands still, what was moved aside and what is
/// new; what is still aside at the end is wanted by nobody. The alternative, renaming in an order
/// that never collides, needs cycles to be found and broken.
namespace safepair::replica {

struct NamesStep {
    enum class Kind : std::uint8_t {
        operation,   ///< as it is; a created symbolic link has no target yet
        stage,       ///< operation.parent, operation.name
        unstage,     ///< operation.file to operation.parent, operation.name
        set_xattrs,  ///< all that the leader has on operation.file
        clear_stage,
    };
    Kind kind = Kind::operation;
    Operation operation;
};

struct NamesOutcome {
    /// New to the follower: of a file, nothing but holes are there.
    std::set<FileId> created;
    /// Objects whose mtime the steps change on the follower, or whose mtime differed.
    std::set<FileId> retimed;
};

/// Same id, but not the same object: one has to go before the other can come.
[[nodiscard]] bool is_same_object(const TreeNode& mine, const TreeNode& theirs);

/// Emits the steps that make the follower's tree `theirs` equal to `mine` in all but data and
/// mtime; stops at the first error of `emit` and returns it. `mine` is a sound tree; `theirs` may
/// be anything.
[[nodiscard]] base::Result<NamesOutcome> plan_names(
    const Tree& mine,
    const Tree& theirs,
    const std::function<base::Result<void>(const NamesStep&)>& emit);

}  // namespace safepair::replica
