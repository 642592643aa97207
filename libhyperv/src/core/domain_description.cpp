#include "domain_description.hpp"

#include <algorithm>

namespace safepair::hyperv {

namespace {

std::vector<std::string> components(const std::string& path) {
    std::vector<std::string> parts;
    std::size_t at = 0;
    while (at < path.size()) {
        const auto end = std::min(path.find('/', at), path.size());
        const auto part = path.substr(at, end - at);
        at = end + 1;
        if (part == "..") {
            if (!parts.empty()) {
                parts.pop_back();
            }
        } else if (!part.empty() && part != ".") {
            parts.push_back(part);
        }
    }
    return parts;
}

}  // namespace

const char* to_string(FileUse use) noexcept {
    switch (use) {
        case FileUse::disk:
            return "disk";
        case FileUse::backing:
            return "backing file";
        case FileUse::removable:
            return "CD-ROM or floppy image";
        case FileUse::nvram:
            return "NVRAM file";
        case FileUse::kernel:
            return "kernel, initrd or device tree";
        case FileUse::tpm_state:
            return "TPM state";
        case FileUse::shared_folder:
            return "shared folder";
        case FileUse::memory:
            return "memory file";
        case FileUse::firmware:
            return "firmware";
        case FileUse::output:
            return "output file";
    }
    return "?";
}

bool lies_in(const std::string& path, const std::string& folder) {
    if (path.empty() || folder.empty() || path.front() != '/' || folder.front() != '/') {
        return false;
    }
    const auto parts = components(path);
    const auto base = components(folder);
    return parts.size() >= base.size() && std::equal(base.begin(), base.end(), parts.begin());
}

std::string canonical_uuid(const std::string& text) {
    std::string uuid;
    for (const char c : text) {
        const bool digit = c >= '0' && c <= '9';
        const bool lower = c >= 'a' && c <= 'f';
        const bool upper = c >= 'A' && c <= 'F';
        if (digit || lower || upper) {
            uuid.push_back(upper ? static_cast<char>(c - 'A' + 'a') : c);
        } else if (c != '-' && c != ' ' && c != '\n' && c != '\t') {
            return {};
        }
    }
    if (uuid.size() != 32) {
        return {};
    }
    for (const std::size_t hyphen : {20U, 16U, 12U, 8U}) {
        uuid.insert(hyphen, 1, '-');
    }
    return uuid;
}

bool is_valid_vm_name(const std::string& name) noexcept {
    constexpr std::size_t longest = 200;  // with a suffix of ours it must still be a file name
    if (name.empty() || name.size() > longest || name.front() == '.' || name.front() == '-') {
        return false;
    }
    return std::all_of(name.begin(), name.end(), [](char c) {
        const auto byte = static_cast<unsigned char>(c);
        return byte >= 0x20U && byte != 0x7FU && c != '/';
    });
}

}  // namespace safepair::hyperv
