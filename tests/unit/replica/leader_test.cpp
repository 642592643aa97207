#include "io/leader.hpp"

#include "engine_support.hpp"
#include "resync_support.hpp"
#include "support/catch.hpp"

#include <safepair/base/prng.hpp>

#include <array>
#include <atomic>
#include <cerrno>
#include <thread>

using namespace safepair;
using namespace safepair::tests;

namespace {

Footprint all_of(FileId file) { return {file, 0, UINT64_MAX, Footprint::Kind::data}; }

Operation set_size(FileId file, std::uint64_t size) {
    Operation operation;
    operation.kind = OperationKind::set_attributes;
    operation.file = file;
    operation.valid = attribute::size;
    operation.attributes.size = size;
    operation.time = base::wall_clock_now();
    return operation;
}

Operation unlink(FileId parent, const std::string& name) {
    Operation operation;
    operation.kind = OperationKind::unlink;
    operation.parent = parent;
    operation.name = name;
    operation.time = base::wall_clock_now();
    return operation;
}

}  // namespace

TEST_CASE("Leader: alone it serves, and a follower that comes later gets everything") {
    if (!has_trusted_xattrs()) {
        return;
    }
    Pair pair;
    const auto made = create(root_file, "disk");
    CHECK(carry_out(*pair.leader, made) == 0);
    CHECK(carry_out(*pair.leader, write(made.file, 0, "before the follower")) == 0);
    CHECK(carry_out(*pair.leader, create(root_file, "disk")) == EEXIST);
    CHECK(carry_out(*pair.leader, flush(made.file)) == 0);
    pair.synchronise(SyncMode::full);
    CHECK(content(*pair.follower_store, made.file) == "before the follower");
    CHECK(carry_out(*pair.leader, write(made.file, 7, "with")) == 0);
    CHECK(content(*pair.follower_store, made.file) == "before withfollower");
    CHECK(pair.difference().empty());
}

TEST_CASE("Leader: random operations of several threads leave both copies equal") {
    if (!has_trusted_xattrs()) {
        return;
    }
    Pair pair;
    pair.synchronise(SyncMode::full);
    constexpr int threads = 4;
    std::vector<std::thread> workers;
    std::atomic<int> done{0};
    for (int worker = 0; worker < threads; ++worker) {
        workers.emplace_back([&pair, &done, worker] {
            base::Prng prng(static_cast<std::uint64_t>(worker));
            std::vector<std::byte> data;
            for (int i = 0; i < 300; ++i) {
                const auto operation = random_operation(prng, *pair.leader_store, data);
                if (carry_out(*pair.leader, operation) == 0) {
                    ++done;
                }
            }
        });
    }
    for (auto& worker : workers) {
        worker.join();
    }
    CHECK(done > threads * 20);
    CHECK(pair.difference() == "");
    CHECK_FALSE(pair.leader_events.has("lost"));
}

TEST_CASE(
    "Leader: overlapping writes that are submitted without waiting have one order on both nodes") {
    if (!has_trusted_xattrs()) {
        return;
    }
    Pair pair;
    pair.synchronise(SyncMode::full);
    const auto made = create(root_file, "disk");
    CHECK(carry_out(*pair.leader, made) == 0);
    constexpr int threads = 3;
    constexpr int writes = 200;
    std::vector<std::thread> workers;
    for (int worker = 0; worker < threads; ++worker) {
        workers.emplace_back([&, worker] {
            base::Prng prng(static_cast<std::uint64_t>(worker) + 10);
            std::vector<Reply> replies(writes);
            for (auto& reply : replies) {
                const std::string text(1 + prng.below(9000),
                                       static_cast<char>('a' + prng.below(26)));
                pair.leader->submit(write(made.file, prng.below(20000), text), reply.completion());
            }
            for (auto& reply : replies) {
                CHECK(reply.wait() == 0);
            }
        });
    }
    for (auto& worker : workers) {
        worker.join();
    }
    CHECK(content(*pair.leader_store, made.file) == content(*pair.follower_store, made.file));
    CHECK(pair.difference() == "");
}

TEST_CASE("Leader: an application that writes during the resync loses nothing") {
    if (!has_trusted_xattrs()) {
        return;
    }
    Pair pair;
    std::vector<FileId> files;
    for (int i = 0; i < 5; ++i) {
        const auto made = create(root_file, "file" + std::to_string(i));
        CHECK(carry_out(*pair.leader, made) == 0);
        CHECK(carry_out(*pair.leader,
                        write(made.file, 0, std::string(300000, static_cast<char>('0' + i)))) == 0);
        files.push_back(made.file);
    }
    std::atomic<bool> stop{false};
    std::thread application([&] {
        base::Prng prng(5);
        std::vector<std::byte> data;
        while (!stop) {
            if (prng.chance(1, 2)) {
                const std::string text(1 + prng.below(5000), 'w');
                carry_out(*pair.leader,
                          write(files[prng.below(files.size())], prng.below(400000), text));
            } else {
                carry_out(*pair.leader, random_operation(prng, *pair.leader_store, data));
            }
        }
    });
    for (const auto mode : {SyncMode::full, SyncMode::checksum, SyncMode::dirty_blocks}) {
        pair.synchronise(mode);
        pair.leader->drop(pair.session);
        pair.leader->release_held();
    }
    pair.synchronise(SyncMode::dirty_blocks);
    stop = true;
    application.join();
    CHECK(pair.difference() == "");
}

TEST_CASE(
    "Leader: after a lost session nothing is answered until it is released, then it goes on "
    "alone") {
    if (!has_trusted_xattrs()) {
        return;
    }
    Pair pair;
    pair.synchronise(SyncMode::full);
    const auto made = create(root_file, "disk");
    CHECK(carry_out(*pair.leader, made) == 0);
    Gate gate;
    pair.follower_store->set_fault([&](const Operation& operation) {
        if (operation.kind == OperationKind::write) {
            gate.wait_until_open();
        }
        return 0;
    });
    Reply in_flight, reader, later;
    pair.leader->submit(write(made.file, 0, "in flight"), in_flight.completion());
    gate.wait_until_somebody_waits();
    pair.leader->drop(pair.session);
    pair.leader->fence(all_of(made.file), reader.completion());
    pair.leader->submit(write(made.file, 100, "later"), later.completion());
    CHECK_FALSE(in_flight.has_come());
    CHECK_FALSE(reader.has_come());
    CHECK_FALSE(later.has_come());
    // It was carried out here all the same.
    CHECK(content(*pair.leader_store, made.file).substr(0, 9) == "in flight");
    pair.leader->release_held();
    CHECK(in_flight.wait() == 0);
    CHECK(reader.wait() == 0);
    CHECK(later.wait() == 0);
    CHECK(carry_out(*pair.leader, write(made.file, 200, "alone")) == 0);
    gate.open();
    pair.follower_store->set_fault({});
    pair.synchronise(SyncMode::dirty_blocks);
    CHECK(pair.difference() == "");
}

TEST_CASE("Leader: failing what is held answers EIO and keeps it marked") {
    if (!has_trusted_xattrs()) {
        return;
    }
    Pair pair;
    pair.synchronise(SyncMode::full);
    const auto made = create(root_file, "disk");
    CHECK(carry_out(*pair.leader, made) == 0);
    pair.leader->drop(pair.session);
    Reply held, reader;
    pair.leader->submit(write(made.file, 0, "held"), held.completion());
    pair.leader->fence(all_of(made.file), reader.completion());
    CHECK_FALSE(held.has_come());
    pair.leader->fail();
    CHECK(held.wait() == EIO);
    CHECK(reader.wait() == EIO);
    CHECK(carry_out(*pair.leader, write(made.file, 0, "x")) == EIO);
    CHECK(carry_out(*pair.leader, flush(made.file)) == EIO);
    CHECK(fence(*pair.leader, all_of(made.file)) == EIO);
    CHECK(content(*pair.leader_store, made.file) == "held");
    CHECK(pair.leader->uncertain().find(made.file)->contains(0));
}

TEST_CASE("Leader: a reader waits for a write that the follower does not have yet") {
    if (!has_trusted_xattrs()) {
        return;
    }
    Pair pair;
    pair.synchronise(SyncMode::full);
    const auto made = create(root_file, "disk");
    CHECK(carry_out(*pair.leader, made) == 0);
    Gate gate;
    pair.follower_store->set_fault([&](const Operation& operation) {
        if (operation.kind == OperationKind::write) {
            gate.wait_until_open();
        }
        return 0;
    });
    Reply writer, reader;
    pair.leader->submit(write(made.file, 0, "new"), writer.completion());
    gate.wait_until_somebody_waits();
    CHECK(content(*pair.leader_store, made.file) == "new");
    pair.leader->fence(all_of(made.file), reader.completion());
    CHECK_FALSE(reader.has_come());
    CHECK_FALSE(writer.has_come());
    CHECK(fence(*pair.leader, {made.file, 100, 5, Footprint::Kind::data}) == 0);
    gate.open();
    CHECK(writer.wait() == 0);
    CHECK(reader.wait() == 0);
}

TEST_CASE(
    "Leader: a record that the follower cannot carry out ends the session on both sides for good") {
    if (!has_trusted_xattrs()) {
        return;
    }
    Pair pair;
    pair.synchronise(SyncMode::full);
    const auto made = create(root_file, "disk");
    CHECK(carry_out(*pair.leader, made) == 0);
    pair.follower_store->set_fault([](const Operation& operation) {
        return operation.kind == OperationKind::write ? ENOSPC : 0;
    });
    Reply held;
    pair.leader->submit(write(made.file, 0, "refused there"), held.completion());
    CHECK_FALSE(pair.leader_events.wait_for("lost, apply failed").empty());
    CHECK_FALSE(pair.follower_events.wait_for("lost, apply failed").empty());
    CHECK_FALSE(held.has_come());
    CHECK_FALSE(pair.follower->verify_applied(pair.session, 0));
    CHECK_FALSE(pair.follower->finish().has_value());
    pair.leader->release_held();
    CHECK(held.wait() == 0);
    CHECK(pair.leader->uncertain().find(made.file) != nullptr);
}

TEST_CASE("Leader: a flush that fails on the follower ends the session") {
    if (!has_trusted_xattrs()) {
        return;
    }
    Pair pair;
    pair.synchronise(SyncMode::full);
    const auto made = create(root_file, "disk");
    CHECK(carry_out(*pair.leader, made) == 0);
    CHECK(carry_out(*pair.leader, flush(made.file)) == 0);
    pair.follower_store->set_fault([](const Operation& operation) {
        return operation.kind == OperationKind::flush ? EIO : 0;
    });
    Reply held;
    pair.leader->submit(flush(made.file), held.completion());
    pair.leader_events.wait_for("lost, apply failed");
    CHECK_FALSE(held.has_come());
    pair.leader->release_held();
    CHECK(held.wait() == 0);
}

TEST_CASE("Leader: a local failure with a follower in sync is told and not answered") {
    if (!has_trusted_xattrs()) {
        return;
    }
    Pair pair;
    const auto made = create(root_file, "disk");
    CHECK(carry_out(*pair.leader, made) == 0);
    const auto fail_writes = [](const Operation& operation) {
        return operation.kind == OperationKind::write ? EIO : 0;
    };
    pair.leader_store->set_fault(fail_writes);
    CHECK(carry_out(*pair.leader, write(made.file, 0, "alone")) == EIO);
    pair.leader_store->set_fault({});
    pair.synchronise(SyncMode::full);
    pair.leader_store->set_fault(fail_writes);
    Reply held;
    pair.leader->submit(write(made.file, 0, "there only"), held.completion());
    pair.leader_events.wait_for("local failure");
    // The follower has it; once it leads, this node must not have said otherwise.
    CHECK(fence(*pair.leader, {made.file, 50, 1, Footprint::Kind::data}) == 0);
    CHECK_FALSE(held.has_come());
    pair.leader->fail();
    CHECK(held.wait() == EIO);
}

TEST_CASE("Leader: an operation that cannot be carried out anywhere never reaches the follower") {
    if (!has_trusted_xattrs()) {
        return;
    }
    Pair pair;
    pair.synchronise(SyncMode::full);
    const auto made = create(root_file, "disk");
    CHECK(carry_out(*pair.leader, made) == 0);
    CHECK(carry_out(*pair.leader, unlink(root_file, "absent")) == ENOENT);
    CHECK(carry_out(*pair.leader, create(root_file, "disk")) == EEXIST);
    CHECK(carry_out(*pair.leader, create(base::random_id<FileId>(), "x")) == ENOENT);
    CHECK(carry_out(*pair.leader, write(base::random_id<FileId>(), 0, "x")) == ENOENT);
    CHECK(carry_out(*pair.leader, write(made.file, UINT64_MAX - 1, "xyz")) == EFBIG);
    CHECK(carry_out(*pair.leader, write(made.file, std::uint64_t{1} << 62U, "xyz")) == EFBIG);
    CHECK(carry_out(*pair.leader, set_size(made.file, UINT64_MAX / 2)) != 0);
    CHECK(pair.difference() == "");
    CHECK(pair.leader->dirty().empty());
    CHECK_FALSE(pair.leader_events.has("lost"));
}

TEST_CASE("Leader: a file without a name is written here only") {
    if (!has_trusted_xattrs()) {
        return;
    }
    Pair pair;
    pair.synchronise(SyncMode::full);
    const auto made = create(root_file, "temporary");
    CHECK(carry_out(*pair.leader, made) == 0);
    CHECK(pair.leader_store->hold(made.file).has_value());
    CHECK(carry_out(*pair.leader, unlink(root_file, "temporary")) == 0);
    CHECK(carry_out(*pair.leader, write(made.file, 0, "still here", true)) == 0);
    CHECK(carry_out(*pair.leader, flush(made.file)) == 0);
    CHECK(carry_out(*pair.leader, set_size(made.file, 5)) == 0);
    CHECK(content(*pair.leader_store, made.file) == "still");
    pair.leader_store->release(made.file);
    CHECK(pair.difference() == "");
}

TEST_CASE("Leader: frozen it carries nothing out and answers nothing, and goes on when it thaws") {
    if (!has_trusted_xattrs()) {
        return;
    }
    Pair pair;
    pair.synchronise(SyncMode::full);
    const auto made = create(root_file, "disk");
    CHECK(carry_out(*pair.leader, made) == 0);
    pair.leader->freeze();
    Reply first, second, reader;
    pair.leader->submit(write(made.file, 0, "first"), first.completion());
    pair.leader->submit(write(made.file, 0, "last "), second.completion());
    pair.leader->fence(all_of(made.file), reader.completion());
    CHECK(content(*pair.leader_store, made.file).empty());
    CHECK_FALSE(first.has_come());
    CHECK_FALSE(reader.has_come());
    pair.leader->thaw();
    CHECK(first.wait() == 0);
    CHECK(second.wait() == 0);
    CHECK(reader.wait() == 0);
    CHECK(content(*pair.leader_store, made.file) == "last ");
    pair.leader->freeze();
    Reply failed;
    pair.leader->submit(write(made.file, 0, "never"), failed.completion());
    pair.leader->fail();
    CHECK(failed.wait() == EIO);
    CHECK(content(*pair.leader_store, made.file) == "last ");
}

TEST_CASE("Leader: space runs out early, on whichever node has less") {
    if (!has_trusted_xattrs()) {
        return;
    }
    Pair pair;
    const auto made = create(root_file, "disk");
    CHECK(carry_out(*pair.leader, made) == 0);
    CHECK(carry_out(*pair.leader, write(made.file, 0, std::string(8192, 'x'))) == 0);
    CHECK(carry_out(*pair.leader, flush(made.file)) == 0);
    pair.follower_store->set_free(limits::free_bytes_min / 2);
    pair.synchronise(SyncMode::full);
    const auto space = pair.leader->space();
    REQUIRE(space.has_value());
    CHECK(space->blocks_available * space->block_bytes <= limits::free_bytes_min / 2);
    CHECK(carry_out(*pair.leader, write(made.file, 8192, "beyond")) == ENOSPC);
    CHECK(carry_out(*pair.leader, create(root_file, "another")) == ENOSPC);
    // What is there already can still be changed and taken away.
    CHECK(carry_out(*pair.leader, write(made.file, 0, "over")) == 0);
    CHECK(carry_out(*pair.leader, unlink(root_file, "disk")) == 0);
    CHECK_FALSE(pair.leader_events.has("lost"));
}

TEST_CASE("Leader: durable writes are flushed on both before they are answered") {
    if (!has_trusted_xattrs()) {
        return;
    }
    for (const auto durability : {Durability::flush_durable, Durability::every_write}) {
        Pair pair(durability);
        pair.synchronise(SyncMode::full);
        const auto made = create(root_file, "disk");
        CHECK(carry_out(*pair.leader, made) == 0);
        std::atomic<int> here{0}, there{0};
        const auto count = [&made](std::atomic<int>& flushes) {
            return [&flushes, &made](const Operation& operation) {
                if (operation.kind == OperationKind::flush && operation.file == made.file) {
                    ++flushes;
                }
                return 0;
            };
        };
        pair.leader_store->set_fault(count(here));
        pair.follower_store->set_fault(count(there));
        CHECK(carry_out(*pair.leader, write(made.file, 0, "durable", true)) == 0);
        CHECK(here == 1);
        CHECK(there == 1);
        CHECK(carry_out(*pair.leader, write(made.file, 0, "plain")) == 0);
        const bool every = durability == Durability::every_write;
        CHECK(here == (every ? 2 : 1));
        CHECK(there == (every ? 2 : 1));
        // The name was made since the last flush, so the next flush is a real one in any mode; the
        // one after it is not.
        CHECK(carry_out(*pair.leader, flush(made.file)) == 0);
        CHECK(here == (every ? 3 : 2));
        CHECK(there == (every ? 3 : 2));
        // Setting the time that the write carried is a change of metadata of its own.
        CHECK(carry_out(*pair.leader, flush(made.file)) == 0);
        const int before = here;
        CHECK(carry_out(*pair.leader, flush(made.file)) == 0);
        CHECK(here == (every ? before : before + 1));
        CHECK(pair.difference() == "");
    }
}

TEST_CASE("Leader: quiesce says how far the follower has come, and the follower vouches for it") {
    if (!has_trusted_xattrs()) {
        return;
    }
    Pair pair;
    CHECK_FALSE(pair.leader->quiesce(std::chrono::seconds(60)).has_value());
    pair.synchronise(SyncMode::full);
    const auto made = create(root_file, "disk");
    CHECK(carry_out(*pair.leader, made) == 0);
    CHECK(carry_out(*pair.leader, write(made.file, 0, "all of it")) == 0);
    const auto reached = pair.leader->quiesce(std::chrono::seconds(60));
    REQUIRE(reached.has_value());
    pair.leader->drop(pair.session);
    CHECK(pair.follower->verify_applied(pair.session, *reached));
    CHECK_FALSE(pair.follower->verify_applied(pair.session, *reached + 1));
    CHECK_FALSE(pair.follower->verify_applied(base::random_id<SessionId>(), *reached));
    CHECK(pair.leader->uncertain().empty());
    CHECK(pair.follower->finish().has_value());
    CHECK(tests::difference(*pair.leader_store, *pair.follower_store) == "");
}

TEST_CASE("Follower: when it takes over it has the times of the last writes") {
    if (!has_trusted_xattrs()) {
        return;
    }
    Pair pair;
    pair.synchronise(SyncMode::full);
    const auto made = create(root_file, "disk");
    CHECK(carry_out(*pair.leader, made) == 0);
    const std::string text = "last";
    auto last = write(made.file, 0, text);
    last.time = 1'600'000'000'123'456'789;
    CHECK(carry_out(*pair.leader, last) == 0);
    pair.leader->drop(pair.session);
    CHECK(pair.follower->finish().has_value());
    CHECK(pair.follower_store->attributes(made.file)->modified == last.time);
}

TEST_CASE("Follower: a flush that failed when it took over is never tried again") {
    if (!has_trusted_xattrs()) {
        return;
    }
    Pair pair;
    pair.synchronise(SyncMode::full);
    pair.follower_store->set_fault([](const Operation& operation) {
        return operation.kind == OperationKind::flush ? EIO : 0;
    });
    CHECK_FALSE(pair.follower->verify_applied(pair.session, 0));
    pair.follower_store->set_fault({});
    CHECK_FALSE(pair.follower->verify_applied(pair.session, 0));
    CHECK_FALSE(pair.follower->finish().has_value());
}

TEST_CASE("Follower: it never takes a session that it does not expect, nor one twice") {
    if (!has_trusted_xattrs()) {
        return;
    }
    Pair pair;
    pair.connect(SyncMode::full);
    pair.leader_events.wait_for("finished");
    const auto first = pair.session;
    pair.leader->drop(first);
    pair.follower_events.wait_for("lost");
    ChannelHello hello{"vm", first, 1, "node1"};
    CHECK_FALSE(pair.follower->accept(hello, base::UniqueFd()));
    const auto next = base::random_id<SessionId>();
    pair.follower->expect(next, 7);
    CHECK_FALSE(pair.follower->accept({"vm", next, 6, "node1"}, base::UniqueFd()));
    CHECK_FALSE(
        pair.follower->accept({"vm", base::random_id<SessionId>(), 7, "node1"}, base::UniqueFd()));
    pair.follower->drop(next);
    CHECK_FALSE(pair.follower->accept({"vm", next, 7, "node1"}, base::UniqueFd()));
    CHECK(carry_out(*pair.follower, create(root_file, "x")) == EROFS);
}

TEST_CASE("Leader: a session that nobody expects is lost, and says so") {
    if (!has_trusted_xattrs()) {
        return;
    }
    Pair pair;
    pair.connect(SyncMode::full);
    pair.leader_events.wait_for("finished");
    DataEndpoint nowhere;
    nowhere.address = "127.0.0.1";
    nowhere.port = 1;
    pair.leader->drop(pair.session);
    pair.leader->release_held();
    pair.leader->connect(base::random_id<SessionId>(), 1, nowhere, SyncMode::full);
    pair.leader_events.wait_for("lost: connect to 127.0.0.1 port 1");
    const auto made = create(root_file, "disk");
    CHECK(carry_out(*pair.leader, made) == 0);
}

TEST_CASE("Leader: with the fault for tests it answers before the follower has anything") {
    if (!has_trusted_xattrs()) {
        return;
    }
    FolderFaults faults;
    faults.acknowledge_without_peer = true;
    Pair pair(Durability::flush_durable, faults);
    const auto made = create(root_file, "disk");
    CHECK(carry_out(*pair.leader, made) == 0);
    pair.synchronise(SyncMode::full);
    Gate gate;
    pair.follower_store->set_fault([&](const Operation& operation) {
        if (operation.kind == OperationKind::write) {
            gate.wait_until_open();
        }
        return 0;
    });
    CHECK(carry_out(*pair.leader, write(made.file, 0, "lost when this node dies")) == 0);
    CHECK(carry_out(*pair.leader, flush(made.file)) == 0);
    CHECK(content(*pair.follower_store, made.file).empty());
    gate.open();
}
