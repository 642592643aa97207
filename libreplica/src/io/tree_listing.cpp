#include "io/tree_listing.hpp"

#include "io/block_digest.hpp"

#include <safepair/base/bytes.hpp>

#include <utility>

namespace safepair::replica {

base::Result<TreeNode> describe(Store& store, FileId file, std::vector<NameOf> names) {
    SAFEPAIR_TRY(const auto attributes, store.attributes(file));
    TreeNode node;
    node.type = attributes.type;
    node.mode = attributes.mode;
    node.uid = attributes.uid;
    node.gid = attributes.gid;
    node.modified = attributes.modified;
    node.names = std::move(names);
    if (node.type == NodeType::file) {
        node.size = attributes.size;
    }
    if (node.type == NodeType::character_device || node.type == NodeType::block_device) {
        node.rdev = attributes.rdev;
    }
    if (node.type == NodeType::symlink) {
        SAFEPAIR_TRY(const auto target, store.read_link(file));
        node.target = digest_of(std::as_bytes(std::span(target.data(), target.size())));
    }
    SAFEPAIR_TRY(node.xattr_names, store.xattr_names(file));
    if (!node.xattr_names.empty()) {
        base::ByteWriter all;
        for (const auto& name : node.xattr_names) {
            SAFEPAIR_TRY(const auto value, store.xattr(file, name));
            all.text(name);
            all.blob(value);
        }
        node.xattrs = digest_of(all.bytes());
    }
    return node;
}

base::Result<Tree> list_tree(Store& store) {
    Tree tree;
    SAFEPAIR_TRY(tree[root_file], describe(store, root_file, {}));
    base::Result<void> outcome;
    store.for_each([&](FileId file, NodeType, const std::vector<NameOf>& names) {
        if (!outcome) {
            return;
        }
        auto node = describe(store, file, names);
        if (node) {
            tree.emplace(file, std::move(*node));
        } else {
            outcome = node.error();
        }
    });
    if (!outcome) {
        return outcome.error();
    }
    return tree;
}

}  // namespace safepair::replica
