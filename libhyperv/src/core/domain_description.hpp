#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace safepair::hyperv {

/// What a domain uses a file for.
enum class FileUse : std::uint8_t {
    disk,
    backing,
    removable,
    nvram,
    kernel,
    tpm_state,
    shared_folder,
    memory,
    /// Comes with the hypervisor's packages: firmware code and the like.
    firmware,
    /// Written, never read again: serial lines, logs.
    output,
};

[[nodiscard]] const char* to_string(FileUse use) noexcept;

struct UsedFile {
    FileUse use = FileUse::disk;
    std::string path;
};

/// What only this host has, or nobody can replicate as a file.
struct ForeignDevice {
    /// "hostdev", "block-device", "network-disk", "pool-volume", "unknown-disk".
    std::string kind;
    std::string text;
};

/// What we need to know of a domain's XML.
struct DomainDescription {
    std::string name;
    std::string uuid;
    /// "kvm", "qemu", "test".
    std::string type;
    std::string arch;
    std::string machine;
    std::string emulator;
    /// "custom", "host-passthrough", "host-model", "maximum"; empty: the hypervisor's default.
    std::string cpu_mode;
    /// The <cpu> element, empty when there is none.
    std::string cpu_xml;
    bool has_guest_agent = false;
    std::vector<UsedFile> files;
    std::vector<ForeignDevice> foreign;
    std::vector<std::string> bridges;
    std::vector<std::string> networks;
    /// Interfaces of the host that a network card sits on directly (macvtap).
    std::vector<std::string> interfaces;
};

/// Whether `path` is `folder` or lies in it, by their text; both absolute. "..", "." and double
/// slashes count as what they mean.
[[nodiscard]] bool lies_in(const std::string& path, const std::string& folder);

/// "8-4-4-4-12" in lower case, however it was written (libvirt takes any case and hyphens
/// anywhere); empty for what is none.
[[nodiscard]] std::string canonical_uuid(const std::string& text);

/// A name that can be a file name and a domain's name.
[[nodiscard]] bool is_valid_vm_name(const std::string& name) noexcept;

}  // namespace safepair::hyperv
