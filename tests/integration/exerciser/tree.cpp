#include "tree.hpp"

#include "comparison.hpp"
#include "report.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace safepair::exerciser {

namespace {

constexpr unsigned names_per_directory = 12;
constexpr unsigned depth_max = 4;
constexpr std::uint64_t offset_max = 1024 * 1024;

base::UniqueFd open_directory(const std::string& path) {
    base::UniqueFd fd(open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!fd) {
        fail("cannot open " + path + ": " + errno_text(errno));
    }
    return fd;
}

}  // namespace

struct Tree::Choice {
    const char* name;
    unsigned weight;
    void (Tree::*act)();
};

const std::vector<Tree::Choice>& Tree::choices() {
    static const std::vector<Choice> all{
        {"create", 12, &Tree::make_file},        {"mkdir", 6, &Tree::make_directory},
        {"link", 4, &Tree::make_link},           {"symlink", 3, &Tree::make_symlink},
        {"mknod", 1, &Tree::make_special},       {"rename", 10, &Tree::rename_some},
        {"unlink", 6, &Tree::remove_file},       {"rmdir", 3, &Tree::remove_directory},
        {"chmod", 3, &Tree::change_mode},        {"chown", 2, &Tree::change_owner},
        {"utimens", 3, &Tree::change_times},     {"setxattr", 4, &Tree::set_xattr},
        {"removexattr", 2, &Tree::remove_xattr}, {"list", 4, &Tree::list_some},
        {"stat", 6, &Tree::stat_some},           {"open", 10, &Tree::open_one},
        {"close", 8, &Tree::close_one},          {"write", 24, &Tree::write_some},
        {"append", 4, &Tree::append_some},       {"durable write", 3, &Tree::write_durable},
        {"read", 20, &Tree::read_some},          {"truncate", 6, &Tree::truncate_some},
        {"fallocate", 6, &Tree::allocate_some},  {"mmap", 8, &Tree::map_some},
        {"fsync", 3, &Tree::flush_some},         {"copy", 2, &Tree::copy_some},
    };
    return all;
}

Tree::Tree(std::string mount, std::string model, std::uint64_t seed, bool privileged, bool xattrs)
    : mount_(std::move(mount)),
      model_(std::move(model)),
      mount_root_(open_directory(mount_)),
      model_root_(open_directory(model_)),
      random_(seed),
      privileged_(privileged),
      xattrs_(xattrs) {}

void Tree::step() {
    static const auto total = [] {
        unsigned sum = 0;
        for (const auto& choice : choices()) {
            sum += choice.weight;
        }
        return sum;
    }();
    auto at = below(total);
    for (const auto& choice : choices()) {
        if (at < choice.weight) {
            place().operation = choice.name;
            (this->*choice.act)();
            return;
        }
        at -= choice.weight;
    }
}

void Tree::finish() {
    place().operation = "the last look at open files";
    while (!open_.empty()) {
        compare_range(open_.back(), 0, offset_max * 2);
        open_.pop_back();
    }
}

// Choice

std::string join(const std::string& directory, const std::string& name) {
    return directory == "." ? name : directory + "/" + name;
}

std::string Tree::pick(Kind kind) {
    std::string at = ".";
    for (unsigned depth = 0;; ++depth) {
        const auto names = sorted_names(model_ + "/" + at);
        if (names.empty()) {
            return kind == Kind::directory && at != "." ? at : "";
        }
        const auto path = join(at, names[below(names.size())]);

        struct stat status {};

        if (fstatat(model_root_.get(), path.c_str(), &status, AT_SYMLINK_NOFOLLOW) != 0) {
            fail("the model lost " + path);
        }
        const bool directory = S_ISDIR(status.st_mode);
        if (directory && (kind == Kind::file || depth < 1 || random_.chance(1, 2))) {
            if (kind != Kind::file && random_.chance(1, 3)) {
                return path;
            }
            at = path;
            continue;
        }
        const bool fits = kind == Kind::any || (kind == Kind::directory) == directory;
        if (kind == Kind::file && !S_ISREG(status.st_mode)) {
            return "";
        }
        return fits ? path : (kind == Kind::directory && at != "." ? at : "");
    }
}

std::string Tree::pick_directory() {
    const auto found = pick(Kind::directory);
    const auto depth = std::count(found.begin(), found.end(), '/');
    return found.empty() || depth + 1 >= static_cast<long>(depth_max) || random_.chance(1, 3)
               ? "."
               : found;
}

std::string Tree::pick_new() {
    return join(pick_directory(), "n" + std::to_string(below(names_per_directory)));
}

OpenPair* Tree::pick_open() {
    if (open_.empty() || random_.chance(1, 8)) {
        open_one();
    }
    return open_.empty() ? nullptr : &open_[below(open_.size())];
}

std::vector<std::byte> Tree::random_bytes(std::size_t count) {
    std::vector<std::byte> bytes(count + sizeof(std::uint64_t));
    for (std::size_t i = 0; i < count; i += sizeof(std::uint64_t)) {
        const auto value = random_.next();
        std::memcpy(bytes.data() + i, &value, sizeof(value));
    }
    bytes.resize(count);
    return bytes;
}

std::uint64_t Tree::pick_offset() {
    // Small offsets often, so that operations overlap.
    return random_.chance(1, 2) ? below(64UL * 1024) : below(offset_max);
}

// Comparison

bool Tree::agree(int mount_error, int model_error, const std::string& what) {
    const auto same = [](int error) { return error == EEXIST ? ENOTEMPTY : error; };
    if (same(mount_error) != same(model_error)) {
        fail(what + ": the mount says " + errno_text(mount_error) + ", the model says " +
             errno_text(model_error));
    }
    return mount_error == 0;
}

void Tree::compare_range(const OpenPair& pair, std::uint64_t offset, std::size_t length) {
    std::string difference;
    if (!same_bytes(pair.mount.get(), pair.model.get(), offset, length, difference)) {
        fail(pair.opened_as + (pair.direct ? " (direct)" : "") + ": " + difference);
    }
}

void Tree::compare_attributes(const std::string& path) {
    if (const auto difference = compare_objects(mount_root_.get(), model_root_.get(), path);
        !difference.empty()) {
        fail(path + ": " + difference);
    }
}

}  // namespace safepair::exerciser
