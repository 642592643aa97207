#include <safepair/replica/store.hpp>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <map>
#include <string>
#include <thread>

#include <fcntl.h>
#include <linux/falloc.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "support/catch.hpp"
#include "support/scratch_directory.hpp"

using namespace safepair;
using namespace safepair::replica;
using safepair::tests::ScratchDirectory;

namespace {

constexpr std::int64_t some_time = 1'700'000'000'123'456'789;

bool has_trusted_xattrs(const std::filesystem::path& directory) {
    if (lsetxattr(directory.c_str(), "trusted.safepair.probe", "1", 1, 0) == 0) {
        lremovexattr(directory.c_str(), "trusted.safepair.probe");
        return true;
    }
    WARN("SKIPPED: no trusted xattrs in " << directory << " (needs root)");
    return false;
}

std::span<const std::byte> bytes_of(const std::string& text) {
    return std::as_bytes(std::span(text.data(), text.size()));
}

struct Copy {
    ScratchDirectory directory{"safepair-store"};
    std::unique_ptr<Store> store;
    std::vector<FileId> fresh;

    Copy() { reopen(); }

    void reopen() {
        store.reset();
        fresh.clear();
        auto opened = open_posix_store(directory.path(), &fresh);
        if (!opened) {
            FAIL(opened.error().message());
        }
        store = std::move(*opened);
    }

    int apply(const Operation& operation) {
        const auto done = store->apply(operation);
        return done ? 0 : done.error().code.value();
    }

    FileId make(FileId parent, const std::string& name, NodeType type, std::uint32_t mode = 0644) {
        Operation operation;
        operation.kind = OperationKind::create;
        operation.parent = parent;
        operation.name = name;
        operation.file = base::random_id<FileId>();
        operation.attributes.type = type;
        operation.attributes.mode = mode;
        operation.text = type == NodeType::symlink ? "target/of/link" : "";
        operation.time = some_time;
        REQUIRE(apply(operation) == 0);
        return operation.file;
    }

    int write(FileId file, std::uint64_t offset, const std::string& text, bool durable = false) {
        Operation operation;
        operation.kind = OperationKind::write;
        operation.file = file;
        operation.offset = offset;
        operation.data = bytes_of(text);
        operation.durable = durable;
        return apply(operation);
    }

    std::string read(FileId file, std::size_t count = 1 << 16) {
        std::string text(count, '\0');
        const auto got = store->read(file, 0, std::as_writable_bytes(std::span(text)));
        if (!got) {
            return "error " + std::to_string(got.error().code.value());
        }
        text.resize(*got);
        return text;
    }

    int rename(FileId parent,
               const std::string& name,
               FileId new_parent,
               const std::string& new_name,
               unsigned flags = 0) {
        Operation operation;
        operation.kind = OperationKind::rename;
        operation.parent = parent;
        operation.name = name;
        operation.new_parent = new_parent;
        operation.new_name = new_name;
        operation.flags = flags;
        operation.time = some_time;
        return apply(operation);
    }

    int unlink(FileId parent, const std::string& name, bool directory_wanted = false) {
        Operation operation;
        operation.kind = directory_wanted ? OperationKind::rmdir : OperationKind::unlink;
        operation.parent = parent;
        operation.name = name;
        operation.time = some_time;
        return apply(operation);
    }

    int link(FileId file, FileId parent, const std::string& name) {
        Operation operation;
        operation.kind = OperationKind::link;
        operation.file = file;
        operation.parent = parent;
        operation.name = name;
        return apply(operation);
    }

    FileId find(FileId parent, const std::string& name) {
        const auto found = store->lookup(parent, name);
        return found ? *found : FileId{};
    }

    int lookup_error(FileId parent, const std::string& name) {
        const auto found = store->lookup(parent, name);
        return found ? 0 : found.error().code.value();
    }
};

#define NEEDS_TRUSTED_XATTRS()                    \
    {                                             \
        const ScratchDirectory probe;             \
        if (!has_trusted_xattrs(probe.path())) {  \
            return;                               \
        }                                         \
    }

}  // namespace

TEST_CASE("Store: every type of object keeps its id, attributes and content over a reopen", "[store]") {
    NEEDS_TRUSTED_XATTRS();
    Copy copy;
    const auto directory = copy.make(root_file, "directory", NodeType::directory, 0750);
    std::map<std::string, FileId> made;
    made["file"] = copy.make(directory, "file", NodeType::file, 0640);
    made["link"] = copy.make(directory, "link", NodeType::symlink);
    made["pipe"] = copy.make(directory, "pipe", NodeType::fifo, 0600);
    made["socket"] = copy.make(directory, "socket", NodeType::socket, 0600);
    REQUIRE(copy.write(made["file"], 0, "hello") == 0);

    copy.reopen();
    CHECK(copy.fresh.empty());
    CHECK(copy.find(root_file, "directory") == directory);
    for (const auto& [name, file] : made) {
        CHECK(copy.find(directory, name) == file);
    }
    CHECK(copy.read(made["file"]) == "hello");
    CHECK(copy.store->read_link(made["link"]).value_or("") == "target/of/link");
    const auto attributes = copy.store->attributes(made["pipe"]);
    REQUIRE(attributes);
    CHECK(attributes->type == NodeType::fifo);
    CHECK(attributes->mode == 0600);
    CHECK(attributes->modified == some_time);
    CHECK(copy.store->attributes(directory)->mode == 0750);
    CHECK(copy.store->attributes(directory)->modified == some_time);
    CHECK(copy.store->attributes(root_file)->modified == some_time);
    CHECK(copy.store->path_of(made["file"]) == "directory/file");
}

TEST_CASE("Store: its own folder is out of reach", "[store]") {
    NEEDS_TRUSTED_XATTRS();
    Copy copy;
    copy.make(root_file, "a", NodeType::file);
    CHECK(copy.lookup_error(root_file, ".safepair") == ENOENT);
    const auto entries = copy.store->list(root_file);
    REQUIRE(entries);
    REQUIRE(entries->size() == 1);
    CHECK(entries->front().name == "a");
    CHECK(copy.rename(root_file, "a", root_file, ".safepair") == EPERM);
    CHECK(copy.unlink(root_file, ".safepair", true) == EPERM);
    Operation operation;
    operation.kind = OperationKind::set_xattr;
    operation.file = copy.find(root_file, "a");
    operation.name = "trusted.safepair.id";
    CHECK(copy.apply(operation) == EPERM);
    CHECK(copy.store->xattr_names(operation.file)->empty());
}

TEST_CASE("Store: a copy made behind its back gets a fresh id, a hard link does not", "[store]") {
    NEEDS_TRUSTED_XATTRS();
    Copy copy;
    const auto file = copy.make(root_file, "file", NodeType::file);
    REQUIRE(copy.write(file, 0, "data") == 0);
    copy.store.reset();
    const auto& path = copy.directory.path();
    REQUIRE(::link((path / "file").c_str(), (path / "second").c_str()) == 0);
    REQUIRE(std::filesystem::copy_file(path / "file", path / "copied"));
    std::array<char, 64> value{};
    const auto size = lgetxattr((path / "file").c_str(), "trusted.safepair.id", value.data(), 64);
    REQUIRE(size == 36);
    REQUIRE(lsetxattr((path / "copied").c_str(), "trusted.safepair.id", value.data(), 36, 0) == 0);
    REQUIRE(symlink("nowhere", (path / "new link").c_str()) == 0);

    copy.reopen();
    CHECK(copy.find(root_file, "file") == file);
    CHECK(copy.find(root_file, "second") == file);
    CHECK(copy.store->names(file).size() == 2);
    const auto copied = copy.find(root_file, "copied");
    CHECK(copied != file);
    CHECK(copy.fresh.size() == 2);
    CHECK(std::count(copy.fresh.begin(), copy.fresh.end(), copied) == 1);
    copy.reopen();
    CHECK(copy.fresh.empty());
    CHECK(copy.find(root_file, "copied") == copied);
}

TEST_CASE("Store: names follow link, rename, exchange and removal", "[store]") {
    NEEDS_TRUSTED_XATTRS();
    Copy copy;
    const auto left = copy.make(root_file, "left", NodeType::directory, 0755);
    const auto right = copy.make(root_file, "right", NodeType::directory, 0755);
    const auto one = copy.make(left, "one", NodeType::file);
    const auto two = copy.make(right, "two", NodeType::file);

    CHECK(copy.link(one, right, "also one") == 0);
    CHECK(copy.link(one, right, "also one") == EEXIST);
    CHECK(copy.store->names(one).size() == 2);
    CHECK(copy.store->attributes(one)->links == 2);
    CHECK(copy.rename(left, "one", right, "two", RENAME_NOREPLACE) == EEXIST);
    CHECK(copy.rename(left, "one", right, "two", RENAME_EXCHANGE) == 0);
    CHECK(copy.find(left, "one") == two);
    CHECK(copy.find(right, "two") == one);
    // Both names belong to one file: rename(2) does nothing.
    CHECK(copy.rename(right, "two", right, "also one") == 0);
    CHECK(copy.find(right, "two") == one);
    CHECK(copy.rename(left, "one", right, "two") == 0);
    CHECK(copy.find(right, "two") == two);
    CHECK(copy.lookup_error(left, "one") == ENOENT);
    CHECK(copy.store->names(one).size() == 1);
    CHECK(copy.unlink(root_file, "right", true) == ENOTEMPTY);
    CHECK(copy.unlink(root_file, "left") == EISDIR);
    CHECK(copy.rename(root_file, "right", left, "inside") == 0);
    CHECK(copy.store->path_of(two) == "left/inside/two");
    CHECK(copy.rename(root_file, "left", right, "loop") == EINVAL);
    CHECK(copy.unlink(right, "also one") == 0);
    CHECK_FALSE(copy.store->knows(one));
    CHECK(copy.unlink(right, "two") == 0);
    CHECK(copy.unlink(left, "inside", true) == 0);
    CHECK(copy.unlink(root_file, "left", true) == 0);
    CHECK(copy.store->list(root_file)->empty());
    CHECK(copy.store->attributes(root_file)->modified == some_time);
}

TEST_CASE("Store: a held file outlives its last name", "[store]") {
    NEEDS_TRUSTED_XATTRS();
    Copy copy;
    const auto file = copy.make(root_file, "file", NodeType::file);
    const auto other = copy.make(root_file, "other", NodeType::file);
    const auto link = copy.make(root_file, "link", NodeType::symlink);
    REQUIRE(copy.write(file, 0, "alive") == 0);
    for (const auto held : {file, other, link}) {
        REQUIRE(copy.store->hold(held));
    }
    CHECK(copy.unlink(root_file, "file") == 0);
    CHECK(copy.rename(root_file, "link", root_file, "other") == 0);
    CHECK(copy.unlink(root_file, "other") == 0);
    CHECK(copy.store->is_orphan(file));
    CHECK(copy.store->is_orphan(other));
    CHECK(copy.write(file, 5, "!") == 0);
    CHECK(copy.read(file) == "alive!");
    CHECK(copy.store->attributes(file)->links == 0);
    CHECK(copy.store->read_link(link).value_or("") == "target/of/link");
    CHECK(copy.link(file, root_file, "again") == ENOENT);
    for (const auto held : {file, other, link}) {
        copy.store->release(held);
        CHECK_FALSE(copy.store->knows(held));
    }
}

TEST_CASE("Store: data operations do what the kernel does", "[store]") {
    NEEDS_TRUSTED_XATTRS();
    Copy copy;
    const auto file = copy.make(root_file, "file", NodeType::file);
    REQUIRE(copy.write(file, 1 << 20, std::string(65536, 'x'), true) == 0);
    CHECK(copy.store->attributes(file)->size == (1 << 20) + 65536);
    const auto extents = copy.store->data_extents(file, 0, UINT64_MAX);
    REQUIRE(extents);
    CHECK(*extents == std::vector<Extent>{{1 << 20, 65536}});
    const auto clipped = copy.store->data_extents(file, (1 << 20) + 4096, 100);
    REQUIRE(clipped);
    CHECK(*clipped == std::vector<Extent>{{(1 << 20) + 4096, 100}});
    CHECK(copy.store->seek(file, 0, SEEK_DATA).value_or(0) == 1 << 20);
    CHECK(copy.store->seek(file, 1 << 24, SEEK_DATA).error().code.value() == ENXIO);

    Operation punch;
    punch.kind = OperationKind::allocate;
    punch.file = file;
    punch.flags = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
    punch.offset = 1 << 20;
    punch.length = 4096;
    CHECK(copy.apply(punch) == 0);
    CHECK(copy.store->data_extents(file, 0, UINT64_MAX)->front().offset == (1 << 20) + 4096);

    Operation change;
    change.kind = OperationKind::set_attributes;
    change.file = file;
    change.valid = attribute::size | attribute::mode | attribute::owner | attribute::group;
    change.attributes.size = 3;
    change.attributes.mode = 04755;
    change.attributes.uid = 12;
    change.attributes.gid = 34;
    change.time = -1;
    CHECK(copy.apply(change) == 0);
    const auto after = copy.store->attributes(file);
    REQUIRE(after);
    CHECK(after->size == 3);
    CHECK(after->mode == 04755);
    CHECK(after->uid == 12);
    CHECK(after->gid == 34);
    CHECK(after->modified == -1);

    Operation flush;
    flush.kind = OperationKind::flush;
    CHECK(copy.apply(flush) == 0);
    flush.file = file;
    CHECK(copy.apply(flush) == 0);
    flush.file = copy.make(root_file, "directory", NodeType::directory);
    CHECK(copy.apply(flush) == 0);
    CHECK(copy.write(flush.file, 0, "x") == EISDIR);
    CHECK(copy.store->space()->blocks_free > 0);
}

TEST_CASE("Store: xattrs of every kind of object are kept", "[store]") {
    NEEDS_TRUSTED_XATTRS();
    Copy copy;
    Operation set;
    set.kind = OperationKind::set_xattr;
    set.name = "trusted.color";
    const std::string value(3000, 'v');
    set.data = bytes_of(value);
    for (const auto type : {NodeType::file, NodeType::directory, NodeType::symlink, NodeType::fifo}) {
        set.file = copy.make(root_file, "n" + std::to_string(static_cast<int>(type)), type);
        CHECK(copy.apply(set) == 0);
        CHECK(*copy.store->xattr_names(set.file) == std::vector<std::string>{"trusted.color"});
        const auto got = copy.store->xattr(set.file, "trusted.color");
        REQUIRE(got);
        CHECK(std::equal(got->begin(), got->end(), set.data.begin(), set.data.end()));
        Operation gone = set;
        gone.kind = OperationKind::remove_xattr;
        CHECK(copy.apply(gone) == 0);
        CHECK(copy.apply(gone) == ENODATA);
    }
    set.flags = XATTR_REPLACE;
    CHECK(copy.apply(set) == ENODATA);
}

TEST_CASE("Store: a new object inherits its directory's default ACL as the kernel would do it", "[store]") {
    NEEDS_TRUSTED_XATTRS();
    Copy copy;
    const auto directory = copy.make(root_file, "directory", NodeType::directory, 0755);
    // u::rwx,u:1000:rwx,g::r-x,m::rwx,o::--- in the form of linux/posix_acl_xattr.h.
    const std::array<std::uint8_t, 44> acl{2, 0, 0, 0, 1, 0, 7, 0, 255, 255, 255, 255, 2, 0, 7,
                                           0, 0xE8, 3, 0, 0, 4, 0, 5, 0, 255, 255, 255, 255, 16, 0,
                                           7, 0, 255, 255, 255, 255, 32, 0, 0, 0, 255, 255, 255, 255};
    Operation set;
    set.kind = OperationKind::set_xattr;
    set.file = directory;
    set.name = "system.posix_acl_default";
    set.data = std::as_bytes(std::span(acl));
    const int failed = copy.apply(set);
    if (failed == EOPNOTSUPP) {
        WARN("SKIPPED: no POSIX ACLs here");
        return;
    }
    REQUIRE(failed == 0);
    const auto ours = copy.make(directory, "ours", NodeType::file, 0666);
    const auto below = copy.make(directory, "below", NodeType::directory, 0777);
    const auto path = copy.directory / "directory";
    const auto kernel_file = path / "kernel";
    const int fd = ::open(kernel_file.c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0666);
    REQUIRE(fd >= 0);
    ::close(fd);
    const auto below_path = path / "kernel below";
    REQUIRE(mkdir(below_path.c_str(), 0777) == 0);
    const auto equal = [&](FileId file, const std::filesystem::path& theirs, const char* name) {
        std::array<std::byte, 256> expected{};
        const auto size = lgetxattr(theirs.c_str(), name, expected.data(), expected.size());
        const auto got = copy.store->xattr(file, name);
        return size > 0 && got && std::equal(got->begin(), got->end(), expected.begin(), expected.begin() + size);
    };
    struct stat status {};
    REQUIRE(stat(kernel_file.c_str(), &status) == 0);
    CHECK(copy.store->attributes(ours)->mode == (status.st_mode & 07777U));
    CHECK(equal(ours, kernel_file, "system.posix_acl_access"));
    CHECK(equal(below, below_path, "system.posix_acl_access"));
    CHECK(equal(below, below_path, "system.posix_acl_default"));
}

TEST_CASE("Store: staged objects leave their name and come back or go", "[store]") {
    NEEDS_TRUSTED_XATTRS();
    Copy copy;
    const auto directory = copy.make(root_file, "directory", NodeType::directory);
    const auto inside = copy.make(directory, "inside", NodeType::file);
    const auto file = copy.make(root_file, "file", NodeType::file);
    REQUIRE(copy.write(file, 0, "kept") == 0);
    // A swap of the two names.
    REQUIRE(copy.store->stage(root_file, "directory"));
    REQUIRE(copy.store->stage(root_file, "file"));
    CHECK(copy.lookup_error(root_file, "file") == ENOENT);
    CHECK_FALSE(copy.store->is_orphan(file));
    CHECK(copy.read(file) == "kept");
    REQUIRE(copy.store->unstage(file, root_file, "directory"));
    REQUIRE(copy.store->unstage(directory, root_file, "file"));
    CHECK(copy.find(root_file, "directory") == file);
    CHECK(copy.find(copy.find(root_file, "file"), "inside") == inside);

    REQUIRE(copy.store->stage(root_file, "file"));
    REQUIRE(copy.store->clear_stage());
    CHECK_FALSE(copy.store->knows(directory));
    CHECK_FALSE(copy.store->knows(inside));
    CHECK(std::filesystem::is_empty(copy.directory / ".safepair/stage"));
    CHECK(copy.find(root_file, "directory") == file);
}

TEST_CASE("Store: one of two hard links is staged without losing the file", "[store]") {
    NEEDS_TRUSTED_XATTRS();
    Copy copy;
    const auto file = copy.make(root_file, "one", NodeType::file);
    REQUIRE(copy.link(file, root_file, "two") == 0);
    REQUIRE(copy.store->stage(root_file, "one"));
    CHECK(copy.store->names(file) == std::vector<NameOf>{{root_file, "two"}});
    REQUIRE(copy.store->stage(root_file, "two"));
    REQUIRE(copy.store->unstage(file, root_file, "three"));
    CHECK(copy.find(root_file, "three") == file);
}

TEST_CASE("Store: a file is copied out whole, holes and metadata included", "[store]") {
    NEEDS_TRUSTED_XATTRS();
    Copy copy;
    const auto file = copy.make(root_file, "file", NodeType::file, 0640);
    REQUIRE(copy.write(file, 1 << 20, "behind a hole") == 0);
    Operation change;
    change.kind = OperationKind::set_attributes;
    change.file = file;
    change.valid = attribute::modified;
    change.attributes.modified = some_time;
    REQUIRE(copy.apply(change) == 0);
    const auto target = copy.directory / ".safepair/archive/x/file";
    REQUIRE(copy.store->copy_out(file, target));
    struct stat status {};
    REQUIRE(stat(target.c_str(), &status) == 0);
    CHECK(status.st_size == (1 << 20) + 13);
    CHECK((status.st_mode & 07777U) == 0640);
    CHECK(status.st_mtim.tv_nsec == 123'456'789);
    CHECK(status.st_blocks * 512 < 1 << 20);
    CHECK(lgetxattr(target.c_str(), "trusted.safepair.id", nullptr, 0) == -1);
}

TEST_CASE("Store: more files than descriptors are kept reachable", "[store]") {
    NEEDS_TRUSTED_XATTRS();
    Copy copy;
    std::vector<FileId> files;
    for (int i = 0; i < 700; ++i) {
        files.push_back(copy.make(root_file, "f" + std::to_string(i), NodeType::file));
        REQUIRE(copy.write(files.back(), 0, std::to_string(i)) == 0);
    }
    for (std::size_t i = 0; i < files.size(); ++i) {
        REQUIRE(copy.read(files[i]) == std::to_string(i));
    }
}

TEST_CASE("Store: threads that rename, write and look do not disturb each other", "[store]") {
    NEEDS_TRUSTED_XATTRS();
    Copy copy;
    const auto left = copy.make(root_file, "left", NodeType::directory);
    const auto right = copy.make(root_file, "right", NodeType::directory);
    constexpr int threads = 4;
    std::atomic<int> failures = 0;
    std::vector<FileId> files;
    for (int i = 0; i < threads; ++i) {
        files.push_back(copy.make(left, std::to_string(i), NodeType::file));
    }
    std::vector<std::thread> running;
    for (int i = 0; i < threads; ++i) {
        running.emplace_back([&, i] {
            const auto name = std::to_string(i);
            for (int round = 0; round < 200; ++round) {
                const bool back = round % 2 == 1;
                failures += copy.rename(back ? right : left, name, back ? left : right, name) != 0;
                const auto file = files[static_cast<std::size_t>(i)];
                failures += copy.write(file, 0, name) != 0;
                failures += !copy.store->attributes(file).has_value();
                failures += copy.read(files[static_cast<std::size_t>((i + 1) % threads)]).size() > 1;
            }
        });
    }
    for (auto& thread : running) {
        thread.join();
    }
    CHECK(failures == 0);
    copy.reopen();
    CHECK(copy.fresh.empty());
    CHECK(copy.store->list(left)->size() == threads);
}
