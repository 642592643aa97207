#pragma once

#include <safepair/base/result.hpp>
#include <safepair/replica/operation.hpp>
#include <safepair/replica/store.hpp>

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace safepair::replica {

/// One object of the folder as the catalog knows it.
struct CatalogNode {
    NodeType type = NodeType::file;
    /// Moved aside: reachable as `.safepair/stage/<id>`, has no name.
    bool staged = false;
    /// Open at a door this many times.
    std::uint32_t holds = 0;
    /// A directory has one; a file as many as it has hard links; none when it is an orphan or staged.
    std::vector<NameOf> names;
    /// Of a directory.
    std::map<std::string, FileId, std::less<>> children;
};

/// The tree in memory: FileId <-> names. Knows nothing of the disk; the store changes both under one lock. Kept whole in
/// memory because a FileId has to be turned into a name for every operation, and the kernel offers no way from an id of
/// ours to an inode. Not thread-safe.
/// Invariant: node(p).children[n] == f exactly when (p, n) is in node(f).names.
class Catalog {
  public:
    Catalog();

    /// Null when unknown. Pointers stay valid until that file is erased.
    [[nodiscard]] const CatalogNode* find(FileId file) const;
    [[nodiscard]] CatalogNode* find(FileId file);
    /// ENOENT when the directory or the name is unknown, ENOTDIR.
    [[nodiscard]] base::Result<FileId> child(FileId directory, std::string_view name) const;

    void add(FileId file, NodeType type);
    /// The file and the directory are known and the name is free.
    void add_name(FileId file, FileId parent, const std::string& name);
    /// The file that had it. The name exists.
    FileId remove_name(FileId parent, std::string_view name);
    void erase(FileId file);

    /// No name, not staged, not the root.
    [[nodiscard]] bool is_orphan(FileId file) const;
    [[nodiscard]] std::string path_of(FileId file) const;
    [[nodiscard]] const std::unordered_map<FileId, CatalogNode>& nodes() const noexcept { return nodes_; }

  private:
    std::unordered_map<FileId, CatalogNode> nodes_;
};

}  // namespace safepair::replica
