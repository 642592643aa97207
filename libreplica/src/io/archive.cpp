#include "io/archive.hpp"

#include "io/durable_file.hpp"
#include "store/system_call.hpp"

#include <safepair/base/unique_fd.hpp>
#include <safepair/replica/limits.hpp>

#include <algorithm>
#include <cerrno>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <unistd.h>

namespace safepair::replica {

namespace {

namespace fs = std::filesystem;

constexpr const char* listing_name = "listing";
constexpr const char* listing_title = "safepair archive 1";
/// Deeper paths, which a system call cannot take whole, are kept under their id.
constexpr std::size_t path_bytes_max = 3000;
constexpr std::uint64_t unit_bytes = 512;

struct Object {
    FileId file;
    Attributes attributes;
    /// Inside the folder; the first is where it is copied.
    std::vector<std::string> paths;
};

/// One line per object: backslash, newline and other control characters as \xHH.
std::string escaped(const std::string& path) {
    constexpr const char* digits = "0123456789abcdef";
    std::string text;
    for (const char c : path) {
        const auto value = static_cast<unsigned char>(c);
        if (value < 0x20 || value == 0x7F || c == '\\') {
            text += {'\\', 'x', digits[value >> 4U], digits[value & 15U]};
        } else {
            text += c;
        }
    }
    return text;
}

base::Result<std::vector<Object>> changed_objects(Store& store, const DirtyMap* map) {
    std::vector<Object> objects;
    base::Result<void> outcome;
    store.for_each([&](FileId file, NodeType, const std::vector<NameOf>& names) {
        if (!outcome || (map != nullptr && map->find(file) == nullptr)) {
            return;
        }
        auto attributes = store.attributes(file);
        if (!attributes) {
            outcome = attributes.error();
            return;
        }
        Object object{file, *attributes, {}};
        for (const auto& name : names) {
            const auto directory = name.parent == root_file ? "" : store.path_of(name.parent) + "/";
            object.paths.push_back(directory + name.name);
        }
        objects.push_back(std::move(object));
    });
    if (!outcome) {
        return outcome.error();
    }
    // A directory behind what is in it, so that its times are set last.
    std::sort(objects.begin(), objects.end(), [](const Object& left, const Object& right) {
        return left.paths.front() > right.paths.front();
    });
    return objects;
}

base::Error archive_full(const fs::path& directory, const std::string& why) {
    return base::error(base::Errc::limit_reached,
                       "archive-full: " + directory.string() + " " + why +
                           "; free space there or remove older archives beside it");
}

/// Copies share their blocks with the originals here (FICLONE), and so take no room.
bool shares_blocks(const fs::path& directory) {
    const auto make = [&directory](const char* name) {
        return base::UniqueFd(
            ::open((directory / name).c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
    };
    const auto from = make("probe-from");
    const auto to = make("probe-to");
    const bool shared =
        from && to && ftruncate(from.get(), 4096) == 0 && ioctl(to.get(), FICLONE, from.get()) == 0;
    ::unlink((directory / "probe-from").c_str());
    ::unlink((directory / "probe-to").c_str());
    return shared;
}

base::Result<void> check_room(Store& store,
                              const std::vector<Object>& objects,
                              const fs::path& directory) {
    if (shares_blocks(directory)) {
        return {};
    }
    std::uint64_t needed = limits::free_bytes_min;
    for (const auto& object : objects) {
        needed += object.attributes.blocks * unit_bytes;
    }
    SAFEPAIR_TRY(const auto space, store.space());
    const auto free = space.blocks_available * space.block_bytes;
    if (free < needed) {
        return archive_full(
            directory,
            "needs " + std::to_string(needed) + " bytes, free are " + std::to_string(free));
    }
    return {};
}

base::Result<void> copy_object(Store& store, const Object& object, const fs::path& target) {
    auto copied = store.copy_out(object.file, target);
    if (!copied && (copied.error().code == std::errc::no_space_on_device ||
                    copied.error().code.value() == EDQUOT)) {
        return archive_full(target, "could not be written");
    }
    return copied;
}

/// Relative to the archive.
fs::path place_of(const Object& object, const std::string& path) {
    if (path.size() > path_bytes_max) {
        return fs::path("deep") / base::to_string(object.file);
    }
    return fs::path("tree") / path;
}

base::Result<void> copy_objects(Store& store,
                                const std::vector<Object>& objects,
                                const fs::path& directory,
                                std::ostringstream& lines,
                                ArchiveResult& result) {
    for (const auto& object : objects) {
        const auto& first = object.paths.front();
        const auto place = place_of(object, first);
        SAFEPAIR_CHECK(copy_object(store, object, directory / place));
        for (const auto& path : object.paths) {
            const bool linked = path != first && path.size() <= path_bytes_max;
            if (linked) {
                const auto other = directory / place_of(object, path);
                std::error_code failed;
                fs::create_directories(other.parent_path(), failed);
                if (::linkat(AT_FDCWD, (directory / place).c_str(), AT_FDCWD, other.c_str(), 0) !=
                    0) {
                    return errno_error("link " + other.string());
                }
            }
            lines << base::to_string(object.file) << ' ' << object.attributes.size << ' '
                  << escaped(path) << '\n';
        }
        if (object.attributes.type != NodeType::directory) {
            ++result.files;
            result.bytes += object.attributes.type == NodeType::file ? object.attributes.size : 0;
        }
    }
    return {};
}

base::Result<void> flush_file_system(const fs::path& directory) {
    const base::UniqueFd fd(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!fd || syncfs(fd.get()) != 0) {
        return errno_error("flush " + directory.string());
    }
    return {};
}

base::Result<ArchiveResult> read_listing(const fs::path& directory) {
    SAFEPAIR_TRY(const auto bytes, read_whole_file(directory / listing_name));
    const auto refused =
        base::error(base::Errc::refused,
                    directory.string() + " exists and is no archive of this folder; move it away");
    if (!bytes) {
        return refused;
    }
    std::istringstream text(
        std::string(reinterpret_cast<const char*>(bytes->data()), bytes->size()));
    std::string title;
    std::getline(text, title);
    std::string files_word;
    std::string bytes_word;
    ArchiveResult result;
    text >> files_word >> result.files >> bytes_word >> result.bytes;
    if (!text || title != listing_title || files_word != "files:" || bytes_word != "bytes:") {
        return refused;
    }
    result.directory = directory;
    return result;
}

base::Result<void> make_empty(const fs::path& directory) {
    std::error_code failed;
    fs::remove_all(directory, failed);
    if (!failed) {
        fs::create_directories(directory, failed);
    }
    if (!failed) {
        fs::permissions(directory, fs::perms::owner_all, failed);
    }
    if (failed) {
        return base::Error{failed, "make " + directory.string()};
    }
    return {};
}

base::Result<ArchiveResult> build(Store& mine, const DirtyMap* map, const fs::path& directory) {
    SAFEPAIR_CHECK(make_empty(directory));
    SAFEPAIR_TRY(const auto objects, changed_objects(mine, map));
    SAFEPAIR_CHECK(check_room(mine, objects, directory));
    ArchiveResult result;
    std::ostringstream lines;
    SAFEPAIR_CHECK(copy_objects(mine, objects, directory, lines, result));
    std::ostringstream listing;
    listing << listing_title << "\nfiles: " << result.files << "\nbytes: " << result.bytes << "\n\n"
            << lines.str();
    const auto text = listing.str();
    SAFEPAIR_CHECK(
        replace_file(directory / listing_name, std::as_bytes(std::span(text.data(), text.size()))));
    SAFEPAIR_CHECK(flush_file_system(directory));
    return result;
}

}  // namespace

base::Result<ArchiveResult> archive_copy(Store& mine,
                                         const DirtyMap* map,
                                         const fs::path& directory) {
    std::error_code failed;
    if (fs::exists(fs::symlink_status(directory, failed))) {
        return read_listing(directory);
    }
    auto partial = directory;
    partial += ".partial";
    auto result = build(mine, map, partial);
    if (!result) {
        // Gives the room back; the next attempt starts over anyway.
        fs::remove_all(partial, failed);
        return result.error();
    }
    if (::rename(partial.c_str(), directory.c_str()) != 0) {
        return errno_error("rename " + partial.string());
    }
    SAFEPAIR_CHECK(flush_file_system(directory));
    result->directory = directory;
    return result;
}

}  // namespace safepair::replica
