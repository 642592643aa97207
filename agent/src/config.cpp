// Reading the configuration's files, what modules may not share, and the hash that both nodes
// compare.
#include "config.hpp"

#include "config_reader.hpp"

#include <safepair/base/bytes.hpp>

#include <fmt/format.h>
#include <xxhash.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <fstream>

#include <sys/stat.h>

namespace safepair::agent {

namespace {

using yaml::Mistakes;

base::Result<std::string> read_text(const std::filesystem::path& file) {
    struct stat status {};

    if (::stat(file.c_str(), &status) != 0) {
        const auto failure = errno;
        if (failure == ENOENT) {
            return base::error(
                base::Errc::bad_input,
                file.string() +
                    ": there is no such file; packaging/examples has one to begin with");
        }
        return base::error_from_errno(failure, file.string());
    }
    if (!S_ISREG(status.st_mode)) {
        return base::error(base::Errc::bad_input, file.string() + ": is not a file");
    }
    if ((status.st_mode & S_IWOTH) != 0) {
        // It names commands that run as root.
        return base::error(
            base::Errc::bad_input,
            fmt::format("{0}: everybody may change this file; chmod o-w {0}", file.string()));
    }
    std::ifstream stream(file, std::ios::binary);
    // One byte more than allowed is enough to be refused.
    std::string text(config_limits::file_bytes_max + 1, '\0');
    errno = 0;
    stream.read(text.data(), static_cast<std::streamsize>(text.size()));
    if (!stream.is_open() || stream.bad()) {
        return base::error_from_errno(errno != 0 ? errno : EIO, "read " + file.string());
    }
    text.resize(static_cast<std::size_t>(stream.gcount()));
    return text;
}

bool share_a_node(const ModuleConfig& a, const ModuleConfig& b) {
    return std::any_of(a.nodes.begin(), a.nodes.end(), [&](const auto& node) {
        return std::find(b.nodes.begin(), b.nodes.end(), node) != b.nodes.end();
    });
}

/// Whether `inner` is `outer` or lies below it.
bool is_within(const std::filesystem::path& inner, const std::filesystem::path& outer) {
    const auto [left, right] =
        std::mismatch(outer.begin(), outer.end(), inner.begin(), inner.end());
    return left == outer.end();
}

void check_pair(const ModuleConfig& earlier, const ModuleConfig& later, Mistakes& mistakes) {
    const auto note = [&](const char* field, const std::string& text) {
        mistakes.add_lines(base::error(
            base::Errc::bad_input, fmt::format("{}: {}: {}", later.file.string(), field, text)));
    };
    for (const auto& address : later.addresses) {
        const auto same = [&](const auto& one) { return one.address == address.address; };
        if (std::any_of(earlier.addresses.begin(), earlier.addresses.end(), same)) {
            note("addresses",
                 fmt::format("{} belongs to module {} already; give each its own",
                             address.address,
                             earlier.name));
        }
    }
    if (!share_a_node(earlier, later)) {
        return;
    }
    if (earlier.folder == later.folder) {
        note("folder",
             fmt::format("{} is the folder of module {} already; give each its own",
                         later.folder.string(),
                         earlier.name));
    } else if (is_within(later.folder, earlier.folder) || is_within(earlier.folder, later.folder)) {
        note("folder",
             fmt::format("{} and {} of module {} lie one in the other; move one of them out",
                         later.folder.string(),
                         earlier.folder.string(),
                         earlier.name));
    }
    if (earlier.vm && later.vm && earlier.vm->name == later.vm->name &&
        earlier.vm->uri == later.vm->uri) {
        note("vm",
             fmt::format("{} is the VM of module {} already; a VM has one module",
                         later.vm->name,
                         earlier.name));
    }
}

base::Result<std::vector<std::filesystem::path>> module_files(
    const std::filesystem::path& directory, Mistakes& mistakes) {
    std::vector<std::filesystem::path> files;
    std::error_code failed;
    if (!std::filesystem::exists(directory, failed) && !failed) {
        return files;
    }
    for (auto entry = std::filesystem::directory_iterator(directory, failed);
         !failed && entry != std::filesystem::directory_iterator();
         entry.increment(failed)) {
        const auto& file = entry->path();
        if (file.extension() == ".yaml" && !file.filename().string().starts_with('.')) {
            files.push_back(file);
        } else if (file.extension() == ".yml") {
            // Passed over in silence it would be a module that nobody protects.
            mistakes.add_lines(
                base::error(base::Errc::bad_input,
                            fmt::format("{}: modules are read from NAME.yaml; rename it to {}.yaml",
                                        file.string(),
                                        file.stem().string())));
        }
    }
    if (failed) {
        return base::Error{failed, "read " + directory.string()};
    }
    std::sort(files.begin(), files.end());
    return files;
}

}  // namespace

base::Result<ClusterConfig> load_cluster(const std::filesystem::path& file) {
    SAFEPAIR_TRY(const auto text, read_text(file));
    return parse_cluster(text, file);
}

base::Result<std::vector<ModuleConfig>> load_modules(const std::filesystem::path& directory,
                                                     const ClusterConfig& cluster) {
    Mistakes mistakes(directory);
    SAFEPAIR_TRY(const auto files, module_files(directory, mistakes));
    if (files.size() > config_limits::modules_max) {
        mistakes.add(0,
                     "",
                     fmt::format("holds {} modules, at most {} are possible",
                                 files.size(),
                                 config_limits::modules_max));
        return mistakes.error();
    }
    std::vector<ModuleConfig> modules;
    for (const auto& file : files) {
        const auto text = read_text(file);
        if (!text) {
            mistakes.add_lines(text.error().code == base::Errc::bad_input
                                   ? text.error()
                                   : base::error(base::Errc::bad_input, text.error().message()));
            continue;
        }
        if (auto module = parse_module(*text, file, cluster)) {
            for (const auto& earlier : modules) {
                check_pair(earlier, *module, mistakes);
            }
            modules.push_back(std::move(*module));
        } else {
            mistakes.add_lines(module.error());
        }
    }
    if (!mistakes.empty()) {
        return mistakes.error();
    }
    return modules;
}

std::uint64_t settings_hash(const ClusterConfig& cluster, const ModuleConfig& module) {
    // Each field with its length or of fixed size, so that no two settings have the same bytes.
    base::ByteWriter bytes;
    bytes.u32(1);  // order and meaning of the fields below
    bytes.text(cluster.name);
    bytes.text(module.name);
    auto nodes = module.nodes;
    std::sort(nodes.begin(), nodes.end());
    for (const auto& node : nodes) {
        bytes.text(node);
    }
    bytes.i64(module.pulse.count());
    bytes.i64(module.timeout.count());
    bytes.text(module.folder.string());
    bytes.u8(static_cast<std::uint8_t>(module.durability));
    bytes.boolean(module.failover);
    bytes.boolean(module.vm.has_value());
    bytes.text(module.vm ? module.vm->name : "");
    bytes.u32(static_cast<std::uint32_t>(module.addresses.size()));
    for (const auto& address : module.addresses) {
        bytes.text(address.address);
        bytes.u32(address.prefix);
    }
    return XXH3_64bits(bytes.bytes().data(), bytes.bytes().size());
}

}  // namespace safepair::agent
