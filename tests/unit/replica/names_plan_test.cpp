#include "core/names_plan.hpp"

#include "resync_support.hpp"
#include "support/catch.hpp"

#include <map>
#include <string>

#include <linux/fs.h>

using namespace safepair;
using namespace safepair::tests;

namespace {

/// Two equal copies, the leader then changed by `change`, and the follower by `change_there`.
void check_case(
    const std::function<void(Copy&)>& prepare,
    const std::function<void(Copy&)>& change,
    const std::function<void(Copy&)>& change_there = [](Copy&) {}) {
    Copy leader;
    Copy follower;
    prepare(leader);
    static_cast<void>(resync(leader, follower, SyncMode::full));
    REQUIRE(difference(leader.store(), follower.store()) == "");
    change(leader);
    change_there(follower);
    static_cast<void>(resync(leader, follower, SyncMode::dirty_blocks));
    CHECK(difference(leader.store(), follower.store()) == "");
    // What the disk says, and nothing is left aside.
    CHECK(leader.reopen().empty());
    CHECK(follower.reopen().empty());
    CHECK(difference(leader.store(), follower.store()) == "");
    CHECK(std::filesystem::is_empty(follower.path() / ".safepair" / "stage"));
}

void three_directories(Copy& copy) {
    for (const std::string name : {"a", "b", "c"}) {
        const auto directory = copy.directory(root_file, name);
        copy.file(directory, "inside", "content of " + name);
    }
}

}  // namespace

TEST_CASE("NamesPlan: two files that swapped names swap them on the follower", "[resync]") {
    if (!has_trusted_xattrs()) {
        return;
    }
    check_case(
        [](Copy& copy) {
            copy.file(root_file, "one", "first");
            copy.file(root_file, "two", "second");
        },
        [](Copy& copy) {
            REQUIRE(copy.rename(root_file, "one", root_file, "two", RENAME_EXCHANGE) == 0);
        });
}

TEST_CASE("NamesPlan: three directories that rotated rotate on the follower", "[resync]") {
    if (!has_trusted_xattrs()) {
        return;
    }
    check_case(three_directories, [](Copy& copy) {
        REQUIRE(copy.rename(root_file, "a", root_file, "t") == 0);
        REQUIRE(copy.rename(root_file, "b", root_file, "a") == 0);
        REQUIRE(copy.rename(root_file, "c", root_file, "b") == 0);
        REQUIRE(copy.rename(root_file, "t", root_file, "c") == 0);
    });
}

TEST_CASE("NamesPlan: directories that turned inside out do so on the follower", "[resync]") {
    if (!has_trusted_xattrs()) {
        return;
    }
    check_case(
        [](Copy& copy) {
            const auto a = copy.directory(root_file, "a");
            const auto b = copy.directory(a, "b");
            const auto c = copy.directory(b, "c");
            copy.file(c, "deep", "at the bottom");
        },
        [](Copy& copy) {
            const auto a = copy.find(root_file, "a");
            const auto b = copy.find(a, "b");
            const auto c = copy.find(b, "c");
            REQUIRE(copy.rename(b, "c", root_file, "c") == 0);
            REQUIRE(copy.rename(a, "b", c, "b") == 0);
            REQUIRE(copy.rename(root_file, "a", b, "a") == 0);
        });
}

TEST_CASE("NamesPlan: a file gives way to a directory of its name, and the other way round",
          "[resync]") {
    if (!has_trusted_xattrs()) {
        return;
    }
    check_case(
        [](Copy& copy) {
            copy.file(root_file, "file", "x");
            const auto directory = copy.directory(root_file, "directory");
            copy.file(copy.directory(directory, "sub"), "below", "y");
        },
        [](Copy& copy) {
            REQUIRE(copy.remove(root_file, "file") == 0);
            copy.file(copy.directory(root_file, "file"), "now below", "z");
            const auto directory = copy.find(root_file, "directory");
            REQUIRE(copy.remove(copy.find(directory, "sub"), "below") == 0);
            REQUIRE(copy.remove(directory, "sub") == 0);
            REQUIRE(copy.remove(root_file, "directory") == 0);
            copy.file(root_file, "directory", "a file now");
        });
}

TEST_CASE("NamesPlan: a directory moves into a new one that took its name", "[resync]") {
    if (!has_trusted_xattrs()) {
        return;
    }
    check_case(three_directories, [](Copy& copy) {
        REQUIRE(copy.rename(root_file, "a", root_file, "old") == 0);
        const auto fresh = copy.directory(root_file, "a");
        REQUIRE(copy.rename(root_file, "old", fresh, "older") == 0);
    });
}

TEST_CASE("NamesPlan: what only the follower has goes, and what it removed or moved comes back",
          "[resync]") {
    if (!has_trusted_xattrs()) {
        return;
    }
    check_case(
        three_directories,
        [](Copy& copy) { copy.file(copy.find(root_file, "c"), "new here", "n"); },
        [](Copy& copy) {
            const auto a = copy.find(root_file, "a");
            const auto extra = copy.directory(root_file, "extra");
            copy.file(copy.directory(extra, "deeper"), "extra file", "e");
            // Wanted things below an unwanted directory, and an unwanted one below a wanted
            // directory.
            REQUIRE(copy.rename(root_file, "b", copy.find(extra, "deeper"), "hidden") == 0);
            copy.file(a, "extra too", "e");
            REQUIRE(copy.remove(a, "inside") == 0);
        });
}

TEST_CASE("NamesPlan: hard links come, go and move", "[resync]") {
    if (!has_trusted_xattrs()) {
        return;
    }
    check_case(
        [](Copy& copy) {
            three_directories(copy);
            const auto shared = copy.file(root_file, "shared", "linked");
            REQUIRE(copy.link(shared, copy.find(root_file, "a"), "second") == 0);
            REQUIRE(copy.link(shared, copy.find(root_file, "b"), "third") == 0);
            const auto single = copy.file(root_file, "single", "alone");
            REQUIRE(copy.link(single, root_file, "single too") == 0);
        },
        [](Copy& copy) {
            const auto shared = copy.find(root_file, "shared");
            const auto a = copy.find(root_file, "a");
            const auto b = copy.find(root_file, "b");
            REQUIRE(copy.remove(root_file, "shared") == 0);
            REQUIRE(copy.rename(a, "second", b, "second") == 0);
            REQUIRE(copy.rename(b, "third", a, "third") == 0);
            REQUIRE(copy.link(shared, copy.find(root_file, "c"), "fourth") == 0);
            REQUIRE(copy.remove(root_file, "single too") == 0);
        },
        [](Copy& copy) {
            REQUIRE(copy.link(copy.find(root_file, "single"), root_file, "extra link") == 0);
        });
}

TEST_CASE("NamesPlan: every type of object and odd names arrive", "[resync]") {
    if (!has_trusted_xattrs()) {
        return;
    }
    Copy leader;
    Copy follower;
    const std::map<std::string, NodeType> objects{{"fifo", NodeType::fifo},
                                                  {"socket", NodeType::socket},
                                                  {"link", NodeType::symlink},
                                                  {"device", NodeType::character_device},
                                                  {"empty directory", NodeType::directory},
                                                  {"empty file", NodeType::file},
                                                  {"new\nline", NodeType::file},
                                                  {"\xff\xfe\x80", NodeType::file},
                                                  {std::string(255, 'L'), NodeType::directory}};
    for (const auto& [name, type] : objects) {
        leader.create(root_file, name, type);
    }
    auto deep = root_file;
    for (int level = 0; level < 60; ++level) {
        deep = leader.directory(deep, std::string(100, 'd'));
    }
    leader.file(deep, "bottom", "far down");
    static_cast<void>(resync(leader, follower, SyncMode::full));
    CHECK(difference(leader.store(), follower.store()) == "");
    CHECK(follower.find(root_file, "new\nline") == leader.find(root_file, "new\nline"));
    CHECK(follower.read(follower.find(deep, "bottom")) == "far down");
}

TEST_CASE("NamesPlan: the same id on different objects makes room for the leader's", "[resync]") {
    if (!has_trusted_xattrs()) {
        return;
    }
    Copy leader;
    Copy follower;
    const auto kept = leader.file(root_file, "kept", "stays");
    static_cast<void>(resync(leader, follower, SyncMode::full));
    const auto make =
        [](Copy& copy, FileId id, FileId parent, const std::string& name, NodeType type) {
            Operation operation;
            operation.kind = OperationKind::create;
            operation.file = id;
            operation.parent = parent;
            operation.name = name;
            operation.attributes.type = type;
            operation.attributes.mode = 0755;
            operation.text = type == NodeType::symlink ? "target of " + name : "";
            REQUIRE(copy.apply(operation) == 0);
        };
    const auto first = base::random_id<FileId>();
    const auto second = base::random_id<FileId>();
    const auto third = base::random_id<FileId>();
    make(leader, first, root_file, "first", NodeType::file);
    make(leader, second, root_file, "second", NodeType::file);
    make(leader, third, root_file, "third", NodeType::symlink);
    // There: directories within each other, a wanted file at the bottom, and a link that leads
    // elsewhere.
    make(follower, first, root_file, "one", NodeType::directory);
    make(follower, second, first, "two", NodeType::directory);
    make(follower, third, second, "three", NodeType::symlink);
    REQUIRE(follower.rename(root_file, "kept", second, "moved") == 0);
    follower.file(second, "extra", "e");
    static_cast<void>(resync(leader, follower, SyncMode::dirty_blocks));
    CHECK(difference(leader.store(), follower.store()) == "");
    CHECK(follower.read(kept) == "stays");
}

TEST_CASE("NamesPlan: equal trees need no step", "[resync]") {
    Tree tree;
    tree[root_file].type = NodeType::directory;
    auto& node = tree[base::FileId{{1}}];
    node.names = {{root_file, "a"}};
    const auto outcome = plan_names(tree, tree, [](const NamesStep&) -> base::Result<void> {
        return base::error(base::Errc::refused, "a step");
    });
    REQUIRE(outcome);
    CHECK(outcome->created.empty());
    CHECK(outcome->retimed.empty());
}

TEST_CASE("NamesPlan: the first failing step ends it", "[resync]") {
    Tree mine;
    mine[root_file].type = NodeType::directory;
    const Tree theirs = mine;
    mine[base::FileId{{1}}].names = {{root_file, "a"}};
    mine[base::FileId{{2}}].names = {{root_file, "b"}};
    int steps = 0;
    const auto outcome = plan_names(mine, theirs, [&](const NamesStep&) -> base::Result<void> {
        ++steps;
        return base::error(base::Errc::peer_unreachable, "gone");
    });
    REQUIRE_FALSE(outcome);
    CHECK(outcome.error().code == base::Errc::peer_unreachable);
    CHECK(steps == 1);
}

TEST_CASE("NamesPlan: a senseless tree of the follower does not hang or crash", "[resync]") {
    Tree mine;
    mine[root_file].type = NodeType::directory;
    mine[base::FileId{{1}}].names = {{root_file, "a"}};
    mine[base::FileId{{2}}].names = {{root_file, "b"}};
    Tree theirs;
    auto& one = theirs[base::FileId{{1}}];
    auto& two = theirs[base::FileId{{2}}];
    one.type = NodeType::directory;
    two.type = NodeType::directory;
    // Each in the other, neither in the root.
    one.names = {{base::FileId{{2}}, "x"}};
    two.names = {{base::FileId{{1}}, "y"}};
    const auto outcome =
        plan_names(mine, theirs, [](const NamesStep&) { return base::Result<void>(); });
    CHECK(outcome);
}
