#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace safepair::replica {

/// A process that has something below a folder in use.
struct FolderUser {
    int pid = 0;
    std::string command;
    /// "open file", "mapping", "working directory" or "root directory".
    std::string how;
    std::string file;

    /// "process 12 (bash) has /srv/vm1/disk as open file".
    [[nodiscard]] std::string describe() const;
};

/// The first process other than this one that has an open file, mapping, working or root directory in one of the folders,
/// nullopt when there is none. Reads links of /proc only, so a dead file system does not block it.
[[nodiscard]] std::optional<FolderUser> find_folder_user(
    const std::vector<std::filesystem::path>& folders);

/// One line of /proc/self/mountinfo (proc(5)).
struct Mount {
    std::string mount_point;
    std::string type;
    std::string source;
};

/// In the order of mounting: the last one on a path is what is seen.
[[nodiscard]] std::vector<Mount> current_mounts();

}  // namespace safepair::replica
