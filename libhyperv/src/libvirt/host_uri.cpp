#include "host_uri.hpp"

#include "folder_files.hpp"

#include <fmt/format.h>

#include <mutex>

namespace safepair::hyperv {

namespace {

constexpr std::string_view embed_prefix = "qemu:///embed";

constexpr std::string_view embedded_settings =
    "# An embedded host has no virtlogd, no cgroups of its own and no security driver, and its "
    "VMs\n"
    "# run as whoever embeds it: nobody else can reach files in a private directory.\n"
    "stdio_handler = \"file\"\n"
    "cgroup_controllers = [ ]\n"
    "namespaces = [ ]\n"
    "security_driver = \"none\"\n"
    "user = \"root\"\n"
    "group = \"root\"\n"
    "dynamic_ownership = 0\n"
    "remember_owner = 0\n";

int hex_digit(char c) {
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    if (c >= 'a' && c <= 'f') {
        return c - 'a' + 10;
    }
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

std::string percent_decoded(std::string_view text) {
    std::string decoded;
    for (std::size_t i = 0; i < text.size(); ++i) {
        const bool escaped = text[i] == '%' && i + 2 < text.size() && hex_digit(text[i + 1]) >= 0 &&
                             hex_digit(text[i + 2]) >= 0;
        decoded.push_back(
            escaped ? static_cast<char>(hex_digit(text[i + 1]) * 16 + hex_digit(text[i + 2]))
                    : text[i]);
        i += escaped ? 2 : 0;
    }
    return decoded;
}

/// The value of `key` in "?key=value&...", empty when it is not there.
std::string query_value(std::string_view uri, std::string_view key) {
    auto at = uri.find('?');
    while (at != std::string_view::npos) {
        const auto rest = uri.substr(at + 1);
        if (rest.substr(0, key.size()) == key && rest.size() > key.size() &&
            rest[key.size()] == '=') {
            const auto value = rest.substr(key.size() + 1);
            return percent_decoded(value.substr(0, value.find('&')));
        }
        at = uri.find('&', at + 1);
    }
    return {};
}

}  // namespace

base::Result<HostPlaces> host_places(const std::string& uri) {
    HostPlaces places;
    if (uri.compare(0, embed_prefix.size(), embed_prefix) == 0) {
        const std::filesystem::path root = query_value(uri, "root");
        if (!root.is_absolute()) {
            return base::error(
                base::Errc::bad_input,
                fmt::format("{}: write qemu:///embed?root=DIR with an absolute directory", uri));
        }
        places.embed_root = root;
        places.run = root / "run" / "qemu";
        places.configuration = root / "etc" / "qemu";
        places.tpm = root / "lib" / "swtpm";
    } else if (uri == "qemu:///system") {
        places.run = "/run/libvirt/qemu";
        places.configuration = "/etc/libvirt/qemu";
        places.tpm = "/var/lib/libvirt/swtpm";
    }
    return places;
}

base::Result<void> prepare_embedded_host(const std::filesystem::path& root) {
    static std::mutex mutex;
    static std::filesystem::path only;
    {
        const std::lock_guard lock(mutex);
        if (!only.empty() && only != root) {
            return base::error(
                base::Errc::refused,
                fmt::format(
                    "qemu:///embed?root={}: this process embeds {} already, and libvirt allows one",
                    root.string(),
                    only.string()));
        }
        only = root;
    }
    const auto directory = root / "etc";
    std::error_code failure;
    std::filesystem::create_directories(directory, failure);
    if (failure) {
        return base::Error{failure, "cannot make " + directory.string()};
    }
    const auto settings = directory / "qemu.conf";
    if (std::filesystem::exists(settings, failure)) {
        return {};
    }
    return write_atomically(settings, embedded_settings);
}

}  // namespace safepair::hyperv
