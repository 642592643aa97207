#pragma once

#include "core/tree.hpp"

#include <safepair/base/result.hpp>
#include <safepair/replica/store.hpp>

#include <vector>

/// A Store's objects as the values that a names resync compares.
namespace safepair::replica {

/// Errors: those of the Store.
[[nodiscard]] base::Result<TreeNode> describe(Store& store, FileId file, std::vector<NameOf> names);
/// Everything, the root included. The caller keeps changes out.
[[nodiscard]] base::Result<Tree> list_tree(Store& store);

}  // namespace safepair::replica
