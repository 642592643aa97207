#include "engine_support.hpp"
#include "io/folder.hpp"
#include "resync_support.hpp"
#include "support/catch.hpp"

#include <safepair/replica/folder_place.hpp>
#include <safepair/replica/replicated_folder.hpp>

#include <cerrno>
#include <fstream>
#include <set>

using namespace safepair;
using namespace safepair::tests;

namespace {

namespace fs = std::filesystem;

/// Stands where FUSE would: tells which front is served, and how.
class FakeDoor final : public Door {
  public:
    explicit FakeDoor(bool* busy) : busy_(busy) {}

    base::Result<void> close(bool force) override {
        if (*busy_ && !force) {
            return base::error_from_errno(EBUSY, "process 12 (bash) has disk open");
        }
        return {};
    }

  private:
    bool* busy_;
};

/// One node: its disk, its state directory, and the object between them.
struct Node {
    explicit Node(std::string node_name) : name(std::move(node_name)) {
        fs::create_directory(folder());
        fs::create_directory(state());
        restart();
    }

    ~Node() {
        object.reset();
        // The mount point in the folder's place is immutable.
        [[maybe_unused]] const auto given = FolderPlace(folder()).give_back();
    }

    fs::path folder() const { return directory / "vm1"; }

    fs::path hidden() const { return directory / ".vm1.safepair"; }

    fs::path state() const { return directory / "state"; }

    /// Another process.
    void restart() {
        object.reset();
        FolderOptions options;
        options.folder = folder();
        options.state_directory = state();
        options.module = "vm1";
        options.node = name;
        auto parts = real_parts();
        parts.mount = [this](const FuseOptions& fuse,
                             Front& served) -> base::Result<std::unique_ptr<Door>> {
            if (mount_error != 0) {
                return base::error_from_errno(mount_error, "mount");
            }
            front = &served;
            read_only = fuse.read_only;
            fuse_name = fuse.name;
            return std::unique_ptr<Door>(std::make_unique<FakeDoor>(&busy));
        };
        parts.open_store = [this](
                               const fs::path& path,
                               std::vector<FileId>* fresh) -> base::Result<std::unique_ptr<Store>> {
            auto real = open_posix_store(path, fresh);
            if (!real) {
                return real.error();
            }
            auto wrapped = std::make_unique<FaultStore>(std::move(*real));
            store = wrapped.get();
            return std::unique_ptr<Store>(std::move(wrapped));
        };
        object = std::make_unique<Folder>(options, parts, events);
    }

    void put(const std::string& file, const std::string& text) const {
        std::ofstream(folder() / file) << text;
    }

    std::string get(const std::string& file) const {
        std::ifstream stream(folder() / file);
        return {std::istreambuf_iterator<char>(stream), {}};
    }

    FileId find(const std::string& file) { return *store->lookup(root_file, file); }

    std::string name;
    ScratchDirectory directory{"safepair-folder"};
    Events events;
    bool busy = false;
    int mount_error = 0;
    Front* front = nullptr;
    FaultStore* store = nullptr;
    bool read_only = false;
    std::string fuse_name;
    std::unique_ptr<Folder> object;
};

bool is_refused(const base::Result<void>& result, const std::string& word) {
    return !result && result.error().context.rfind(word + ": ", 0) == 0;
}

struct Two {
    Node a{"node1"};
    Node b{"node2"};
    ChannelKey key{};
    std::unique_ptr<DataListener> listener_a;
    std::unique_ptr<DataListener> listener_b;
    SessionId session;
    std::uint64_t term = 0;

    Two() {
        listener_a = std::move(*DataListener::start("127.0.0.1", 0, key));
        listener_b = std::move(*DataListener::start("127.0.0.1", 0, key));
        listener_a->add("vm1", a.object->acceptor());
        listener_b->add("vm1", b.object->acceptor());
    }

    ~Two() {
        listener_a.reset();
        listener_b.reset();
    }

    void synchronise(Node& leader, Node& follower, SyncMode mode) {
        session = base::random_id<SessionId>();
        ++term;
        follower.object->accept_session(session, term);
        DataEndpoint peer;
        peer.address = "127.0.0.1";
        peer.port = &follower == &a ? listener_a->port() : listener_b->port();
        peer.key = key;
        leader.object->connect_session(session, term, peer, mode);
        leader.events.wait_for("finished");
        REQUIRE(leader.object->finish_resync(session).has_value());
    }
};

}  // namespace

TEST_CASE("ReplicatedFolder: paths that cannot be replicated are refused") {
    Events events;
    FolderOptions options;
    options.module = "vm1";
    options.node = "node1";
    options.state_directory = "/var/lib/safepair";
    for (const char* path : {"relative/folder", "/", ""}) {
        options.folder = path;
        CHECK_FALSE(ReplicatedFolder::create(options, events).has_value());
    }
    options.folder = "/srv/vm1";
    CHECK(ReplicatedFolder::create(options, events).has_value());
    options.state_directory = "state";
    CHECK_FALSE(ReplicatedFolder::create(options, events).has_value());
}

TEST_CASE("ReplicatedFolder: first use, service, and a clean stop that gives the folder back") {
    if (!has_trusted_xattrs()) {
        return;
    }
    Node node("node1");
    node.put("disk", "content");
    CHECK(is_refused(node.object->open_leader(false), "folder-not-recognised"));
    CHECK(node.get("disk") == "content");
    REQUIRE(node.object->open_leader(true).has_value());
    CHECK(fs::is_empty(node.folder()));
    CHECK(fs::exists(node.hidden() / "disk"));
    CHECK_FALSE(node.read_only);
    CHECK(node.fuse_name == "safepair:vm1");
    CHECK(carry_out(*node.front, write(node.find("disk"), 0, "CONTENT")) == 0);
    CHECK(node.object->map_state().changed);
    REQUIRE(node.object->close(true).has_value());
    CHECK(node.get("disk") == "CONTENT");
    CHECK_FALSE(fs::exists(node.hidden()));
    // Never compared with another node: nothing is known of the differences.
    CHECK_FALSE(node.object->map_state().usable);
    // The folder is known now.
    REQUIRE(node.object->open_leader(false).has_value());
    REQUIRE(node.object->close(true).has_value());
}

TEST_CASE("ReplicatedFolder: a folder that is not the one of the module is not touched") {
    if (!has_trusted_xattrs()) {
        return;
    }
    Node node("node1");
    node.put("disk", "content");
    REQUIRE(node.object->open_leader(true).has_value());
    REQUIRE(node.object->close(true).has_value());

    // The disk is not mounted: an empty folder in its place.
    fs::rename(node.folder(), node.directory / "elsewhere");
    CHECK(is_refused(node.object->open_follower(false), "folder-not-recognised"));
    fs::create_directory(node.folder());
    CHECK(is_refused(node.object->open_follower(false), "folder-not-recognised"));
    CHECK(is_refused(node.object->open_leader(true), "folder-not-recognised"));
    CHECK(fs::is_empty(node.folder()));

    // Another folder of the same module, as after a restore of the machine.
    Node other("node1");
    REQUIRE(other.object->open_leader(true).has_value());
    REQUIRE(other.object->close(true).has_value());
    fs::remove(node.folder());
    fs::rename(other.folder(), node.folder());
    CHECK(is_refused(node.object->open_leader(false), "folder-not-recognised"));
    fs::remove_all(node.folder());
    fs::rename(node.directory / "elsewhere", node.folder());
    CHECK(node.object->open_leader(false).has_value());
}

TEST_CASE(
    "ReplicatedFolder: without a clean stop the folder stays closed and the map is not believed") {
    if (!has_trusted_xattrs()) {
        return;
    }
    Node node("node1");
    REQUIRE(node.object->open_leader(true).has_value());
    REQUIRE(node.object->close(false).has_value());
    CHECK(fs::exists(node.hidden()));
    CHECK(fs::is_empty(node.folder()));
    node.restart();
    REQUIRE(node.object->recover().has_value());
    CHECK(fs::exists(node.hidden()));
    CHECK_FALSE(node.object->map_state().usable);
    REQUIRE(node.object->open_leader(false).has_value());
    REQUIRE(node.object->close(true).has_value());
    CHECK_FALSE(fs::exists(node.hidden()));
}

TEST_CASE("ReplicatedFolder: a folder in use is neither taken nor given back") {
    if (!has_trusted_xattrs()) {
        return;
    }
    Node node("node1");
    REQUIRE(node.object->open_leader(true).has_value());
    node.busy = true;
    const auto busy = node.object->close(true);
    CHECK(is_refused(busy, "folder-busy"));
    CHECK(busy.error().message().find("bash") != std::string::npos);
    CHECK(carry_out(*node.front, create(root_file, "still served")) == 0);
    REQUIRE(node.object->close(false).has_value());
    node.busy = false;
    node.mount_error = EPERM;
    CHECK_FALSE(node.object->open_leader(false).has_value());
    node.mount_error = 0;
    REQUIRE(node.object->open_leader(false).has_value());
    REQUIRE(node.object->close(true).has_value());
    CHECK(fs::exists(node.folder() / "still served"));
}

TEST_CASE("ReplicatedFolder: two nodes hold the same, also after a swap and back") {
    if (!has_trusted_xattrs()) {
        return;
    }
    Two two;
    two.a.put("disk", "the guest's disk");
    REQUIRE(two.a.object->open_leader(true).has_value());
    REQUIRE(two.b.object->open_follower(true).has_value());
    CHECK(two.b.read_only);
    CHECK(carry_out(*two.b.front, create(root_file, "x")) == EROFS);
    two.synchronise(two.a, two.b, SyncMode::full);
    CHECK(two.a.object->map_state().usable);
    CHECK_FALSE(two.a.object->map_state().changed);
    CHECK(two.b.object->map_state().usable);

    auto* leader = &two.a;
    auto* follower = &two.b;
    base::Prng prng(1);
    std::vector<std::byte> data;
    for (int turn = 0; turn < 3; ++turn) {
        for (int i = 0; i < 50; ++i) {
            carry_out(*leader->front, random_operation(prng, *leader->store, data));
        }
        const auto reached = leader->object->quiesce(std::chrono::minutes(1));
        REQUIRE(reached.has_value());
        CHECK(follower->object->verify_applied(two.session, *reached));
        leader->object->drop_session(two.session);
        follower->object->drop_session(two.session);
        REQUIRE(leader->object->open_follower(false).has_value());
        REQUIRE(follower->object->open_leader(false).has_value());
        CHECK(tests::difference(*leader->store, *follower->store) == "");
        CHECK_FALSE(leader->object->map_state().changed);
        std::swap(leader, follower);
        two.synchronise(*leader, *follower, SyncMode::dirty_blocks);
    }
    const auto stats = leader->object->stats();
    CHECK(stats.in_flight_bytes == 0);
    CHECK(stats.sent_bytes > 0);
    leader->object->drop_session(two.session);
    leader->object->fail_held();
    REQUIRE(leader->object->close(true).has_value());
    REQUIRE(follower->object->close(true).has_value());
    CHECK(leader->object->map_state().usable);
    CHECK(follower->object->map_state().usable);
    CHECK(leader->get("disk") == follower->get("disk"));
}

TEST_CASE(
    "ReplicatedFolder: a follower that takes over from a dead leader has every answered write") {
    if (!has_trusted_xattrs()) {
        return;
    }
    Two two;
    REQUIRE(two.a.object->open_leader(true).has_value());
    REQUIRE(two.b.object->open_follower(true).has_value());
    two.synchronise(two.a, two.b, SyncMode::full);
    const auto made = create(root_file, "log");
    CHECK(carry_out(*two.a.front, made) == 0);
    std::string expected;
    for (int i = 0; i < 100; ++i) {
        const auto line = std::to_string(i) + "\n";
        CHECK(carry_out(*two.a.front, write(made.file, expected.size(), line)) == 0);
        expected += line;
    }
    // As if it had died: its end closes, nothing more is said.
    two.a.object->drop_session(two.session);
    two.b.events.wait_for("lost");
    Reply held;
    two.a.front->submit(write(made.file, 0, "never answered"), held.completion());
    REQUIRE(two.b.object->open_leader(false).has_value());
    CHECK_FALSE(two.b.read_only);
    CHECK(content(*two.b.store, made.file) == expected);
    CHECK(carry_out(*two.b.front, write(made.file, expected.size(), "after")) == 0);
    CHECK_FALSE(held.has_come());

    // The old leader gives way; what only it has is overwritten.
    two.a.object->fail_held();
    CHECK(held.wait() == EIO);
    REQUIRE(two.a.object->open_follower(false).has_value());
    CHECK(two.a.object->map_state().changed);
    two.synchronise(two.b, two.a, SyncMode::dirty_blocks);
    CHECK_FALSE(two.a.object->map_state().changed);
    CHECK(tests::difference(*two.a.store, *two.b.store) == "");
}

TEST_CASE("ReplicatedFolder: what was changed while the module was stopped is found and copied") {
    if (!has_trusted_xattrs()) {
        return;
    }
    Two two;
    two.a.put("one", "first");
    two.a.put("two", "second");
    REQUIRE(two.a.object->open_leader(true).has_value());
    REQUIRE(two.b.object->open_follower(true).has_value());
    two.synchronise(two.a, two.b, SyncMode::full);
    REQUIRE(two.a.object->quiesce(std::chrono::minutes(1)).has_value());
    two.a.object->drop_session(two.session);
    two.a.object->fail_held();
    REQUIRE(two.a.object->close(true).has_value());
    REQUIRE(two.b.object->close(true).has_value());
    two.a.restart();
    two.listener_a->add("vm1", two.a.object->acceptor());
    CHECK(two.a.object->map_state().usable);
    CHECK_FALSE(two.a.object->map_state().changed);

    // Nothing was changed: nothing is found.
    REQUIRE(two.a.object->open_leader(false).has_value());
    CHECK(two.a.object->map_state().usable);
    CHECK_FALSE(two.a.object->map_state().changed);
    REQUIRE(two.a.object->close(true).has_value());

    two.a.put("one", "FIRST");
    two.a.put("three", "third");
    fs::remove(two.a.folder() / "two");
    REQUIRE(two.a.object->open_leader(false).has_value());
    CHECK(two.a.object->map_state().usable);
    CHECK(two.a.object->map_state().changed);
    REQUIRE(two.b.object->open_follower(false).has_value());
    two.synchronise(two.a, two.b, SyncMode::dirty_blocks);
    CHECK(tests::difference(*two.a.store, *two.b.store) == "");
    CHECK(content(*two.b.store, two.b.find("one")) == "FIRST");
    CHECK_FALSE(two.b.store->lookup(root_file, "two").has_value());
}

TEST_CASE(
    "ReplicatedFolder: an archive is made of a folder that is not in service, and it is plain "
    "again") {
    if (!has_trusted_xattrs()) {
        return;
    }
    Node node("node1");
    node.put("disk", "only here");
    REQUIRE(node.object->open_leader(true).has_value());
    REQUIRE(node.object->close(true).has_value());
    const auto name = base::random_id<GenerationId>();
    REQUIRE(node.object->archive_local(name).has_value());
    const auto archive = node.folder() / ".safepair" / "archive" / base::to_string(name);
    CHECK(fs::exists(archive / "tree" / "disk"));
    CHECK(node.get("disk") == "only here");
    CHECK_FALSE(fs::exists(node.hidden()));
}

TEST_CASE("ReplicatedFolder: sessions for a folder that is not in service are refused") {
    if (!has_trusted_xattrs()) {
        return;
    }
    Two two;
    two.a.object->connect_session(base::random_id<SessionId>(), 1, {}, SyncMode::full);
    two.a.events.wait_for("lost: this node does not serve");
    CHECK_FALSE(two.b.object->acceptor().accept({"vm1", base::random_id<SessionId>(), 1, "node1"},
                                                base::UniqueFd()));
    CHECK_FALSE(two.a.object->quiesce(std::chrono::seconds(1)).has_value());
    CHECK_FALSE(two.a.object->finish_resync(base::random_id<SessionId>()).has_value());
    CHECK_FALSE(two.a.object->verify_applied(base::random_id<SessionId>(), 0));
}
