#include "shared_blocks.hpp"

#include "report.hpp"

#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include <fcntl.h>
#include <unistd.h>

namespace safepair::exerciser {

namespace {

constexpr std::size_t block_bytes = 4096;
constexpr std::uint64_t slots = 48;
constexpr std::uint64_t magic = 0x53414645'50414952ULL;
/// A read beside a write of the same block may be mixed, as on any Linux file system; a wrong block
/// stays wrong.
constexpr int reads_max = 200;

constexpr std::size_t words = block_bytes / sizeof(std::uint64_t);

/// magic, process, counter, slot, filling ..., sum of all before.
struct Block {
    alignas(block_bytes) std::array<std::uint64_t, words> word{};
};

std::uint64_t sum_of(const Block& block) {
    std::uint64_t sum = 0;
    for (std::size_t i = 0; i + 1 < words; ++i) {
        sum = (sum ^ block.word[i]) * 0x9E3779B97F4A7C15ULL;
        sum ^= sum >> 29U;
    }
    return sum;
}

void fill(Block& block, std::uint64_t process, std::uint64_t counter, std::uint64_t slot) {
    base::Prng filling(process * 1'000'003 + counter);
    block.word[0] = magic;
    block.word[1] = process;
    block.word[2] = counter;
    block.word[3] = slot;
    for (std::size_t i = 4; i + 1 < words; ++i) {
        block.word[i] = filling.next();
    }
    block.word[words - 1] = sum_of(block);
}

/// "" when it is one write in its place, or was never written.
std::string fault_of(const Block& block, std::uint64_t slot) {
    static const Block never;
    if (block.word == never.word) {
        return "";
    }
    if (block.word[0] != magic || block.word[words - 1] != sum_of(block)) {
        return "block " + std::to_string(slot) + " is no single write";
    }
    if (block.word[3] != slot) {
        return "block " + std::to_string(slot) + " holds what belongs to " +
               std::to_string(block.word[3]);
    }
    Block expected;
    fill(expected, block.word[1], block.word[2], slot);
    return expected.word == block.word
               ? ""
               : "block " + std::to_string(slot) + " was never written like this";
}

int read_block(int fd, std::uint64_t slot, Block& block) {
    for (;;) {
        const auto got =
            pread(fd, block.word.data(), block_bytes, static_cast<off_t>(slot * block_bytes));
        if (got < 0 && errno == EINTR) {
            continue;
        }
        return got == static_cast<ssize_t>(block_bytes) ? 0 : (got < 0 ? errno : EIO);
    }
}

base::UniqueFd open_file(const std::string& path, int flags) {
    base::UniqueFd fd(open(path.c_str(), flags | O_CLOEXEC, 0644));
    if (!fd) {
        fail("open " + path + ": " + errno_text(errno));
    }
    return fd;
}

}  // namespace

void SharedBlocks::make(const std::string& path) {
    const auto file = open_file(path, O_RDWR | O_CREAT);
    // Its size never changes, so that direct writers run side by side.
    if (ftruncate(file.get(), static_cast<off_t>(slots * block_bytes)) != 0) {
        fail("truncate " + path + ": " + errno_text(errno));
    }
}

SharedBlocks::SharedBlocks(std::string path, unsigned process, std::uint64_t seed)
    : path_(std::move(path)),
      process_(process),
      random_(seed),
      direct_(open_file(path_, O_RDWR | O_DIRECT)) {}

void SharedBlocks::step() {
    // Now and then through the page cache too; most of the time direct only, because the kernel
    // runs direct writers side by side only while nobody has the file open the other way.
    if (random_.chance(1, 40)) {
        if (cached_) {
            cached_.reset();
        } else {
            cached_ = open_file(path_, O_RDWR);
        }
    }
    place().operation = "shared blocks";
    const auto slot = random_.below(slots);
    if (random_.chance(2, 3)) {
        write_block(slot);
    } else {
        check_block(slot);
    }
}

void SharedBlocks::write_block(std::uint64_t slot) {
    Block block;
    fill(block, process_ + 1, ++counter_, slot);
    const int fd = cached_ && random_.chance(1, 2) ? cached_.get() : direct_.get();
    for (;;) {
        const auto put =
            pwrite(fd, block.word.data(), block_bytes, static_cast<off_t>(slot * block_bytes));
        if (put < 0 && errno == EINTR) {
            continue;
        }
        if (put != static_cast<ssize_t>(block_bytes)) {
            fail("write of a shared block: " + errno_text(put < 0 ? errno : EIO));
        }
        return;
    }
}

void SharedBlocks::check_block(std::uint64_t slot) {
    Block block;
    const int fd = cached_ && random_.chance(1, 2) ? cached_.get() : direct_.get();
    std::string fault;
    for (int i = 0; i < reads_max; ++i) {
        if (const int error = read_block(fd, slot, block); error != 0) {
            fail("read of a shared block: " + errno_text(error));
        }
        fault = fault_of(block, slot);
        if (fault.empty()) {
            return;
        }
    }
    fail("shared file: " + fault);
}

std::string SharedBlocks::check_all(const std::string& path) {
    const auto cached = open_file(path, O_RDONLY);
    const auto direct = open_file(path, O_RDONLY | O_DIRECT);
    for (std::uint64_t slot = 0; slot < slots; ++slot) {
        Block seen;
        Block beside;
        if (read_block(cached.get(), slot, seen) != 0 ||
            read_block(direct.get(), slot, beside) != 0) {
            return "cannot read block " + std::to_string(slot) + " of " + path;
        }
        if (auto fault = fault_of(seen, slot); !fault.empty()) {
            return path + ": " + fault;
        }
        if (seen.word != beside.word) {
            return path + ": block " + std::to_string(slot) +
                   " differs through the page cache and past it";
        }
    }
    return "";
}

}  // namespace safepair::exerciser
