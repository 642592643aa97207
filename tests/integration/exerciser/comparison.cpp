#include "comparison.hpp"

#include "report.hpp"

#include <safepair/base/unique_fd.hpp>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string_view>

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

namespace safepair::exerciser {

namespace {

constexpr std::size_t block = 4096;
constexpr std::size_t chunk = 256 * 1024;

struct FreeMemory {
    void operator()(std::byte* memory) const noexcept { std::free(memory); }
};

using Buffer = std::unique_ptr<std::byte, FreeMemory>;

Buffer aligned_buffer() {
    return Buffer(static_cast<std::byte*>(std::aligned_alloc(block, chunk)));
}

/// Bytes read, or -errno.
ssize_t read_fully(int fd, std::byte* into, std::size_t count, std::uint64_t offset) {
    std::size_t done = 0;
    while (done < count) {
        const auto got = pread(fd, into + done, count - done, static_cast<off_t>(offset + done));
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got < 0) {
            return -errno;
        }
        if (got == 0) {
            break;
        }
        done += static_cast<std::size_t>(got);
        // The end of the file; a next read would be unaligned.
        if (done % block != 0) {
            break;
        }
    }
    return static_cast<ssize_t>(done);
}

std::string number(std::uint64_t value) { return std::to_string(value); }

std::string user_xattrs(const std::string& path) {
    std::array<char, 65536> list{};
    const auto length = llistxattr(path.c_str(), list.data(), list.size());
    if (length < 0) {
        return errno == EOPNOTSUPP ? "" : "cannot list: " + errno_text(errno);
    }
    std::vector<std::string> found;
    const std::string_view all(list.data(), static_cast<std::size_t>(length));
    for (std::size_t begin = 0; begin < all.size();) {
        const auto end = all.find('\0', begin);
        const std::string name(all.substr(begin, end - begin));
        begin = end + 1;
        if (name.rfind("user.", 0) != 0) {
            continue;
        }
        std::array<char, 65536> value{};
        const auto size = lgetxattr(path.c_str(), name.c_str(), value.data(), value.size());
        found.push_back(name + "=" +
                        (size < 0 ? errno_text(errno)
                                  : std::string(value.data(), static_cast<std::size_t>(size))));
    }
    std::sort(found.begin(), found.end());
    std::string joined;
    for (const auto& one : found) {
        joined += one + ";";
    }
    return joined;
}

std::string compare_contents(const std::string& mount, const std::string& model) {
    const base::UniqueFd ours(open(mount.c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC));
    const base::UniqueFd theirs(open(model.c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC));
    if (!ours || !theirs) {
        return "cannot open it: " + errno_text(errno);
    }

    struct stat status {};

    if (fstat(theirs.get(), &status) != 0) {
        return "cannot stat the model: " + errno_text(errno);
    }
    std::string difference;
    return same_bytes(ours.get(),
                      theirs.get(),
                      0,
                      static_cast<std::size_t>(status.st_size) + block,
                      difference)
               ? ""
               : difference;
}

std::string link_target(int root, const std::string& path) {
    std::array<char, 4096> target{};
    const auto got = readlinkat(root, path.c_str(), target.data(), target.size());
    return got < 0 ? errno_text(errno) : std::string(target.data(), static_cast<std::size_t>(got));
}

}  // namespace

std::vector<std::string> sorted_names(const std::string& directory) {
    DIR* stream = opendir(directory.c_str());
    if (stream == nullptr) {
        fail("cannot list " + directory + ": " + errno_text(errno));
    }
    std::vector<std::string> names;
    for (;;) {
        errno = 0;
        const auto* entry = readdir(stream);
        if (entry == nullptr) {
            break;
        }
        const std::string_view name(entry->d_name);
        if (name != "." && name != "..") {
            names.emplace_back(name);
        }
    }
    if (errno != 0) {
        fail("cannot list " + directory + ": " + errno_text(errno));
    }
    closedir(stream);
    std::sort(names.begin(), names.end());
    return names;
}

bool same_bytes(
    int mount, int model, std::uint64_t offset, std::size_t length, std::string& difference) {
    const auto ours = aligned_buffer();
    const auto theirs = aligned_buffer();
    auto at = offset / block * block;
    const auto end = (offset + length + block - 1) / block * block;
    while (at < end) {
        const auto count = std::min<std::uint64_t>(chunk, end - at);
        const auto got = read_fully(mount, ours.get(), count, at);
        const auto wanted = read_fully(model, theirs.get(), count, at);
        if (got < 0 || wanted < 0) {
            difference = "reading at " + number(at) + ": the mount says " +
                         errno_text(got < 0 ? static_cast<int>(-got) : 0) + ", the model says " +
                         errno_text(wanted < 0 ? static_cast<int>(-wanted) : 0);
            return false;
        }
        const auto common = static_cast<std::size_t>(std::min(got, wanted));
        if (std::memcmp(ours.get(), theirs.get(), common) != 0) {
            const auto* place_of =
                std::mismatch(ours.get(), ours.get() + common, theirs.get()).first;
            const auto where = static_cast<std::size_t>(place_of - ours.get());
            std::size_t wrong = 0;
            for (std::size_t i = where; i < common; ++i) {
                wrong += ours.get()[i] != theirs.get()[i] ? 1U : 0U;
            }
            difference = "bytes differ from offset " + number(at + where) + " on, " +
                         number(wrong) + " of the next " + number(common - where) +
                         "; the mount has " + number(std::to_integer<unsigned>(ours.get()[where])) +
                         ", the model " + number(std::to_integer<unsigned>(theirs.get()[where]));
            return false;
        }
        if (got != wanted) {
            difference = "sizes differ: the mount ends at " +
                         number(at + static_cast<std::uint64_t>(got)) + ", the model at " +
                         number(at + static_cast<std::uint64_t>(wanted));
            return false;
        }
        if (static_cast<std::uint64_t>(got) < count) {
            break;
        }
        at += count;
    }
    return true;
}

std::string compare_objects(int mount_root, int model_root, const std::string& path) {
    struct stat ours {};

    struct stat theirs {};

    const int got = fstatat(mount_root, path.c_str(), &ours, AT_SYMLINK_NOFOLLOW) == 0 ? 0 : errno;
    const int wanted =
        fstatat(model_root, path.c_str(), &theirs, AT_SYMLINK_NOFOLLOW) == 0 ? 0 : errno;
    if (got != wanted) {
        return "stat differs: the mount says " + errno_text(got) + ", the model says " +
               errno_text(wanted);
    }
    if (got != 0) {
        return "";
    }
    const auto differ = [](const char* what, std::uint64_t mount_has, std::uint64_t model_has) {
        return mount_has == model_has ? std::string()
                                      : std::string(what) + " differ: the mount has " +
                                            number(mount_has) + ", the model " + number(model_has);
    };
    auto found = differ("modes", ours.st_mode, theirs.st_mode);
    found += differ("owners", ours.st_uid, theirs.st_uid);
    found += differ("groups", ours.st_gid, theirs.st_gid);
    found += differ("device numbers", ours.st_rdev, theirs.st_rdev);
    // The size and links of a directory are its file system's own affair.
    if (!S_ISDIR(ours.st_mode)) {
        found += differ("sizes",
                        static_cast<std::uint64_t>(ours.st_size),
                        static_cast<std::uint64_t>(theirs.st_size));
        found += differ("links", ours.st_nlink, theirs.st_nlink);
    }
    if (found.empty() && S_ISLNK(ours.st_mode) &&
        link_target(mount_root, path) != link_target(model_root, path)) {
        found = "link targets differ";
    }
    return found;
}

std::string compare_trees(const std::string& mount, const std::string& model, bool xattrs) {
    const auto names = sorted_names(model);
    if (sorted_names(mount) != names) {
        return mount + " and " + model + " list different names: they differ";
    }
    const base::UniqueFd mount_root(open(mount.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    const base::UniqueFd model_root(open(model.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    for (const auto& name : names) {
        const auto ours = mount + "/" + name;
        const auto theirs = model + "/" + name;
        auto found = compare_objects(mount_root.get(), model_root.get(), name);

        struct stat status {};

        if (found.empty() && lstat(theirs.c_str(), &status) == 0) {
            if (S_ISDIR(status.st_mode)) {
                if (auto deeper = compare_trees(ours, theirs, xattrs); !deeper.empty()) {
                    return deeper;
                }
            } else if (S_ISREG(status.st_mode)) {
                found = compare_contents(ours, theirs);
            }
            if (found.empty() && xattrs && user_xattrs(ours) != user_xattrs(theirs)) {
                found = "xattrs differ: the mount has " + user_xattrs(ours) + ", the model " +
                        user_xattrs(theirs);
            }
        }
        if (!found.empty()) {
            return ours + ": " + found;
        }
    }
    return "";
}

}  // namespace safepair::exerciser
