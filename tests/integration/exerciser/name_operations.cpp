#include "comparison.hpp"
#include "report.hpp"
#include "tree.hpp"

#include <array>
#include <cerrno>
#include <ctime>

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

namespace safepair::exerciser {

void Tree::make_file() {
    const auto path = pick_new();
    const int flags = O_RDWR | O_CREAT | (random_.chance(1, 3) ? O_EXCL : 0) |
                      (random_.chance(1, 3) ? O_TRUNC : 0) | (random_.chance(1, 4) ? O_DIRECT : 0);
    constexpr std::array<mode_t, 4> modes{0644, 0600, 0755, 0666};
    if (auto pair = open_pair(path, flags, modes[below(modes.size())])) {
        write_at(*pair, 0, below(10000) + 1);
        compare_attributes(path);
    }
}

void Tree::make_directory() {
    const auto path = pick_new();
    const int ours = error_of(mkdirat(mount_root_.get(), path.c_str(), 0755));
    agree(ours, error_of(mkdirat(model_root_.get(), path.c_str(), 0755)), "mkdir " + path);
    compare_attributes(path);
}

void Tree::make_link() {
    const auto from = pick(Kind::any);
    const auto into = pick_new();
    if (from.empty()) {
        return;
    }
    const auto link = [&](int root) {
        return error_of(linkat(root, from.c_str(), root, into.c_str(), 0));
    };
    const int ours = link(mount_root_.get());
    agree(ours, link(model_root_.get()), "link " + from + " to " + into);
    compare_attributes(from);
    compare_attributes(into);
}

void Tree::make_symlink() {
    const auto path = pick_new();
    const auto target = "../somewhere/" + std::to_string(below(1000));
    const int ours = error_of(symlinkat(target.c_str(), mount_root_.get(), path.c_str()));
    agree(ours,
          error_of(symlinkat(target.c_str(), model_root_.get(), path.c_str())),
          "symlink " + path);
    compare_attributes(path);
}

void Tree::make_special() {
    const auto path = pick_new();
    const bool device = privileged_ && random_.chance(1, 2);
    const mode_t mode = (device ? S_IFCHR : S_IFIFO) | 0640U;
    const dev_t number = device ? makedev(1, 3) : 0;
    const int ours = error_of(mknodat(mount_root_.get(), path.c_str(), mode, number));
    agree(ours, error_of(mknodat(model_root_.get(), path.c_str(), mode, number)), "mknod " + path);
    compare_attributes(path);
}

void Tree::rename_some() {
    const auto from = pick(random_.chance(1, 4) ? Kind::directory : Kind::any);
    auto into = random_.chance(1, 2) ? pick(Kind::any) : pick_new();
    if (from.empty() || into.empty()) {
        return;
    }
    constexpr std::array<unsigned, 5> flags{0, 0, 0, RENAME_NOREPLACE, RENAME_EXCHANGE};
    const auto flag = flags[below(flags.size())];
    const auto rename = [&](int root) {
        return error_of(renameat2(root, from.c_str(), root, into.c_str(), flag));
    };
    const int ours = rename(mount_root_.get());
    agree(ours,
          rename(model_root_.get()),
          "rename " + from + " to " + into + " with flags " + std::to_string(flag));
    compare_attributes(from);
    compare_attributes(into);
}

void Tree::remove_file() {
    const auto path = pick(Kind::any);
    if (path.empty()) {
        return;
    }
    // Often while it is open, so that what is left without a name is exercised further.
    if (random_.chance(1, 2)) {
        open_one();
    }
    const int ours = error_of(unlinkat(mount_root_.get(), path.c_str(), 0));
    agree(ours, error_of(unlinkat(model_root_.get(), path.c_str(), 0)), "unlink " + path);
    compare_attributes(path);
}

void Tree::remove_directory() {
    const auto path = pick(Kind::directory);
    if (path.empty()) {
        return;
    }
    const int ours = error_of(unlinkat(mount_root_.get(), path.c_str(), AT_REMOVEDIR));
    agree(ours, error_of(unlinkat(model_root_.get(), path.c_str(), AT_REMOVEDIR)), "rmdir " + path);
    compare_attributes(path);
}

void Tree::change_mode() {
    const auto path = pick(Kind::file);
    if (path.empty()) {
        return;
    }
    // The owner keeps reading and writing; the set-id bits are part of it.
    const auto mode = static_cast<mode_t>(0600U | below(07777));
    const auto change = [&](int root) { return error_of(fchmodat(root, path.c_str(), mode, 0)); };
    const int ours = change(mount_root_.get());
    agree(ours, change(model_root_.get()), "chmod " + path);
    compare_attributes(path);
}

void Tree::change_owner() {
    const auto path = pick(Kind::any);
    if (path.empty() || !privileged_) {
        return;
    }
    const auto uid = static_cast<uid_t>(below(3));
    const auto gid = static_cast<gid_t>(below(3));
    const auto change = [&](int root) {
        return error_of(fchownat(root, path.c_str(), uid, gid, AT_SYMLINK_NOFOLLOW));
    };
    const int ours = change(mount_root_.get());
    agree(ours, change(model_root_.get()), "chown " + path);
    compare_attributes(path);
}

void Tree::change_times() {
    const auto path = pick(Kind::any);
    if (path.empty()) {
        return;
    }
    const std::array<timespec, 2> times{timespec{static_cast<time_t>(below(2'000'000'000)),
                                                 static_cast<long>(below(1'000'000'000))},
                                        timespec{static_cast<time_t>(below(2'000'000'000)),
                                                 static_cast<long>(below(1'000'000'000))}};
    const auto change = [&](int root) {
        return error_of(utimensat(root, path.c_str(), times.data(), AT_SYMLINK_NOFOLLOW));
    };
    const int ours = change(mount_root_.get());
    if (agree(ours, change(model_root_.get()), "utimens " + path)) {
        struct stat status {};

        if (fstatat(mount_root_.get(), path.c_str(), &status, AT_SYMLINK_NOFOLLOW) != 0 ||
            status.st_mtim.tv_sec != times[1].tv_sec ||
            status.st_mtim.tv_nsec != times[1].tv_nsec) {
            fail("utimens " + path + ": the mtime is not what was set");
        }
    }
}

void Tree::set_xattr() {
    const auto path = pick(Kind::file);
    if (path.empty() || !xattrs_) {
        return;
    }
    const auto name = "user.n" + std::to_string(below(4));
    const auto value = random_bytes(below(300));
    constexpr std::array<int, 4> flags{0, 0, XATTR_CREATE, XATTR_REPLACE};
    const int flag = flags[below(flags.size())];
    const auto set = [&](const std::string& root) {
        return error_of(
            lsetxattr((root + "/" + path).c_str(), name.c_str(), value.data(), value.size(), flag));
    };
    const int ours = set(mount_);
    if (!agree(ours, set(model_), "setxattr of " + path)) {
        return;
    }
    std::array<std::byte, 512> seen{};
    const auto size =
        lgetxattr((mount_ + "/" + path).c_str(), name.c_str(), seen.data(), seen.size());
    if (size != static_cast<ssize_t>(value.size()) ||
        !std::equal(value.begin(), value.end(), seen.begin())) {
        fail("xattr " + name + " of " + path + " is not what was set");
    }
}

void Tree::remove_xattr() {
    const auto path = pick(Kind::file);
    if (path.empty() || !xattrs_) {
        return;
    }
    const auto name = "user.n" + std::to_string(below(4));
    const auto remove = [&](const std::string& root) {
        return error_of(lremovexattr((root + "/" + path).c_str(), name.c_str()));
    };
    const int ours = remove(mount_);
    agree(ours, remove(model_), "removexattr of " + path);
}

void Tree::list_some() {
    const auto path = pick_directory();
    if (sorted_names(mount_ + "/" + path) != sorted_names(model_ + "/" + path)) {
        fail("the names in " + path + " differ");
    }
}

void Tree::stat_some() {
    const auto path = random_.chance(1, 3) ? pick_new() : pick(Kind::any);
    if (!path.empty()) {
        compare_attributes(path);
    }
}

}  // namespace safepair::exerciser
