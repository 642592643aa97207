#include "store/catalog.hpp"

#include <algorithm>
#include <cerrno>

#include <safepair/base/assert.hpp>

namespace safepair::replica {

Catalog::Catalog() {
    nodes_[root_file].type = NodeType::directory;
}

const CatalogNode* Catalog::find(FileId file) const {
    const auto found = nodes_.find(file);
    return found == nodes_.end() ? nullptr : &found->second;
}

CatalogNode* Catalog::find(FileId file) {
    const auto found = nodes_.find(file);
    return found == nodes_.end() ? nullptr : &found->second;
}

base::Result<FileId> Catalog::child(FileId directory, std::string_view name) const {
    const auto* node = find(directory);
    if (node == nullptr) {
        return base::error_from_errno(ENOENT, "directory " + base::to_string(directory));
    }
    if (node->type != NodeType::directory) {
        return base::error_from_errno(ENOTDIR, path_of(directory));
    }
    const auto found = node->children.find(name);
    if (found == node->children.end()) {
        return base::error_from_errno(ENOENT, std::string(name));
    }
    return found->second;
}

void Catalog::add(FileId file, NodeType type) {
    nodes_[file].type = type;
}

void Catalog::add_name(FileId file, FileId parent, const std::string& name) {
    auto* node = find(file);
    auto* directory = find(parent);
    SAFEPAIR_ASSERT(node != nullptr && directory != nullptr, "a name needs its file and directory");
    const bool fresh = directory->children.emplace(name, file).second;
    SAFEPAIR_ASSERT(fresh, "a name is given once");
    node->names.push_back({parent, name});
}

FileId Catalog::remove_name(FileId parent, std::string_view name) {
    auto* directory = find(parent);
    SAFEPAIR_ASSERT(directory != nullptr, "the directory of a name is known");
    const auto found = directory->children.find(name);
    SAFEPAIR_ASSERT(found != directory->children.end(), "the name to remove is known");
    const FileId file = found->second;
    auto& names = find(file)->names;
    names.erase(std::find(names.begin(), names.end(), NameOf{parent, std::string(name)}));
    directory->children.erase(found);
    return file;
}

void Catalog::erase(FileId file) {
    nodes_.erase(file);
}

bool Catalog::is_orphan(FileId file) const {
    const auto* node = find(file);
    return node != nullptr && file != root_file && node->names.empty() && !node->staged;
}

std::string Catalog::path_of(FileId file) const {
    if (file == root_file) {
        return ".";
    }
    std::string path;
    // The depth is bounded by the number of nodes; a cycle cannot be built by operations that the kernel accepted.
    for (FileId at = file; at != root_file;) {
        const auto* node = find(at);
        if (node == nullptr || node->names.empty()) {
            return base::to_string(at) + (path.empty() ? "" : "/" + path);
        }
        path = path.empty() ? node->names.front().name : node->names.front().name + "/" + path;
        at = node->names.front().parent;
    }
    return path;
}

}  // namespace safepair::replica
