#include "io/resync.hpp"

#include "resync_support.hpp"
#include "support/catch.hpp"

#include <chrono>
#include <cstdio>
#include <string>

#include <sys/stat.h>

using namespace safepair;
using namespace safepair::tests;

namespace {

constexpr std::uint64_t block = limits::dirty_block_bytes;

const char* name_of(SyncMode mode) {
    switch (mode) {
        case SyncMode::dirty_blocks:
            return "dirty blocks";
        case SyncMode::checksum:
            return "checksum";
        case SyncMode::full:
            return "full";
    }
    return "";
}

constexpr std::array modes{SyncMode::dirty_blocks, SyncMode::checksum, SyncMode::full};

std::string blocks_of_text(char letter, std::size_t count) {
    return std::string(count * block, letter);
}

void change_randomly(Copy& copy, base::Prng& prng, int count) {
    std::vector<std::byte> data;
    for (int i = 0; i < count; ++i) {
        static_cast<void>(copy.apply(random_operation(prng, copy.store(), data)));
    }
}

base::Result<ResyncResult> run(FakeLink& link, Copy& leader, ResyncOptions options) {
    return Resync(std::move(options),
                  leader.store(),
                  leader.map,
                  link,
                  [](const DirtyMap&) { return base::Result<void>(); })
        .run();
}

}  // namespace

TEST_CASE("Resync: copies that changed at random on both sides become the leader's", "[resync]") {
    if (!has_trusted_xattrs()) {
        return;
    }
    for (std::uint64_t seed = 1; seed <= 12; ++seed) {
        const auto mode = modes[seed % modes.size()];
        DYNAMIC_SECTION("seed " << seed << ", " << name_of(mode)) {
            base::Prng prng(seed);
            Copy leader;
            Copy follower;
            change_randomly(leader, prng, 150);
            static_cast<void>(resync(leader, follower, SyncMode::full));
            REQUIRE(difference(leader.store(), follower.store()) == "");
            change_randomly(leader, prng, 100);
            change_randomly(follower, prng, 100);
            static_cast<void>(resync(leader, follower, mode));
            CHECK(difference(leader.store(), follower.store()) == "");
            // The disks say the same as the catalogs.
            static_cast<void>(leader.reopen());
            CHECK(follower.reopen().empty());
            CHECK(difference(leader.store(), follower.store()) == "");
        }
    }
}

TEST_CASE("Resync: an application that works all the time ends up equal on both sides",
          "[resync]") {
    if (!has_trusted_xattrs()) {
        return;
    }
    for (std::uint64_t seed = 100; seed < 112; ++seed) {
        const auto mode = modes[seed % modes.size()];
        DYNAMIC_SECTION("seed " << seed << ", " << name_of(mode)) {
            base::Prng prng(seed);
            Copy leader;
            Copy follower;
            change_randomly(leader, prng, 120);
            static_cast<void>(resync(leader, follower, SyncMode::full));
            change_randomly(leader, prng, 60);
            change_randomly(follower, prng, 60);
            FakeLink link(leader, follower);
            link.lag = prng.below(40);
            int left = 400;
            std::vector<std::byte> data;
            link.at_gap = [&] {
                for (auto count = prng.below(8); count > 0 && left > 0; --count, --left) {
                    link.application(random_operation(prng, leader.store(), data));
                }
            };
            static_cast<void>(resync(link, leader, follower, mode));
            CHECK(difference(leader.store(), follower.store()) == "");
            CHECK(left < 400);
        }
    }
}

TEST_CASE("Resync: by the map only marked blocks travel", "[resync]") {
    if (!has_trusted_xattrs()) {
        return;
    }
    Copy leader;
    Copy follower;
    const auto file = leader.file(root_file, "disk", blocks_of_text('a', 64));
    static_cast<void>(resync(leader, follower, SyncMode::full));
    REQUIRE(leader.write(file, 3 * block + 17, "x") == 0);
    REQUIRE(follower.write(file, 40 * block, blocks_of_text('z', 2)) == 0);
    FakeLink link(leader, follower);
    const auto result = resync(link, leader, follower, SyncMode::dirty_blocks);
    CHECK(result.copied_bytes == 3 * block);
    CHECK(result.changed_bytes == 3 * block);
    CHECK(difference(leader.store(), follower.store()) == "");
}

TEST_CASE("Resync: by the map a difference outside of it stays", "[resync]") {
    if (!has_trusted_xattrs()) {
        return;
    }
    Copy leader;
    Copy follower;
    const auto file = leader.file(root_file, "disk", blocks_of_text('a', 4));
    static_cast<void>(resync(leader, follower, SyncMode::full));
    REQUIRE(follower.write(file, 0, "unmarked") == 0);
    follower.map.clear();
    static_cast<void>(resync(leader, follower, SyncMode::dirty_blocks));
    CHECK(follower.read(file).substr(0, 8) == "unmarked");
    const auto result = resync(leader, follower, SyncMode::checksum);
    CHECK(result.copied_bytes == block);
    CHECK(result.changed_bytes == block);
    CHECK(difference(leader.store(), follower.store()) == "");
}

TEST_CASE("Resync: a file marked whole is compared, and only what differs travels", "[resync]") {
    if (!has_trusted_xattrs()) {
        return;
    }
    Copy leader;
    Copy follower;
    const auto file = leader.file(root_file, "disk", blocks_of_text('a', 600));
    static_cast<void>(resync(leader, follower, SyncMode::full));
    REQUIRE(follower.write(file, 555 * block, "secretly") == 0);
    follower.map.clear();
    leader.map.mark_whole(file);
    const auto result = resync(leader, follower, SyncMode::dirty_blocks);
    CHECK(result.copied_bytes == block);
    CHECK(difference(leader.store(), follower.store()) == "");
}

TEST_CASE("Resync: what was written after the snapshot of the map is not forgotten", "[resync]") {
    if (!has_trusted_xattrs()) {
        return;
    }
    Copy leader;
    Copy follower;
    const auto file = leader.file(root_file, "disk", blocks_of_text('a', 8));
    static_cast<void>(resync(leader, follower, SyncMode::full));
    FakeLink link(leader, follower);
    bool written = false;
    const std::string text = "in between";
    link.at_gap = [&] {
        if (!written) {
            written = true;
            Operation write;
            write.kind = OperationKind::write;
            write.file = file;
            write.offset = 5 * block;
            write.time = 1'650'000'000'000'000'000;
            write.data = std::as_bytes(std::span(text.data(), text.size()));
            link.application(write);
        }
    };
    static_cast<void>(resync(link, leader, follower, SyncMode::dirty_blocks));
    CHECK(written);
    CHECK(difference(leader.store(), follower.store()) == "");
}

TEST_CASE("Resync: holes stay holes", "[resync]") {
    if (!has_trusted_xattrs()) {
        return;
    }
    Copy leader;
    Copy follower;
    constexpr std::uint64_t size = 3ULL << 30U;
    const auto sparse = leader.file(root_file, "sparse", "head");
    REQUIRE(leader.write(sparse, size / 2, "middle") == 0);
    REQUIRE(leader.truncate(sparse, size) == 0);
    const auto filled = leader.file(root_file, "filled", blocks_of_text('f', 40));
    const auto result = resync(leader, follower, SyncMode::full);
    CHECK(result.copied_bytes < 41 * block);
    const auto used = [&](FileId file) { return follower.store().attributes(file)->blocks * 512; };
    CHECK(follower.store().attributes(sparse)->size == size);
    CHECK(used(sparse) < 4 * block);

    for (const auto mode : modes) {
        DYNAMIC_SECTION("a hole made here, " << name_of(mode)) {
            REQUIRE(leader.punch(filled, 4 * block, 32 * block) == 0);
            REQUIRE(used(filled) >= 40 * block);
            const auto again = resync(leader, follower, mode);
            CHECK(again.copied_bytes <= 9 * block);
            CHECK(used(filled) <= 9 * block);
            CHECK(follower.read(filled) == leader.read(filled));
        }
    }
}

TEST_CASE("Resync: a sparse file of a terabyte is compared without reading it", "[resync]") {
    if (!has_trusted_xattrs()) {
        return;
    }
    Copy leader;
    Copy follower;
    constexpr std::uint64_t size = 1ULL << 40U;
    const auto disk = leader.file(root_file, "disk", "head");
    REQUIRE(leader.truncate(disk, size) == 0);
    static_cast<void>(resync(leader, follower, SyncMode::full));
    REQUIRE(follower.write(disk, size - 5, "wrong") == 0);
    FakeLink link(leader, follower);
    const auto result = resync(link, leader, follower, SyncMode::checksum);
    CHECK(result.changed_bytes == block);
    CHECK(link.questions < 10'000);
    std::string tail(5, 'x');
    REQUIRE(follower.store().read(disk, size - 5, std::as_writable_bytes(std::span(tail))));
    CHECK(tail == std::string(5, '\0'));
}

TEST_CASE("Resync: thousands of small files take few questions", "[resync]") {
    if (!has_trusted_xattrs()) {
        return;
    }
    Copy leader;
    Copy follower;
    std::vector<FileId> files;
    for (int directory = 0; directory < 20; ++directory) {
        const auto parent = leader.directory(root_file, "d" + std::to_string(directory));
        for (int i = 0; i < 100; ++i) {
            files.push_back(leader.file(parent, "f" + std::to_string(i), std::string(4096, 'q')));
        }
    }
    static_cast<void>(resync(leader, follower, SyncMode::full));
    REQUIRE(difference(leader.store(), follower.store()) == "");
    REQUIRE(follower.write(files[1234], 4000, "!") == 0);
    FakeLink link(leader, follower);
    const auto result = resync(link, leader, follower, SyncMode::checksum);
    CHECK(result.copied_bytes == 4096);
    CHECK(link.questions < 10);
    CHECK(difference(leader.store(), follower.store()) == "");

    FakeLink quiet(leader, follower);
    const auto nothing = resync(quiet, leader, follower, SyncMode::dirty_blocks);
    CHECK(nothing.copied_bytes == 0);
    CHECK(quiet.names_sent == 0);
    CHECK(quiet.blocks_sent == 0);
}

TEST_CASE("Resync: xattrs, ACLs and modes are made equal, inherited ones included", "[resync]") {
    if (!has_trusted_xattrs()) {
        return;
    }
    Copy leader;
    Copy follower;
    const auto parent = leader.directory(root_file, "parent");
    const auto kept = leader.file(parent, "kept", "x");
    REQUIRE(leader.set_xattr(kept, "user.note", "one") == 0);
    REQUIRE(leader.set_xattr(kept, "trusted.both", std::string(2500, 'v')) == 0);
    static_cast<void>(resync(leader, follower, SyncMode::full));
    REQUIRE(difference(leader.store(), follower.store()) == "");
    // The follower's directory would hand down an ACL that the leader's has not, and the other way
    // round.
    REQUIRE(follower.set_xattr(parent, "system.posix_acl_default", sample_acl(7)) == 0);
    REQUIRE(leader.set_xattr(root_file, "system.posix_acl_default", sample_acl(5)) == 0);
    leader.file(parent, "plain child", "p");
    leader.directory(root_file, "heir");
    REQUIRE(leader.set_xattr(kept, "system.posix_acl_access", sample_acl(6)) == 0);
    REQUIRE(follower.set_xattr(kept, "user.extra", "gone soon") == 0);
    REQUIRE(follower.set_xattr(kept, "user.note", "two") == 0);
    REQUIRE(follower.chmod(parent, 0700) == 0);
    static_cast<void>(resync(leader, follower, SyncMode::dirty_blocks));
    CHECK(difference(leader.store(), follower.store()) == "");
    // And back: the ACL goes.
    Operation removal;
    removal.kind = OperationKind::remove_xattr;
    removal.file = kept;
    removal.name = "system.posix_acl_access";
    REQUIRE(leader.apply(removal) == 0);
    static_cast<void>(resync(leader, follower, SyncMode::checksum));
    CHECK(difference(leader.store(), follower.store()) == "");
}

TEST_CASE("Resync: set-uid bits and file capabilities survive the data that follows", "[resync]") {
    if (!has_trusted_xattrs()) {
        return;
    }
    // struct vfs_cap_data, revision 2: effective, cap_net_raw.
    const std::string capability("\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 20);
    Copy leader;
    Copy follower;
    const auto tool = leader.file(root_file, "tool", "#!/bin/false");
    REQUIRE(leader.chmod(tool, 06755) == 0);
    if (leader.set_xattr(tool, "security.capability", capability) != 0) {
        WARN("SKIPPED: no file capabilities here");
        return;
    }
    static_cast<void>(resync(leader, follower, SyncMode::full));
    REQUIRE(difference(leader.store(), follower.store()) == "");
    REQUIRE(follower.write(tool, 0, "changed") == 0);
    Operation owner;
    owner.kind = OperationKind::set_attributes;
    owner.file = tool;
    owner.valid = attribute::owner;
    owner.attributes.uid = 77;
    REQUIRE(follower.apply(owner) == 0);
    static_cast<void>(resync(leader, follower, SyncMode::dirty_blocks));
    CHECK(difference(leader.store(), follower.store()) == "");
    CHECK(follower.store().xattr(tool, "security.capability"));
}

TEST_CASE("Resync: set-uid bits that a change of the owner takes away are given back", "[resync]") {
    if (!has_trusted_xattrs()) {
        return;
    }
    Copy leader;
    Copy follower;
    const auto tool = leader.file(root_file, "tool", "#!/bin/false");
    REQUIRE(leader.chmod(tool, 06755) == 0);
    static_cast<void>(resync(leader, follower, SyncMode::full));
    Operation owner;
    owner.kind = OperationKind::set_attributes;
    owner.file = tool;
    owner.valid = attribute::owner;
    owner.attributes.uid = 77;
    REQUIRE(follower.apply(owner) == 0);
    REQUIRE(follower.chmod(tool, 06755) == 0);
    static_cast<void>(resync(leader, follower, SyncMode::dirty_blocks));
    CHECK(difference(leader.store(), follower.store()) == "");
    CHECK(follower.store().attributes(tool)->mode == 06755);
}

TEST_CASE("Resync: a file that was cut and grown again holds zeros, not old bytes", "[resync]") {
    if (!has_trusted_xattrs()) {
        return;
    }
    for (const auto mode : modes) {
        DYNAMIC_SECTION(name_of(mode)) {
            Copy leader;
            Copy follower;
            const auto file = leader.file(root_file, "log", blocks_of_text('o', 6));
            const auto shorter = leader.file(root_file, "shorter", blocks_of_text('s', 3));
            static_cast<void>(resync(leader, follower, SyncMode::full));
            REQUIRE(leader.truncate(file, 100) == 0);
            REQUIRE(leader.truncate(file, 6 * block - 3) == 0);
            REQUIRE(follower.truncate(shorter, 5) == 0);
            follower.map.clear();
            static_cast<void>(resync(leader, follower, mode));
            CHECK(difference(leader.store(), follower.store()) == "");
        }
    }
}

TEST_CASE("Resync: a file that the application removes meanwhile is left out", "[resync]") {
    if (!has_trusted_xattrs()) {
        return;
    }
    for (const auto mode : modes) {
        DYNAMIC_SECTION(name_of(mode)) {
            Copy leader;
            Copy follower;
            const auto doomed = leader.file(root_file, "doomed", blocks_of_text('d', 40));
            const auto held = leader.file(root_file, "held", blocks_of_text('h', 40));
            leader.file(root_file, "stays", blocks_of_text('s', 40));
            static_cast<void>(resync(leader, follower, SyncMode::full));
            REQUIRE(leader.write(doomed, 0, blocks_of_text('e', 40)) == 0);
            REQUIRE(leader.write(held, 0, blocks_of_text('i', 40)) == 0);
            REQUIRE(leader.store().hold(held));
            FakeLink link(leader, follower);
            link.lag = 5;
            int gaps = 0;
            link.at_gap = [&] {
                // After the names, in the middle of the data.
                if (link.blocks_sent >= 2 && gaps++ == 0) {
                    for (const std::string name : {"doomed", "held"}) {
                        Operation removal;
                        removal.kind = OperationKind::unlink;
                        removal.parent = root_file;
                        removal.name = name;
                        removal.time = 1'660'000'000'000'000'000;
                        link.application(removal);
                    }
                }
            };
            static_cast<void>(resync(link, leader, follower, mode));
            CHECK(gaps > 0);
            leader.store().release(held);
            CHECK(difference(leader.store(), follower.store()) == "");
            CHECK_FALSE(follower.store().knows(doomed));
        }
    }
}

TEST_CASE("Resync: the follower's map is handed over before anything is sent", "[resync]") {
    if (!has_trusted_xattrs()) {
        return;
    }
    Copy leader;
    Copy follower;
    const auto file = leader.file(root_file, "disk", blocks_of_text('a', 4));
    static_cast<void>(resync(leader, follower, SyncMode::full));
    REQUIRE(follower.write(file, block, "there") == 0);
    // So large that it comes in several pieces.
    for (std::uint64_t chunk = 0; chunk < 3000; ++chunk) {
        follower.map.mark(file, chunk * FileBlocks::chunk_blocks * block, 1);
    }
    FakeLink link(leader, follower);
    DirtyMap kept;
    Resync refused({.mode = SyncMode::dirty_blocks},
                   leader.store(),
                   leader.map,
                   link,
                   [&](const DirtyMap& map) {
                       kept = map;
                       return base::Result<void>(base::error_from_errno(ENOSPC, "keep the map"));
                   });
    const auto result = refused.run();
    REQUIRE_FALSE(result);
    CHECK(result.error().code == std::errc::no_space_on_device);
    CHECK(kept.bytes() == follower.map.bytes());
    CHECK(link.questions >= 3);
    CHECK(link.names_sent + link.blocks_sent == 0);
    CHECK_FALSE(refused.progress().running);
}

TEST_CASE("Resync: a link that fails at any record ends it, and the next run completes",
          "[resync]") {
    if (!has_trusted_xattrs()) {
        return;
    }
    Copy leader;
    Copy follower;
    base::Prng prng(4711);
    change_randomly(leader, prng, 120);
    static_cast<void>(resync(leader, follower, SyncMode::full));
    change_randomly(leader, prng, 60);
    change_randomly(follower, prng, 60);
    int failures = 0;
    for (int n = 0;; n += 3) {
        FakeLink link(leader, follower);
        link.fail_after = n;
        const auto result = run(link, leader, {.mode = SyncMode::dirty_blocks});
        for (const auto& complaint : link.complaints) {
            FAIL_CHECK(complaint);
        }
        if (result) {
            break;
        }
        ++failures;
        CHECK(result.error().code == base::Errc::peer_unreachable);
        CHECK_FALSE(link.flushed);
        if (n % 2 == 0) {
            // A crash of the follower: what was aside is gone, and comes again.
            static_cast<void>(follower.reopen());
        }
    }
    CHECK(failures > 3);
    CHECK(difference(leader.store(), follower.store()) == "");
}

TEST_CASE("Resync: a session that ends stops it", "[resync]") {
    if (!has_trusted_xattrs()) {
        return;
    }
    Copy leader;
    Copy follower;
    leader.file(root_file, "disk", blocks_of_text('a', 64));
    FakeLink link(leader, follower);
    link.at_gap = [&] { link.is_cancelled = link.blocks_sent >= 2; };
    const auto result = run(link, leader, {.mode = SyncMode::full});
    REQUIRE_FALSE(result);
    CHECK(result.error().code == base::Errc::cancelled);
    CHECK(link.blocks_sent < 4);
}

TEST_CASE("Resync: a limit on the rate makes it pause", "[resync]") {
    if (!has_trusted_xattrs()) {
        return;
    }
    Copy leader;
    Copy follower;
    leader.file(root_file, "disk", blocks_of_text('a', 64));
    FakeLink link(leader, follower);
    base::Instant time{};
    base::Duration slept{};
    ResyncOptions options;
    options.mode = SyncMode::full;
    options.rate_bytes_per_second = 16 * block;
    options.now = [&] { return time; };
    options.sleep = [&](base::Duration duration) {
        CHECK(duration <= std::chrono::milliseconds(100));
        time += duration;
        slept += duration;
    };
    Progress seen;
    Resync* running = nullptr;
    link.at_gap = [&] {
        if (running != nullptr && link.blocks_sent == 6) {
            seen = running->progress();
        }
    };
    Resync resync_run(options, leader.store(), leader.map, link, [](const DirtyMap&) {
        return base::Result<void>();
    });
    running = &resync_run;
    REQUIRE(resync_run.run());
    CHECK(slept == std::chrono::seconds(4));
    CHECK(seen.running);
    CHECK(seen.bytes_total == 64 * block);
    CHECK(seen.bytes_copied == 48 * block);
    CHECK(seen.file == "disk");
}

TEST_CASE("Resync: a second pass finds nothing to do", "[resync]") {
    if (!has_trusted_xattrs()) {
        return;
    }
    Copy leader;
    Copy follower;
    base::Prng prng(99);
    change_randomly(leader, prng, 200);
    static_cast<void>(resync(leader, follower, SyncMode::full));
    FakeLink link(leader, follower);
    const auto result = resync(link, leader, follower, SyncMode::checksum);
    CHECK(result.copied_bytes == 0);
    CHECK(result.changed_bytes == 0);
    CHECK(link.names_sent == 0);
    CHECK(link.blocks_sent == 0);
}
