#include "store/busy.hpp"

#include <algorithm>
#include <array>
#include <cctype>
#include <fstream>
#include <sstream>
#include <string_view>

#include <unistd.h>

namespace safepair::replica {

namespace {

namespace fs = std::filesystem;

bool is_below(std::string_view path, const std::vector<fs::path>& folders) {
    return std::any_of(folders.begin(), folders.end(), [path](const fs::path& folder) {
        const std::string_view prefix = folder.native();
        return path.substr(0, prefix.size()) == prefix &&
               (path.size() == prefix.size() || path[prefix.size()] == '/' ||
                path.substr(prefix.size()) == " (deleted)");
    });
}

std::optional<std::string> link_target(const fs::path& link) {
    std::array<char, 4096> target{};
    const auto got = readlink(link.c_str(), target.data(), target.size());
    if (got < 0) {
        return std::nullopt;
    }
    return std::string(target.data(), static_cast<std::size_t>(got));
}

std::optional<FolderUser> user_in(const fs::path& process, const std::vector<fs::path>& folders) {
    FolderUser user;
    const auto matches = [&](const fs::path& link, const char* how) {
        auto target = link_target(link);
        if (!target || !is_below(*target, folders)) {
            return false;
        }
        user.how = how;
        user.file = std::move(*target);
        return true;
    };
    if (matches(process / "cwd", "working directory") ||
        matches(process / "root", "root directory")) {
        return user;
    }
    std::error_code failed;
    for (fs::directory_iterator entry(process / "fd", failed), end; !failed && entry != end;
         entry.increment(failed)) {
        if (matches(entry->path(), "open file")) {
            return user;
        }
    }
    std::ifstream maps(process / "maps");
    for (std::string line; std::getline(maps, line);) {
        const auto begin = line.find('/');
        if (begin != std::string::npos && is_below(std::string_view(line).substr(begin), folders)) {
            user.how = "mapping";
            user.file = line.substr(begin);
            return user;
        }
    }
    return std::nullopt;
}

/// "\040" for a space and so on (getmntent(3)).
std::string unescape(const std::string& text) {
    std::string plain;
    for (std::size_t i = 0; i < text.size(); ++i) {
        const auto is_octal = [&](std::size_t at) { return text[at] >= '0' && text[at] <= '7'; };
        if (text[i] == '\\' && i + 3 < text.size() && is_octal(i + 1) && is_octal(i + 2) &&
            is_octal(i + 3)) {
            plain.push_back(static_cast<char>((text[i + 1] - '0') * 64 + (text[i + 2] - '0') * 8 +
                                              (text[i + 3] - '0')));
            i += 3;
        } else {
            plain.push_back(text[i]);
        }
    }
    return plain;
}

}  // namespace

std::string FolderUser::describe() const {
    return "process " + std::to_string(pid) + " (" + command + ") has " + file + " as " + how;
}

std::optional<FolderUser> find_folder_user(const std::vector<fs::path>& folders) {
    std::error_code failed;
    for (fs::directory_iterator entry("/proc", failed), end; !failed && entry != end;
         entry.increment(failed)) {
        const auto name = entry->path().filename().string();
        const bool number = std::all_of(
            name.begin(), name.end(), [](unsigned char c) { return std::isdigit(c) != 0; });
        if (!number || name == std::to_string(getpid())) {
            continue;
        }
        if (auto user = user_in(entry->path(), folders)) {
            user->pid = std::stoi(name);
            std::ifstream(entry->path() / "comm") >> user->command;
            return user;
        }
    }
    return std::nullopt;
}

std::vector<Mount> current_mounts() {
    std::vector<Mount> mounts;
    std::ifstream table("/proc/self/mountinfo");
    for (std::string line; std::getline(table, line);) {
        std::istringstream fields(line);
        std::string skipped;
        Mount mount;
        // id parent device root
        fields >> skipped >> skipped >> skipped >> skipped >> mount.mount_point;
        while (fields >> skipped && skipped != "-") {
        }
        if (fields >> mount.type >> mount.source) {
            mount.mount_point = unescape(mount.mount_point);
            mount.source = unescape(mount.source);
            mounts.push_back(std::move(mount));
        }
    }
    return mounts;
}

}  // namespace safepair::replica
