// What is in flight: held answers, overlapping readers, parallel writers, the page cache, and the
// end of a session.

#include "unit/replica/fuse_door_support.hpp"

#include <array>
#include <cstring>
#include <fstream>
#include <future>

#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/mount.h>

using namespace safepair;
using namespace safepair::replica;
using namespace safepair::tests;

namespace {

constexpr std::size_t page = 4096;

/// Aligned, as O_DIRECT users have it.
struct Block {
    explicit Block(char fill) { bytes.fill(fill); }

    alignas(page) std::array<char, page> bytes{};
};

int put(const OpenFile& file, std::uint64_t offset, const Block& block) {
    return error_of(
        pwrite(file.get(), block.bytes.data(), block.bytes.size(), static_cast<off_t>(offset)));
}

/// The byte that the whole block consists of; '?' when it is mixed or cannot be read.
char take(const OpenFile& file, std::uint64_t offset) {
    Block block('\0');
    if (pread(file.get(), block.bytes.data(), block.bytes.size(), static_cast<off_t>(offset)) !=
        static_cast<ssize_t>(page)) {
        return '?';
    }
    const char first = block.bytes.front();
    return std::count(block.bytes.begin(), block.bytes.end(), first) == page ? first : '?';
}

/// A shared mapping, for child processes only: while this process faults or unmaps one of its
/// pages, the kernel holds the lock that the door's threads, in the same process here, need for
/// their memory.
struct Mapping {
    Mapping(const OpenFile& file, std::size_t length)
        : size(length),
          bytes(static_cast<char*>(
              mmap(nullptr, length, PROT_READ | PROT_WRITE, MAP_SHARED, file.get(), 0))) {
        if (bytes == MAP_FAILED) {
            _exit(125);
        }
    }

    ~Mapping() { munmap(bytes, size); }

    Mapping(const Mapping&) = delete;
    Mapping& operator=(const Mapping&) = delete;

    std::size_t size;
    char* bytes;
};

/// The number of the first step that went wrong, 0 when none did.
template <typename Work>
int in_child(Work work) {
    return as_user(0, 0, std::move(work));
}

template <typename Work>
auto start(Work work) {
    return std::async(std::launch::async, std::move(work));
}

/// A child process that has done `work` and stays until it is told to end.
class Holder {
  public:
    template <typename Work>
    explicit Holder(Work work) {
        std::array<int, 2> in{};
        std::array<int, 2> out{};
        REQUIRE(pipe2(in.data(), O_CLOEXEC) == 0);
        REQUIRE(pipe2(out.data(), O_CLOEXEC) == 0);
        pid_ = fork();
        if (pid_ == 0) {
            ::close(in[1]);
            work();
            char byte = 'r';
            if (::write(out[1], &byte, 1) == 1) {
                while (::read(in[0], &byte, 1) > 0) {
                }
            }
            _exit(0);
        }
        ::close(in[0]);
        ::close(out[1]);
        input_ = in[1];
        char ready = 0;
        CHECK(::read(out[0], &ready, 1) == 1);
        ::close(out[0]);
    }

    ~Holder() { end(); }

    Holder(const Holder&) = delete;
    Holder& operator=(const Holder&) = delete;

    void end() {
        if (input_ >= 0) {
            ::close(input_);
            input_ = -1;
            while (waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
            }
        }
    }

    [[nodiscard]] pid_t pid() const { return pid_; }

  private:
    pid_t pid_ = -1;
    int input_ = -1;
};

}  // namespace

TEST_CASE("FuseDoor: a write returns when it is answered and not before", "[door]") {
    NEEDS_FUSE();
    MountedFolder folder;
    OpenFile file(folder / "file", O_RDWR | O_CREAT | O_DIRECT);
    folder.front().hold(OperationKind::write);
    std::atomic<bool> returned = false;
    auto writer = start([&] {
        const int result = put(file, 0, Block('a'));
        returned = true;
        return result;
    });
    folder.front().wait_for_in_flight(1);
    CHECK_FALSE(returned);
    // Other requests go on meanwhile.
    CHECK(write_file(folder / "empty", "") == 0);
    folder.front().release();
    CHECK(writer.get() == 0);
}

TEST_CASE("FuseDoor: a reader that overlaps a write in flight waits for its answer", "[door]") {
    NEEDS_FUSE();
    MountedFolder folder;
    OpenFile file(folder / "file", O_RDWR | O_CREAT | O_DIRECT);
    REQUIRE(put(file, 0, Block('a')) == 0);
    REQUIRE(put(file, page, Block('b')) == 0);
    OpenFile again(folder / "file", O_RDONLY | O_DIRECT);
    folder.front().hold(OperationKind::write);
    auto writer = start([&] { return put(file, 0, Block('c')); });
    folder.front().wait_for_in_flight(1);
    std::atomic<bool> read = false;
    auto reader = start([&] {
        const char seen = take(again, 0);
        read = true;
        return seen;
    });
    folder.front().wait_for_fences(1);
    CHECK_FALSE(read);
    // Beside it there is nothing to wait for.
    CHECK(take(again, page) == 'b');
    folder.front().release();
    CHECK(writer.get() == 0);
    CHECK(reader.get() == 'c');
}

TEST_CASE("FuseDoor: lookup, stat and listing wait for names in flight", "[door]") {
    NEEDS_FUSE();
    MountedFolder folder;
    REQUIRE(mkdir((folder / "below").c_str(), 0755) == 0);
    const auto list = [&] {
        return std::distance(std::filesystem::directory_iterator(folder.mount_point() / "below"),
                             {});
    };
    const auto attributes = [&] {
        struct stat status {};
        return error_of(lstat((folder / "below").c_str(), &status));
    };
    // The kernel keeps such a create and lookups in its directory apart, so the name arrives beside
    // it.
    Operation operation;
    operation.kind = OperationKind::create;
    operation.parent = folder.id("below");
    operation.name = "directory";
    operation.file = base::random_id<FileId>();
    operation.attributes.type = NodeType::directory;
    operation.attributes.mode = 0755;
    folder.front().hold(OperationKind::create);
    folder.front().hold(OperationKind::set_attributes);
    std::atomic<int> answer = -1;
    const Completion done{
        [](void* context, int error) { *static_cast<std::atomic<int>*>(context) = error; },
        &answer};
    folder.front().submit(operation, done);
    auto lister = start(list);
    folder.front().wait_for_fences(1);
    auto looker =
        start([&] { return error_of(access((folder / "below/directory").c_str(), F_OK)); });
    folder.front().wait_for_fences(2);
    operation = {};
    operation.kind = OperationKind::set_attributes;
    operation.file = folder.id("below");
    operation.valid = attribute::mode;
    operation.attributes.mode = 0711;
    folder.front().submit(operation, done);
    auto viewer = start(attributes);
    CHECK(answer == -1);
    folder.front().release();
    CHECK(lister.get() == 1);
    CHECK(looker.get() == 0);
    CHECK(viewer.get() == 0);
}

TEST_CASE("FuseDoor: direct writes to one file are in flight together", "[door]") {
    NEEDS_FUSE();
    MountedFolder folder;
    constexpr std::size_t writers = 8;
    OpenFile file(folder / "file", O_RDWR | O_CREAT | O_DIRECT);
    REQUIRE(ftruncate(file.get(), writers * page) == 0);
    folder.front().hold(OperationKind::write);
    std::vector<std::future<int>> results;
    for (std::size_t i = 0; i < writers; ++i) {
        results.push_back(
            start([&, i] { return put(file, i * page, Block(static_cast<char>('a' + i))); }));
    }
    folder.front().wait_for_in_flight(writers);
    folder.front().release();
    for (auto& result : results) {
        CHECK(result.get() == 0);
    }
    for (std::size_t i = 0; i < writers; ++i) {
        CHECK(take(file, i * page) == static_cast<char>('a' + i));
    }
}

TEST_CASE("FuseDoor: names given in the options get direct I/O too", "[door]") {
    NEEDS_FUSE();
    MountedFolder folder(false, {"*.raw"});
    OpenFile file(folder / "disk.raw", O_RDWR | O_CREAT);
    REQUIRE(ftruncate(file.get(), 2 * page) == 0);
    folder.front().hold(OperationKind::write);
    auto one = start([&] { return put(file, 0, Block('a')); });
    auto two = start([&] { return put(file, page, Block('b')); });
    // Through the page cache the second would wait for the first in the kernel.
    folder.front().wait_for_in_flight(2);
    folder.front().release();
    CHECK(one.get() == 0);
    CHECK(two.get() == 0);
}

TEST_CASE("FuseDoor: a shared mapping writes through to the store", "[door]") {
    NEEDS_FUSE();
    MountedFolder folder;
    OpenFile file(folder / "file", O_RDWR | O_CREAT);
    REQUIRE(ftruncate(file.get(), 4 * page) == 0);
    CHECK(in_child([&] {
              const Mapping mapping(file, 4 * page);
              std::memset(mapping.bytes + page, 'm', page);
              return msync(mapping.bytes, mapping.size, MS_SYNC) == 0 ? 0 : 1;
          }) == 0);
    CHECK(read_file((folder.store_path() / "file").string()).substr(page, page) ==
          std::string(page, 'm'));
    CHECK(folder.front().seen(OperationKind::flush).size() == 1);
    // write(2), read(2) and the mapping are one.
    CHECK(in_child([&] {
              const Mapping mapping(file, 4 * page);
              if (put(file, 0, Block('w')) != 0 || mapping.bytes[page - 1] != 'w') {
                  return 1;
              }
              std::memset(mapping.bytes + 3 * page, 'x', page);
              return take(file, 3 * page) == 'x' ? 0 : 2;
          }) == 0);
    // Nobody asked for it, but the mapping is gone and the next one must find it.
    CHECK(read_file((folder.store_path() / "file").string())[3 * page] == 'x');
}

TEST_CASE("FuseDoor: cached and direct opens of one file see each other's writes", "[door]") {
    NEEDS_FUSE();
    MountedFolder folder;
    OpenFile cached(folder / "file", O_RDWR | O_CREAT);
    OpenFile direct(folder / "file", O_RDWR | O_DIRECT);
    REQUIRE(put(cached, 0, Block('a')) == 0);
    REQUIRE(put(cached, page, Block('a')) == 0);
    CHECK(take(direct, 0) == 'a');
    CHECK(in_child([&] {
              const Mapping mapping(cached, 2 * page);
              for (char round = 'b'; round < 'k'; ++round) {
                  if (put(direct, 0, Block(round)) != 0) {
                      return 1;
                  }
                  if (take(cached, 0) != round || mapping.bytes[page - 1] != round) {
                      return 2;
                  }
                  // Dirty pages of the mapping, never synchronised.
                  std::memset(mapping.bytes + page, round, page);
                  if (take(direct, page) != round) {
                      return 3;
                  }
                  // A direct write of half a page keeps what the mapping wrote to the other half.
                  const char before = static_cast<char>(round - 1);
                  std::memset(mapping.bytes, before, page);
                  const Block half(round);
                  if (pwrite(direct.get(), half.bytes.data(), page / 2, 0) != page / 2) {
                      return 4;
                  }
                  Block seen('\0');
                  if (pread(cached.get(), seen.bytes.data(), page, 0) != page ||
                      std::count(seen.bytes.begin(), seen.bytes.begin() + page / 2, round) !=
                          page / 2 ||
                      std::count(seen.bytes.begin() + page / 2, seen.bytes.end(), before) !=
                          page / 2) {
                      return 5;
                  }
              }
              return 0;
          }) == 0);
}

TEST_CASE("FuseDoor: a cached read in flight with a direct write leaves no old page behind",
          "[door]") {
    NEEDS_FUSE();
    MountedFolder folder;
    OpenFile cached(folder / "file", O_RDWR | O_CREAT);
    OpenFile direct(folder / "file", O_RDWR | O_DIRECT);
    REQUIRE(put(direct, 0, Block('a')) == 0);
    folder.front().hold(OperationKind::write);
    auto writer = start([&] { return put(direct, 0, Block('b')); });
    folder.front().wait_for_in_flight(1);
    auto reader = start([&] { return take(cached, 0); });
    folder.front().wait_for_fences(1);
    folder.front().release();
    CHECK(writer.get() == 0);
    CHECK(reader.get() == 'b');
    CHECK(take(cached, 0) == 'b');
}

TEST_CASE("FuseDoor: a page read just before a direct write is applied goes", "[door]") {
    NEEDS_FUSE();
    MountedFolder folder;
    OpenFile cached(folder / "file", O_RDWR | O_CREAT);
    OpenFile direct(folder / "file", O_RDWR | O_DIRECT);
    REQUIRE(put(direct, 0, Block('a')) == 0);
    folder.front().delay(OperationKind::write);
    auto writer = start([&] { return put(direct, 0, Block('b')); });
    // The kernel has dropped the page for this write already; now it comes back with the old bytes.
    folder.front().wait_for_delayed();
    CHECK(take(cached, 0) == 'a');
    folder.front().release();
    CHECK(writer.get() == 0);
    CHECK(take(cached, 0) == 'b');
}

TEST_CASE("FuseDoor: after the last cached handle closed, direct writes stay coherent", "[door]") {
    NEEDS_FUSE();
    MountedFolder folder;
    OpenFile direct(folder / "file", O_RDWR | O_CREAT | O_DIRECT);
    for (char round = 'a'; round < 'h'; ++round) {
        REQUIRE(put(direct, 0, Block(round)) == 0);
        OpenFile cached(folder / "file", O_RDONLY);
        CHECK(take(cached, 0) == round);
    }
}

TEST_CASE("FuseDoor: a busy folder is not closed, and the error names who uses it", "[door]") {
    NEEDS_FUSE();
    MountedFolder folder;
    REQUIRE(write_file(folder / "file", "x") == 0);
    const auto path = folder / "file";
    Holder holder([&] { [[maybe_unused]] const int held = open(path.c_str(), O_RDONLY); });
    const auto refused = folder.door().close(false);
    REQUIRE_FALSE(refused);
    CHECK(refused.error().code == std::errc::device_or_resource_busy);
    CHECK(refused.error().message().find(std::to_string(holder.pid())) != std::string::npos);
    CHECK(refused.error().message().find(folder / "file") != std::string::npos);
    // Still in service.
    CHECK(read_file(folder / "file") == "x");
    holder.end();
    CHECK(folder.door().close(false));
    CHECK(folder.door().close(false));
    CHECK(error_of(access((folder / "file").c_str(), F_OK)) == ENOENT);
    // And again, with everything still there.
    folder.mount();
    CHECK(read_file(folder / "file") == "x");
}

TEST_CASE("FuseDoor: a mount inside the folder keeps it busy, and the error says so", "[door]") {
    NEEDS_FUSE();
    MountedFolder folder;
    REQUIRE(mkdir((folder / "inner").c_str(), 0755) == 0);
    REQUIRE(mount("none", (folder / "inner").c_str(), "tmpfs", 0, nullptr) == 0);
    const auto refused = folder.door().close(false);
    REQUIRE(umount((folder / "inner").c_str()) == 0);
    REQUIRE_FALSE(refused);
    CHECK(refused.error().message().find("inner is mounted in it") != std::string::npos);
    CHECK(folder.door().close(false));
}

TEST_CASE("FuseDoor: a forced close ends hung requests and late answers do no harm", "[door]") {
    NEEDS_FUSE();
    MountedFolder folder;
    OpenFile direct(folder / "file", O_RDWR | O_CREAT | O_DIRECT);
    OpenFile reading(folder / "file", O_RDONLY | O_DIRECT);
    REQUIRE(put(direct, 0, Block('a')) == 0);
    folder.front().hold(OperationKind::write);
    folder.front().hold(OperationKind::create);
    auto writer = start([&] { return put(direct, 0, Block('b')); });
    auto maker = start([&] { return error_of(mkdir((folder / "directory").c_str(), 0755)); });
    folder.front().wait_for_in_flight(2);
    auto reader = start([&] {
        char byte = 0;
        return error_of(pread(reading.get(), &byte, 1, 0));
    });
    folder.front().wait_for_fences(1);
    CHECK(folder.door().close(true));
    CHECK(writer.get() == ENOTCONN);
    CHECK(maker.get() == ENOTCONN);
    CHECK(reader.get() == ENOTCONN);
    CHECK(put(direct, 0, Block('c')) == ENOTCONN);
    CHECK(error_of(access((folder / "file").c_str(), F_OK)) == ENOENT);
    folder.front().release();
    CHECK(folder.door().close(true));
    // A fresh mount serves while the old handles still exist.
    folder.mount();
    CHECK(stat_of(folder / "file").st_size == page);
    CHECK(put(direct, 0, Block('c')) == ENOTCONN);
}

TEST_CASE("FuseDoor: a forced close keeps what a mapping wrote when the front still answers",
          "[door]") {
    NEEDS_FUSE();
    MountedFolder folder;
    OpenFile file(folder / "file", O_RDWR | O_CREAT);
    REQUIRE(ftruncate(file.get(), page) == 0);
    Holder holder([&] {
        auto* bytes = static_cast<char*>(
            mmap(nullptr, page, PROT_READ | PROT_WRITE, MAP_SHARED, file.get(), 0));
        if (bytes != MAP_FAILED) {
            bytes[7] = 'm';
        }
    });
    REQUIRE(folder.door().close(true));
    CHECK(read_file((folder.store_path() / "file").string())[7] == 'm');
}

TEST_CASE("FuseDoor: a door whose mount somebody took away closes without an error", "[door]") {
    NEEDS_FUSE();
    MountedFolder folder;
    REQUIRE(write_file(folder / "file", "x") == 0);
    REQUIRE(umount(folder.mount_point().c_str()) == 0);
    CHECK(folder.door().close(false));
}

TEST_CASE("FuseDoor: closing gives every open file back to the store", "[door]") {
    NEEDS_FUSE();
    MountedFolder folder;
    OpenFile file(folder / "file", O_RDWR | O_CREAT);
    REQUIRE(file.write(0, "x") == 0);
    const auto id = folder.id("file");
    REQUIRE(unlink((folder / "file").c_str()) == 0);
    CHECK(folder.front().store().knows(id));
    REQUIRE(folder.door().close(true));
    CHECK_FALSE(folder.front().store().knows(id));
    folder.front().wait_for_closed(id);
}

TEST_CASE("FuseDoor: mounting reports what is wrong with the mount point", "[door]") {
    NEEDS_FUSE();
    MountedFolder folder;
    FuseOptions options;
    options.mount_point = folder.store_path() / "none";
    options.name = "safepair:none";
    const auto mounted = mount_fuse_door(options, folder.front());
    REQUIRE_FALSE(mounted);
    CHECK(mounted.error().code == std::errc::no_such_file_or_directory);
    CHECK(mounted.error().message().find("store/none") != std::string::npos);
}

TEST_CASE("FuseDoor: the mount shows its module in the mount table", "[door]") {
    NEEDS_FUSE();
    MountedFolder folder;
    std::ifstream table("/proc/self/mounts");
    bool found = false;
    for (std::string line; std::getline(table, line);) {
        if (line.find(folder.mount_point().string()) != std::string::npos) {
            found = line.rfind("safepair:test ", 0) == 0 &&
                    line.find("default_permissions,allow_other") != std::string::npos &&
                    line.find("nosuid") == std::string::npos;
        }
    }
    CHECK(found);
}
