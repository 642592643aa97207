#include "report.hpp"
#include "tree.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <utility>

#include <fcntl.h>
#include <linux/falloc.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

namespace safepair::exerciser {

namespace {

constexpr std::uint64_t block = 4096;
constexpr std::uint64_t length_max = 128 * 1024;
constexpr std::size_t open_files_max = 6;
constexpr std::uint64_t file_size_max = 2 * 1024 * 1024;

struct FreeMemory {
    void operator()(std::byte* memory) const noexcept { std::free(memory); }
};

/// 0, an errno, or -1 when fewer bytes than asked were written.
int write_fully(int fd, const std::vector<std::byte>& bytes, std::uint64_t offset) {
    // O_DIRECT wants aligned memory.
    const std::size_t room = (bytes.size() + block - 1) / block * block;
    const std::unique_ptr<std::byte, FreeMemory> aligned(
        static_cast<std::byte*>(std::aligned_alloc(block, std::max<std::size_t>(room, block))));
    std::memcpy(aligned.get(), bytes.data(), bytes.size());
    for (;;) {
        const auto put = pwrite(fd, aligned.get(), bytes.size(), static_cast<off_t>(offset));
        if (put < 0 && errno == EINTR) {
            continue;
        }
        if (put < 0) {
            return errno;
        }
        return put == static_cast<ssize_t>(bytes.size()) ? 0 : -1;
    }
}

std::uint64_t size_of(const OpenPair& pair) {
    struct stat status {};

    return fstat(pair.model.get(), &status) == 0 ? static_cast<std::uint64_t>(status.st_size) : 0;
}

}  // namespace

std::optional<OpenPair> Tree::open_pair(const std::string& path, int flags, mode_t mode) {
    OpenPair pair;
    pair.mount = base::UniqueFd(
        openat(mount_root_.get(), path.c_str(), flags | O_NOFOLLOW | O_CLOEXEC, mode));
    const int ours = pair.mount ? 0 : errno;
    // The model needs no direct I/O to hold the same bytes.
    pair.model = base::UniqueFd(openat(
        model_root_.get(), path.c_str(), (flags & ~O_DIRECT) | O_NOFOLLOW | O_CLOEXEC, mode));
    const int theirs = pair.model ? 0 : errno;
    if (!agree(ours, theirs, "open " + path)) {
        return std::nullopt;
    }
    pair.direct = (flags & O_DIRECT) != 0;
    pair.append = (flags & O_APPEND) != 0;
    pair.opened_as = path;
    return pair;
}

void Tree::open_one() {
    const auto path = pick(Kind::file);
    if (path.empty()) {
        return;
    }
    constexpr std::array<int, 5> flags{0, 0, O_DIRECT, O_DSYNC, O_DIRECT | O_DSYNC};
    if (open_.size() >= open_files_max) {
        close_one();
    }
    if (auto pair = open_pair(path, O_RDWR | flags[below(flags.size())])) {
        open_.push_back(std::move(*pair));
    }
}

void Tree::close_one() {
    if (open_.empty()) {
        return;
    }
    const auto which = static_cast<std::ptrdiff_t>(below(open_.size()));
    if (random_.chance(1, 3)) {
        compare_range(open_[static_cast<std::size_t>(which)], 0, file_size_max);
    }
    open_.erase(open_.begin() + which);
}

void Tree::write_at(OpenPair& pair, std::uint64_t offset, std::size_t length) {
    if (pair.direct) {
        offset = offset / block * block;
        length = (length + block - 1) / block * block;
    }
    const auto bytes = random_bytes(length);
    const int ours = write_fully(pair.mount.get(), bytes, offset);
    const int theirs = write_fully(pair.model.get(), bytes, offset);
    agree(ours,
          theirs,
          "write " + std::to_string(length) + " bytes at " + std::to_string(offset) + " of " +
              pair.opened_as);
}

void Tree::write_some() {
    if (auto* pair = pick_open()) {
        const auto length = random_.chance(1, 4) ? below(length_max) + 1 : below(8192) + 1;
        write_at(*pair, pick_offset(), length);
        if (random_.chance(1, 4)) {
            compare_range(*pair, 0, file_size_max);
        }
    }
}

void Tree::append_some() {
    const auto path = pick(Kind::file);
    if (path.empty()) {
        return;
    }
    auto pair = open_pair(path, O_WRONLY | O_APPEND);
    if (pair && size_of(*pair) < file_size_max) {
        const auto bytes = random_bytes(below(20000) + 1);
        const auto append = [&bytes](int fd) {
            const auto put = ::write(fd, bytes.data(), bytes.size());
            return put == static_cast<ssize_t>(bytes.size()) ? 0 : (put < 0 ? errno : -1);
        };
        const int ours = append(pair->mount.get());
        agree(ours, append(pair->model.get()), "append to " + path);
    }
}

void Tree::write_durable() {
    const auto path = pick(Kind::file);
    if (path.empty()) {
        return;
    }
    if (auto pair = open_pair(path, O_RDWR | (random_.chance(1, 2) ? O_DSYNC : O_SYNC))) {
        write_at(*pair, pick_offset(), below(16384) + 1);
        compare_range(*pair, 0, length_max);
    }
}

void Tree::read_some() {
    const auto length = below(length_max) + 1;
    if (random_.chance(1, 2)) {
        if (auto* pair = pick_open()) {
            compare_range(*pair, pick_offset(), length);
        }
        return;
    }
    const auto path = pick(Kind::file);
    if (path.empty()) {
        return;
    }
    if (auto pair = open_pair(path, O_RDONLY | (random_.chance(1, 3) ? O_DIRECT : 0))) {
        compare_range(*pair, pick_offset(), length);
    }
}

void Tree::truncate_some() {
    const auto size = static_cast<off_t>(pick_offset());
    if (random_.chance(1, 2)) {
        if (auto* pair = pick_open()) {
            const int ours = error_of(ftruncate(pair->mount.get(), size));
            agree(ours,
                  error_of(ftruncate(pair->model.get(), size)),
                  "truncate the open " + pair->opened_as);
        }
        return;
    }
    const auto path = pick(Kind::file);
    if (!path.empty()) {
        const int ours = error_of(truncate((mount_ + "/" + path).c_str(), size));
        agree(ours, error_of(truncate((model_ + "/" + path).c_str(), size)), "truncate " + path);
        compare_attributes(path);
    }
}

void Tree::allocate_some() {
    auto* pair = pick_open();
    if (pair == nullptr) {
        return;
    }
    constexpr std::array<int, 5> modes{0,
                                       FALLOC_FL_KEEP_SIZE,
                                       FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                                       FALLOC_FL_ZERO_RANGE,
                                       FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE};
    const int mode = modes[below(modes.size())];
    const auto offset = static_cast<off_t>(pick_offset());
    const auto length = static_cast<off_t>(below(length_max) + 1);
    const int theirs = error_of(fallocate(pair->model.get(), mode, offset, length));
    if (theirs == EOPNOTSUPP) {
        // A model on another file system; nothing to compare with.
        return;
    }
    const int ours = error_of(fallocate(pair->mount.get(), mode, offset, length));
    if (agree(ours, theirs, "fallocate mode " + std::to_string(mode) + " of " + pair->opened_as)) {
        compare_range(*pair, static_cast<std::uint64_t>(offset), static_cast<std::size_t>(length));
    }
}

void Tree::map_some() {
    const auto path = pick(Kind::file);
    if (path.empty()) {
        return;
    }
    auto pair = open_pair(path, O_RDWR);
    const auto size = pair ? size_of(*pair) : 0;
    if (size == 0) {
        return;
    }
    auto* mapped = static_cast<std::byte*>(
        mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, pair->mount.get(), 0));
    if (mapped == MAP_FAILED) {
        fail("mmap " + path + ": " + errno_text(errno));
    }
    for (auto rounds = below(3) + 1; rounds > 0; --rounds) {
        const auto offset = below(size);
        const auto length = std::min(below(20000) + 1, size - offset);
        const auto bytes = random_bytes(length);
        std::memcpy(mapped + offset, bytes.data(), length);
        if (const int error = write_fully(pair->model.get(), bytes, offset); error != 0) {
            fail("the model of " + path + ": " + errno_text(error));
        }
    }
    if (random_.chance(1, 2) && msync(mapped, size, MS_SYNC) != 0) {
        fail("msync " + path + ": " + errno_text(errno));
    }
    if (random_.chance(1, 2)) {
        // Seen by read(2) at once, whether synchronised or not; also past the page cache.
        auto direct = open_pair(path, O_RDONLY | (random_.chance(1, 2) ? O_DIRECT : 0));
        if (direct) {
            compare_range(*direct, 0, size);
        }
    }
    munmap(mapped, size);
    if (random_.chance(1, 2)) {
        compare_range(*pair, 0, size);
    }
}

void Tree::flush_some() {
    if (auto* pair = pick_open()) {
        const bool data_only = random_.chance(1, 2);
        const int fd = pair->mount.get();
        if (const int error = error_of(data_only ? fdatasync(fd) : fsync(fd)); error != 0) {
            fail("fsync " + pair->opened_as + ": " + errno_text(error));
        }
    }
    if (random_.chance(1, 3)) {
        const auto path = pick_directory();
        const base::UniqueFd directory(
            openat(mount_root_.get(), path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
        if (!directory || fsync(directory.get()) != 0) {
            fail("fsync of the directory " + path + ": " + errno_text(errno));
        }
    }
}

void Tree::copy_some() {
    const auto from = pick(Kind::file);
    const auto into = pick(Kind::file);
    if (from.empty() || into.empty() || from == into) {
        return;
    }
    auto source = open_pair(from, O_RDONLY);
    auto target = open_pair(into, O_RDWR);
    if (!source || !target) {
        return;
    }
    const auto length = below(length_max) + 1;
    const auto place_from = pick_offset();
    const auto place_into = pick_offset();
    const auto copy = [&](int out_of, int fd) -> ssize_t {
        auto at = static_cast<off_t>(place_from);
        auto to = static_cast<off_t>(place_into);
        std::size_t done = 0;
        while (done < length) {
            const auto got = copy_file_range(out_of, &at, fd, &to, length - done, 0);
            if (got < 0) {
                return -errno;
            }
            if (got == 0) {
                break;
            }
            done += static_cast<std::size_t>(got);
        }
        return static_cast<ssize_t>(done);
    };
    // Hard links: a file copied onto itself with overlap is EINVAL, and then on both sides.
    const auto ours = copy(source->mount.get(), target->mount.get());
    const auto theirs = copy(source->model.get(), target->model.get());
    if (ours != theirs) {
        fail("copy_file_range of " + from + " into " + into + ": the mount says " +
             std::to_string(ours) + ", the model says " + std::to_string(theirs));
    }
    compare_range(*target, place_into, length);
}

}  // namespace safepair::exerciser
