#include "core/names_plan.hpp"

#include <algorithm>
#include <map>
#include <optional>
#include <utility>

namespace safepair::replica {

namespace {

/// Taken away by the kernel when the owner changes or the file is written or cut (capabilities(7)).
constexpr const char* capability_attribute = "security.capability";

bool has_name(const TreeNode& node, const NameOf& name) {
    return std::find(node.names.begin(), node.names.end(), name) != node.names.end();
}

class NamesPlanner {
  public:
    NamesPlanner(const Tree& mine,
                 const Tree& theirs,
                 const std::function<base::Result<void>(const NamesStep&)>& emit)
        : mine_(mine), theirs_(theirs), emit_(emit) {}

    base::Result<NamesOutcome> run() {
        SAFEPAIR_CHECK(displace());
        SAFEPAIR_CHECK(remove_unlike());
        SAFEPAIR_CHECK(build());
        for (const auto& [file, node] : mine_) {
            SAFEPAIR_CHECK(set_attributes(file, node));
        }
        if (staged_anything_) {
            NamesStep step;
            step.kind = NamesStep::Kind::clear_stage;
            SAFEPAIR_CHECK(emit_(step));
        }
        return std::move(outcome_);
    }

  private:
    /// The follower's node that is the same object as mine, or null.
    const TreeNode* counterpart(FileId file, const TreeNode& mine) const {
        const auto found = theirs_.find(file);
        return found != theirs_.end() && is_same_object(mine, found->second) ? &found->second
                                                                             : nullptr;
    }

    base::Result<void> emit_name(NamesStep::Kind kind,
                                 OperationKind operation,
                                 FileId file,
                                 const NameOf& name) {
        NamesStep step;
        step.kind = kind;
        step.operation.kind = operation;
        step.operation.file = file;
        step.operation.parent = name.parent;
        step.operation.name = name.name;
        if (mine_.count(name.parent) != 0) {
            outcome_.retimed.insert(name.parent);
        }
        return emit_(step);
    }

    /// Moves every name aside that is wrong. What lies in a directory that goes is left in it,
    /// unless it is wanted.
    base::Result<void> displace() {
        for (const auto& [file, node] : theirs_) {
            const auto wanted = mine_.find(file);
            if (wanted == mine_.end()) {
                for (const auto& name : node.names) {
                    if (mine_.count(name.parent) != 0) {
                        SAFEPAIR_CHECK(stage(file, name));
                    }
                }
                continue;
            }
            if (!is_same_object(wanted->second, node)) {
                unlike_.push_back(file);
                continue;
            }
            for (const auto& name : node.names) {
                if (!has_name(wanted->second, name)) {
                    SAFEPAIR_CHECK(stage(file, name));
                    continue;
                }
                standing_.insert(file);
            }
        }
        return {};
    }

    base::Result<void> stage(FileId file, const NameOf& name) {
        staged_anything_ = true;
        return emit_name(NamesStep::Kind::stage, OperationKind::rename, file, name);
    }

    std::size_t depth(FileId file) const {
        std::size_t depth = 0;
        auto at = theirs_.find(file);
        while (at != theirs_.end() && !at->second.names.empty() && depth < theirs_.size()) {
            at = theirs_.find(at->second.names.front().parent);
            ++depth;
        }
        return depth;
    }

    /// Their ids are needed at once, so they do not wait for the end of the stage. Directories are
    /// empty by now: nothing wanted has its place in them, and the rest is aside.
    base::Result<void> remove_unlike() {
        std::vector<std::pair<std::size_t, FileId>> deepest_first;
        for (const auto file : unlike_) {
            deepest_first.emplace_back(depth(file), file);
        }
        std::sort(deepest_first.rbegin(), deepest_first.rend());
        for (const auto& [ignored, file] : deepest_first) {
            const auto& node = theirs_.at(file);
            const auto kind =
                node.type == NodeType::directory ? OperationKind::rmdir : OperationKind::unlink;
            for (const auto& name : node.names) {
                SAFEPAIR_CHECK(emit_name(NamesStep::Kind::operation, kind, file, name));
            }
        }
        return {};
    }

    /// Parents before children.
    base::Result<void> build() {
        std::map<FileId, std::vector<std::pair<const std::string*, FileId>>> children;
        for (const auto& [file, node] : mine_) {
            for (const auto& name : node.names) {
                children[name.parent].emplace_back(&name.name, file);
            }
        }
        std::vector<FileId> level{root_file};
        while (!level.empty()) {
            std::vector<FileId> next;
            for (const auto directory : level) {
                const auto found = children.find(directory);
                if (found == children.end()) {
                    continue;
                }
                for (const auto& [name, file] : found->second) {
                    SAFEPAIR_CHECK(place(file, {directory, *name}));
                    if (mine_.at(file).type == NodeType::directory) {
                        next.push_back(file);
                    }
                }
                // Each directory is entered once.
                children.erase(found);
            }
            level = std::move(next);
        }
        return {};
    }

    base::Result<void> place(FileId file, const NameOf& name) {
        const auto& node = mine_.at(file);
        const auto* theirs = counterpart(file, node);
        if (theirs != nullptr && has_name(*theirs, name)) {
            return {};
        }
        if (standing_.count(file) != 0) {
            return emit_name(NamesStep::Kind::operation, OperationKind::link, file, name);
        }
        standing_.insert(file);
        if (theirs != nullptr) {
            return emit_name(NamesStep::Kind::unstage, OperationKind::rename, file, name);
        }
        outcome_.created.insert(file);
        NamesStep step;
        step.operation.kind = OperationKind::create;
        step.operation.file = file;
        step.operation.parent = name.parent;
        step.operation.name = name.name;
        step.operation.attributes = attributes_of(node);
        outcome_.retimed.insert(name.parent);
        return emit_(step);
    }

    static Attributes attributes_of(const TreeNode& node) {
        Attributes attributes;
        attributes.type = node.type;
        attributes.mode = node.mode;
        attributes.uid = node.uid;
        attributes.gid = node.gid;
        attributes.size = node.size;
        attributes.rdev = node.rdev;
        return attributes;
    }

    /// Size, owner, xattrs, mode: each may take away or change what comes after it.
    base::Result<void> set_attributes(FileId file, const TreeNode& node) {
        const auto* theirs = counterpart(file, node);
        const bool created = theirs == nullptr;
        if (created || theirs->modified != node.modified) {
            outcome_.retimed.insert(file);
        }
        std::uint32_t valid = 0;
        if (node.type == NodeType::file && node.size != (created ? 0 : theirs->size)) {
            valid |= attribute::size;
        }
        if (!created && (theirs->uid != node.uid || theirs->gid != node.gid)) {
            valid |= attribute::owner | attribute::group;
        }
        const auto& names = node.xattr_names;
        const bool loses_capability =
            valid != 0 &&
            std::find(names.begin(), names.end(), capability_attribute) != names.end();
        const bool xattrs_differ = node.xattrs != (created ? Digest{} : theirs->xattrs);
        const bool mode_differs =
            node.type != NodeType::symlink && (created ? xattrs_differ : theirs->mode != node.mode);
        if (valid != 0) {
            outcome_.retimed.insert(file);
            SAFEPAIR_CHECK(emit_attributes(file, node, valid));
        }
        if (xattrs_differ || loses_capability) {
            SAFEPAIR_CHECK(emit_xattrs(file, node, theirs));
        }
        const bool mode_lost = (valid & attribute::owner) != 0 || xattrs_differ || loses_capability;
        if (mode_differs || (mode_lost && node.type != NodeType::symlink)) {
            SAFEPAIR_CHECK(emit_attributes(file, node, attribute::mode));
        }
        return {};
    }

    base::Result<void> emit_attributes(FileId file, const TreeNode& node, std::uint32_t valid) {
        NamesStep step;
        step.operation.kind = OperationKind::set_attributes;
        step.operation.file = file;
        step.operation.valid = valid;
        step.operation.attributes = attributes_of(node);
        return emit_(step);
    }

    base::Result<void> emit_xattrs(FileId file, const TreeNode& node, const TreeNode* theirs) {
        if (theirs != nullptr) {
            const auto& wanted = node.xattr_names;
            for (const auto& name : theirs->xattr_names) {
                if (std::find(wanted.begin(), wanted.end(), name) == wanted.end()) {
                    NamesStep step;
                    step.operation.kind = OperationKind::remove_xattr;
                    step.operation.file = file;
                    step.operation.name = name;
                    SAFEPAIR_CHECK(emit_(step));
                }
            }
        }
        if (node.xattr_names.empty()) {
            return {};
        }
        NamesStep step;
        step.kind = NamesStep::Kind::set_xattrs;
        step.operation.file = file;
        return emit_(step);
    }

    const Tree& mine_;
    const Tree& theirs_;
    const std::function<base::Result<void>(const NamesStep&)>& emit_;
    NamesOutcome outcome_;
    std::vector<FileId> unlike_;
    /// Has a name in its final place.
    std::set<FileId> standing_;
    bool staged_anything_ = false;
};

}  // namespace

bool is_same_object(const TreeNode& mine, const TreeNode& theirs) {
    return mine.type == theirs.type && mine.rdev == theirs.rdev && mine.target == theirs.target;
}

base::Result<NamesOutcome> plan_names(
    const Tree& mine,
    const Tree& theirs,
    const std::function<base::Result<void>(const NamesStep&)>& emit) {
    return NamesPlanner(mine, theirs, emit).run();
}

}  // namespace safepair::replica
