#include <safepair/replica/folder_place.hpp>

#include <fstream>
#include <string>
#include <vector>

#include <fcntl.h>
#include <linux/fs.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "support/catch.hpp"
#include "support/scratch_directory.hpp"

using namespace safepair;
using namespace safepair::replica;
using safepair::tests::ScratchDirectory;

namespace {

void set_immutable(const std::filesystem::path& path, bool immutable) {
    const int fd = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int flags = 0;
    if (ioctl(fd, FS_IOC_GETFLAGS, &flags) == 0) {
        flags = immutable ? flags | FS_IMMUTABLE_FL : flags & ~FS_IMMUTABLE_FL;
        ioctl(fd, FS_IOC_SETFLAGS, &flags);
    }
    ::close(fd);
}

struct Place {
    ScratchDirectory scratch{"safepair-place"};
    FolderPlace place{scratch / "folder"};

    Place() {
        std::filesystem::create_directory(place.folder());
        std::ofstream(place.folder() / "file") << "data";
    }

    ~Place() {
        if (std::filesystem::exists(place.folder())) {
            set_immutable(place.folder(), false);
        }
    }

    Place(const Place&) = delete;
    Place& operator=(const Place&) = delete;

    [[nodiscard]] PlaceState state() const { return place.state().value_or(PlaceState::absent); }
};

bool may_be_immutable() {
    const ScratchDirectory probe;
    set_immutable(probe.path(), true);
    const bool refused = mkdir((probe / "x").c_str(), 0700) != 0;
    set_immutable(probe.path(), false);
    return refused;
}

}  // namespace

TEST_CASE("FolderPlace: take hides the folder behind an empty directory and give_back undoes it", "[store]") {
    Place it;
    CHECK(it.state() == PlaceState::plain);
    REQUIRE(it.place.take());
    CHECK(it.state() == PlaceState::closed);
    CHECK(std::filesystem::exists(it.place.hidden() / "file"));
    CHECK(std::filesystem::is_empty(it.place.folder()));
    if (may_be_immutable()) {
        CHECK(mkdir((it.place.folder() / "x").c_str(), 0700) != 0);
    }
    REQUIRE(it.place.take());
    REQUIRE(it.place.give_back());
    CHECK(it.state() == PlaceState::plain);
    CHECK(std::filesystem::exists(it.place.folder() / "file"));
    CHECK_FALSE(std::filesystem::exists(it.place.hidden()));
    REQUIRE(it.place.give_back());
}

TEST_CASE("FolderPlace: an interrupted take or give_back is completed", "[store]") {
    Place it;
    std::filesystem::rename(it.place.folder(), it.place.hidden());
    CHECK(it.state() == PlaceState::closed);
    SECTION("by take after the rename") {
        REQUIRE(it.place.take());
        CHECK(std::filesystem::is_empty(it.place.folder()));
    }
    SECTION("by take after the mount point was made") {
        std::filesystem::create_directory(it.place.folder());
        REQUIRE(it.place.take());
        CHECK(it.state() == PlaceState::closed);
    }
    SECTION("by give_back") {
        REQUIRE(it.place.give_back());
        CHECK(it.state() == PlaceState::plain);
    }
}

TEST_CASE("FolderPlace: files in the mount point are refused, not lost", "[store]") {
    Place it;
    REQUIRE(it.place.take());
    set_immutable(it.place.folder(), false);
    std::ofstream(it.place.folder() / "stray") << "x";
    const auto taken = it.place.take();
    REQUIRE_FALSE(taken);
    CHECK(taken.error().code == base::Errc::refused);
    CHECK(taken.error().message().find(it.place.hidden().string()) != std::string::npos);
    CHECK_FALSE(it.place.give_back());
    CHECK(it.state() == PlaceState::closed);
    set_immutable(it.place.folder(), false);
    CHECK(std::filesystem::exists(it.place.folder() / "stray"));
}

TEST_CASE("FolderPlace: check refuses what cannot be a replicated folder", "[store]") {
    Place it;
    CHECK(FolderPlace("relative/path").check().error().code == base::Errc::refused);
    CHECK(FolderPlace(it.scratch / "missing").check().error().code == base::Errc::refused);
    CHECK(FolderPlace(it.scratch / "missing").state().value_or(PlaceState::plain) ==
          PlaceState::absent);
    CHECK(FolderPlace("/proc").check().error().message().find("root of a mount") !=
          std::string::npos);
    std::filesystem::create_directory_symlink(it.place.folder(), it.scratch / "link");
    CHECK(FolderPlace(it.scratch / "link").check().error().code == base::Errc::refused);
    CHECK(FolderPlace(it.place.folder() / "").hidden() == it.place.hidden());
    if (geteuid() == 0) {
        CHECK(it.place.check());
        REQUIRE(it.place.take());
        CHECK(it.place.check());
    }
}

TEST_CASE("FolderPlace: a process below the folder is named", "[store]") {
    Place it;
    CHECK(it.place.check_not_busy());
    int ready[2];
    REQUIRE(pipe2(ready, O_CLOEXEC) == 0);
    const pid_t child = fork();
    if (child == 0) {
        const int fd = ::open((it.place.folder() / "file").c_str(), O_RDONLY | O_CLOEXEC);
        const bool told = fd >= 0 && ::write(ready[1], "x", 1) == 1;
        while (told) {
            pause();
        }
        _exit(1);
    }
    char byte = 0;
    REQUIRE(::read(ready[0], &byte, 1) == 1);
    const auto busy = it.place.check_not_busy();
    kill(child, SIGKILL);
    waitpid(child, nullptr, 0);
    ::close(ready[0]);
    ::close(ready[1]);
    REQUIRE_FALSE(busy);
    CHECK(busy.error().code == base::Errc::busy);
    const auto message = busy.error().message();
    CHECK(message.find(std::to_string(child)) != std::string::npos);
    CHECK(message.find((it.place.folder() / "file").string()) != std::string::npos);
    CHECK(it.place.check_not_busy());
}

TEST_CASE("FolderPlace: the identity travels with the bytes and damage is noticed", "[store]") {
    Place it;
    REQUIRE(it.place.identity());
    CHECK_FALSE(it.place.identity()->has_value());
    FolderIdentity identity{"vm1", "node1", base::random_id<base::GenerationId>(), {}};
    REQUIRE(it.place.write_identity(identity));
    REQUIRE(it.place.take());
    auto read = it.place.identity();
    REQUIRE(read);
    REQUIRE(read->has_value());
    CHECK((*read)->module == "vm1");
    CHECK((*read)->node == "node1");
    CHECK((*read)->folder == identity.folder);
    CHECK((*read)->current.is_nil());
    identity.current = base::random_id<base::GenerationId>();
    REQUIRE(it.place.write_identity(identity));
    CHECK((*it.place.identity())->current == identity.current);
    const auto path = it.place.hidden() / ".safepair/identity";
    for (const char* damaged : {"", "module: vm1\n", "module: vm1\nnode: a\nfolder: 12\ncurrent: x\n"}) {
        std::ofstream(path, std::ios::trunc) << damaged;
        const auto refused = it.place.identity();
        REQUIRE_FALSE(refused);
        CHECK(refused.error().code == base::Errc::corrupt);
    }
}

TEST_CASE("FolderPlace: only a mount of ours is removed", "[store]") {
    Place it;
    REQUIRE(it.place.remove_dead_mount());
    if (mount("safepair:not-fuse", it.place.folder().c_str(), "tmpfs", 0, "size=64k") != 0) {
        WARN("SKIPPED: may not mount");
        return;
    }
    CHECK(it.place.remove_dead_mount());
    CHECK(it.place.take().error().code == base::Errc::busy);
    CHECK(umount2(it.place.folder().c_str(), 0) == 0);

    // A FUSE mount whose process is gone.
    const int device = ::open("/dev/fuse", O_RDWR | O_CLOEXEC);
    if (device < 0) {
        WARN("SKIPPED: no /dev/fuse");
        return;
    }
    const auto options =
        "fd=" + std::to_string(device) + ",rootmode=40000,user_id=0,group_id=0";
    const int mounted = mount(
        "safepair:test", it.place.folder().c_str(), "fuse.safepair", 0, options.c_str());
    ::close(device);
    REQUIRE(mounted == 0);
    CHECK(it.place.take().error().code == base::Errc::busy);
    CHECK(it.place.remove_dead_mount());
    CHECK(it.state() == PlaceState::plain);
    CHECK(it.place.take());
}
