#include "core/block_plan.hpp"

#include "support/catch.hpp"

#include <string>

using namespace safepair;
using namespace safepair::replica;

namespace {

constexpr std::uint64_t block = limits::dirty_block_bytes;

FileId id(std::uint8_t number) { return FileId{{number}}; }

Tree tree_with(std::uint64_t size) {
    Tree tree;
    tree[root_file].type = NodeType::directory;
    auto& node = tree[id(1)];
    node.size = size;
    node.names = {{root_file, "file"}};
    return tree;
}

}  // namespace

TEST_CASE("BlockPlan: by the map marked ranges are cut at the end of the file", "[resync]") {
    const auto mine = tree_with(3 * block + 10);
    DirtyMap dirty;
    dirty.mark(id(1), 0, 1);
    dirty.mark(id(1), 2 * block, 1);
    dirty.mark(id(1), 3 * block, 1);
    dirty.mark(id(1), 9 * block, 1);
    dirty.mark(id(7), 0, 1);
    const auto plan = plan_blocks(SyncMode::dirty_blocks, mine, mine, {}, dirty);
    REQUIRE(plan.size() == 1);
    CHECK_FALSE(plan[0].compare);
    CHECK_FALSE(plan[0].fresh);
    CHECK(plan[0].ranges == std::vector<ByteRange>{{0, block}, {2 * block, 3 * block + 10}});
    CHECK(total_bytes(plan[0].ranges) == 2 * block + 10);
}

TEST_CASE("BlockPlan: by the map a file that is not marked costs nothing", "[resync]") {
    const auto mine = tree_with(5 * block);
    CHECK(plan_blocks(SyncMode::dirty_blocks, mine, mine, {}, {}).empty());
    DirtyMap touched;
    touched.touch(id(1));
    CHECK(plan_blocks(SyncMode::dirty_blocks, mine, mine, {}, touched).empty());
}

TEST_CASE("BlockPlan: what the follower's shorter file never had is copied", "[resync]") {
    const auto mine = tree_with(5 * block);
    const auto theirs = tree_with(block + 1);
    const auto plan = plan_blocks(SyncMode::dirty_blocks, mine, theirs, {}, {});
    REQUIRE(plan.size() == 1);
    CHECK(plan[0].ranges == std::vector<ByteRange>{{block, 5 * block}});
}

TEST_CASE("BlockPlan: files marked whole are compared, created ones copied", "[resync]") {
    const auto mine = tree_with(5 * block);
    DirtyMap dirty;
    dirty.mark_whole(id(1));
    auto plan = plan_blocks(SyncMode::dirty_blocks, mine, mine, {}, dirty);
    REQUIRE(plan.size() == 1);
    CHECK(plan[0].compare);
    CHECK(plan[0].ranges == std::vector<ByteRange>{{0, 5 * block}});
    for (const auto mode : {SyncMode::dirty_blocks, SyncMode::checksum, SyncMode::full}) {
        plan = plan_blocks(mode, mine, mine, {id(1)}, {});
        REQUIRE(plan.size() == 1);
        CHECK_FALSE(plan[0].compare);
        CHECK(plan[0].fresh);
        CHECK(plan[0].ranges == std::vector<ByteRange>{{0, 5 * block}});
    }
}

TEST_CASE("BlockPlan: checksum compares every file and full copies it", "[resync]") {
    const auto mine = tree_with(7);
    const auto compared = plan_blocks(SyncMode::checksum, mine, mine, {}, {});
    REQUIRE(compared.size() == 1);
    CHECK(compared[0].compare);
    const auto copied = plan_blocks(SyncMode::full, mine, mine, {}, {});
    REQUIRE(copied.size() == 1);
    CHECK_FALSE(copied[0].compare);
    CHECK_FALSE(copied[0].fresh);
    CHECK(copied[0].ranges == std::vector<ByteRange>{{0, 7}});
    const auto empty = tree_with(0);
    CHECK(plan_blocks(SyncMode::full, empty, empty, {}, {}).empty());
}

TEST_CASE("BlockPlan: differing neighbours are joined and cut, blocks of one side only differ",
          "[resync]") {
    const std::vector<Digest> mine{{1}, {2}, {3}, {4}, {5}};
    const std::vector<Digest> theirs{{1}, {9}, {9}, {4}};
    const DigestRange asked{id(1), 10, 8};
    const auto ranges = differing_ranges(asked, mine, theirs, 14 * block + 5);
    CHECK(ranges == std::vector<ByteRange>{{11 * block, 13 * block}, {14 * block, 14 * block + 5}});
    CHECK(differing_ranges(asked, theirs, mine, 14 * block).size() == 1);
    CHECK(differing_ranges(asked, mine, mine, 100 * block).empty());
}
