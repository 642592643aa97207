#include "core/primary.hpp"

#include "support/catch.hpp"

#include <cerrno>
#include <vector>

using namespace safepair;
using namespace safepair::replica;

namespace {

FileId file_number(std::uint8_t number) {
    FileId file;
    file.bytes[0] = number;
    return file;
}

/// Counts what was answered.
struct Told {
    int times = 0;
    int error = -1;

    Completion completion() {
        return {[](void* self, int result) {
                    auto& told = *static_cast<Told*>(self);
                    ++told.times;
                    told.error = result;
                },
                this};
    }
};

struct Desk {
    Primary primary{DirtyMap{}};
    Primary::Answers answers;

    void deliver() {
        for (const auto& answer : answers) {
            answer.done(answer.error);
        }
        answers.clear();
    }

    Effects write_effects(std::uint8_t file, std::uint64_t offset) {
        Operation operation;
        operation.kind = OperationKind::write;
        operation.file = file_number(file);
        operation.offset = offset;
        static const std::vector<std::byte> data(4096);
        operation.data = data;
        return effects_of(operation, {});
    }

    Primary::Handle begin(Told& told, std::uint8_t file = 1, std::uint64_t offset = 0) {
        Primary::Work work;
        work.effects = write_effects(file, offset);
        work.done = told.completion();
        work.bytes = 4096;
        work.ships = primary.attached();
        work.waits_for_peer = primary.attached() && primary.promises();
        const auto handle = primary.begin(work, answers);
        deliver();
        return handle;
    }

    std::uint64_t number(Primary::Handle handle) { return primary.number(handle, base::Instant{}); }

    bool local(Primary::Handle handle, int error = 0) {
        const bool failed = primary.local_done(handle, error, answers);
        deliver();
        return failed;
    }

    bool acknowledge(std::uint64_t sequence, bool flushed = false) {
        const auto result = primary.acknowledge({sequence, 0, flushed}, answers);
        deliver();
        return result.has_value();
    }

    void fence(Told& told, const Footprint& read) {
        primary.fence(read, told.completion(), answers);
        deliver();
    }

    void lose() {
        primary.session_lost(answers);
        deliver();
    }

    void to_in_sync() {
        primary.session_up();
        [[maybe_unused]] const auto map = primary.attach();
        primary.settle();
        primary.become_in_sync();
    }
};

Footprint data_of(std::uint8_t file, std::uint64_t offset, std::uint64_t length) {
    return {file_number(file), offset, length, Footprint::Kind::data};
}

}  // namespace

TEST_CASE("Primary: alone it answers by the local result and marks what was written") {
    Desk desk;
    Told told;
    const auto handle = desk.begin(told, 1, 65536);
    CHECK(told.times == 0);
    CHECK_FALSE(desk.local(handle));
    CHECK(told.times == 1);
    CHECK(told.error == 0);
    REQUIRE(desk.primary.dirty().find(file_number(1)) != nullptr);
    CHECK(desk.primary.dirty().find(file_number(1))->contains(1));
    CHECK(desk.primary.idle());
    Told failing;
    CHECK_FALSE(desk.local(desk.begin(failing), EIO));
    CHECK(failing.error == EIO);
}

TEST_CASE("Primary: in sync it answers when both have it, whichever is first") {
    Desk desk;
    desk.to_in_sync();
    Told first, second;
    const auto one = desk.begin(first);
    const auto two = desk.begin(second, 1, 4096);
    CHECK(desk.number(one) == 1);
    CHECK(desk.number(two) == 2);
    CHECK_FALSE(desk.local(one));
    CHECK(first.times == 0);
    CHECK(desk.acknowledge(2));
    CHECK(second.times == 0);
    CHECK_FALSE(desk.local(two));
    CHECK(second.times == 1);
    CHECK(desk.acknowledge(1));
    CHECK(first.times == 1);
    CHECK(desk.primary.idle());
    CHECK(desk.primary.acknowledged_sequence() == 2);
    CHECK(desk.primary.dirty().empty());
    CHECK(desk.primary.has_unflushed());
}

TEST_CASE("Primary: an acknowledgement that belongs to nothing is corrupt") {
    Desk desk;
    desk.to_in_sync();
    Told told;
    const auto handle = desk.begin(told);
    CHECK(desk.number(handle) == 1);
    CHECK_FALSE(desk.acknowledge(2));
    CHECK_FALSE(desk.acknowledge(0));
    CHECK(desk.acknowledge(1));
    CHECK_FALSE(desk.acknowledge(1));
    Primary::Work flush;
    flush.ships = true;
    flush.runs_here = false;
    flush.flushes_there = true;
    CHECK(desk.number(desk.primary.begin(flush, desk.answers)) == 2);
    CHECK_FALSE(desk.acknowledge(2, false));
}

TEST_CASE("Primary: a lost session in sync holds every answer until it is released") {
    Desk desk;
    desk.to_in_sync();
    Told done_here, done_there, fresh, reader;
    const auto one = desk.begin(done_here, 1, 0);
    const auto two = desk.begin(done_there, 1, 1 << 20);
    CHECK(desk.number(one) == 1);
    CHECK(desk.number(two) == 2);
    CHECK_FALSE(desk.local(one));
    CHECK(desk.acknowledge(2));
    desk.lose();
    CHECK(desk.primary.state() == LeaderState::holding);
    CHECK_FALSE(desk.local(two));
    CHECK_FALSE(desk.local(desk.begin(fresh, 2)));
    desk.fence(reader, data_of(9, 0, 10));
    CHECK(done_here.times + done_there.times + fresh.times + reader.times == 0);
    // In flight, and written while held: both are to be copied later.
    CHECK(desk.primary.dirty().find(file_number(1))->contains(0));
    CHECK(desk.primary.dirty().find(file_number(1))->contains(16));
    CHECK(desk.primary.dirty().find(file_number(2)) != nullptr);

    desk.primary.release_held(desk.answers);
    desk.deliver();
    CHECK(desk.primary.state() == LeaderState::alone);
    for (const auto* told : {&done_here, &done_there, &fresh, &reader}) {
        CHECK(told->times == 1);
        CHECK(told->error == 0);
    }
    CHECK(desk.primary.idle());
}

TEST_CASE("Primary: failing answers everything with EIO, once, and keeps it marked") {
    Desk desk;
    desk.to_in_sync();
    Told running, held, late, reader, late_reader;
    const auto one = desk.begin(running, 1);
    const auto two = desk.begin(held, 2);
    CHECK(desk.number(two) == 1);
    CHECK_FALSE(desk.local(two));
    desk.lose();
    desk.fence(reader, data_of(9, 0, 10));
    desk.primary.fail(desk.answers);
    desk.deliver();
    CHECK(running.error == EIO);
    CHECK(held.error == EIO);
    CHECK(reader.error == EIO);
    CHECK_FALSE(desk.local(one));
    CHECK(running.times == 1);
    CHECK_FALSE(desk.local(desk.begin(late, 3)));
    CHECK(late.error == EIO);
    CHECK(late.times == 1);
    desk.fence(late_reader, data_of(9, 0, 10));
    CHECK(late_reader.error == EIO);
    CHECK(desk.primary.dirty().find(file_number(1)) != nullptr);
    CHECK(desk.primary.dirty().find(file_number(2)) != nullptr);
    CHECK(desk.primary.idle());
}

TEST_CASE("Primary: while resynchronising it answers by the local result, and marks") {
    Desk desk;
    desk.primary.session_up();
    Told before, after;
    const auto unshipped = desk.begin(before, 1);
    CHECK(desk.number(unshipped) == 0);
    CHECK_FALSE(desk.local(unshipped));
    CHECK(before.times == 1);
    CHECK(desk.primary.attach().find(file_number(1)) != nullptr);
    const auto shipped = desk.begin(after, 2);
    CHECK(desk.number(shipped) == 1);
    CHECK_FALSE(desk.local(shipped));
    CHECK(after.times == 1);
    CHECK(desk.primary.dirty().find(file_number(2)) != nullptr);
    CHECK_FALSE(desk.primary.idle());

    // Answered without the follower: in sync only when the follower has it.
    desk.primary.settle();
    CHECK_FALSE(desk.primary.settled());
    CHECK(desk.acknowledge(1));
    CHECK(desk.primary.settled());
    CHECK(desk.primary.idle());
    // Not yet flushed on both, so it outlives the end of the resync.
    desk.primary.become_in_sync();
    desk.primary.finish_resync();
    CHECK(desk.primary.dirty().empty());
    desk.lose();
    CHECK(desk.primary.dirty().find(file_number(2)) != nullptr);
    CHECK(desk.primary.dirty().find(file_number(1)) == nullptr);
}

TEST_CASE(
    "Primary: an operation that straddles the switch is not forgotten by the flush before it") {
    Desk desk;
    desk.primary.session_up();
    [[maybe_unused]] const auto map = desk.primary.attach();
    Told told;
    const auto handle = desk.begin(told, 5);
    CHECK(desk.number(handle) == 1);
    desk.primary.settle();
    const auto token = desk.primary.begin_flush_all();
    CHECK(desk.acknowledge(1));
    CHECK_FALSE(desk.local(handle));
    CHECK(told.times == 1);
    desk.primary.end_flush_all(token, true);
    desk.primary.become_in_sync();
    desk.primary.finish_resync();
    desk.lose();
    CHECK(desk.primary.dirty().find(file_number(5)) != nullptr);
}

TEST_CASE("Primary: a session that is lost before anybody was told leads back to alone") {
    Desk desk;
    desk.primary.session_up();
    [[maybe_unused]] const auto map = desk.primary.attach();
    desk.primary.settle();
    Told told;
    const auto handle = desk.begin(told);
    CHECK(desk.number(handle) == 1);
    CHECK_FALSE(desk.local(handle));
    CHECK(told.times == 0);
    desk.lose();
    CHECK(desk.primary.state() == LeaderState::alone);
    CHECK(told.times == 1);
    CHECK(desk.primary.idle());
}

TEST_CASE("Primary: a local failure is not answered while the follower can go on") {
    Desk desk;
    desk.to_in_sync();
    Told told;
    const auto handle = desk.begin(told);
    CHECK(desk.number(handle) == 1);
    CHECK(desk.local(handle, EIO));
    CHECK(desk.acknowledge(1));
    CHECK(told.times == 0);
    CHECK(desk.primary.has_held_failure());
    desk.lose();
    CHECK(told.times == 0);
    desk.primary.release_held(desk.answers);
    desk.deliver();
    CHECK(told.times == 1);
    CHECK(told.error == EIO);
    CHECK(desk.primary.dirty().find(file_number(1)) != nullptr);
}

TEST_CASE(
    "Primary: an operation that no node would carry out is answered at once and changes no map") {
    Desk desk;
    desk.to_in_sync();
    Told told;
    const auto handle = desk.begin(told);
    desk.primary.keep_here(handle);
    CHECK_FALSE(desk.local(handle, ENOENT));
    CHECK(told.error == ENOENT);
    CHECK(desk.primary.dirty().empty());
    CHECK_FALSE(desk.primary.has_unflushed());
    CHECK(desk.primary.idle());
}

TEST_CASE("Primary: a reader waits for exactly what it may have seen") {
    Desk desk;
    desk.to_in_sync();
    Told writer, beside, other_writer, overlapping, attributes, elsewhere, both;
    const auto one = desk.begin(writer, 1, 0);
    const auto two = desk.begin(other_writer, 1, 8192);
    CHECK(desk.number(one) == 1);
    CHECK(desk.number(two) == 2);
    desk.fence(beside, data_of(1, 4096, 4096));
    desk.fence(elsewhere, data_of(2, 0, 4096));
    CHECK(beside.times == 1);
    CHECK(elsewhere.times == 1);
    desk.fence(overlapping, data_of(1, 4095, 1));
    desk.fence(attributes, {file_number(1), 0, 0, Footprint::Kind::metadata});
    desk.fence(both, data_of(1, 0, UINT64_MAX));
    CHECK_FALSE(desk.local(one));
    CHECK(overlapping.times == 0);
    CHECK(desk.acknowledge(1));
    CHECK(overlapping.times == 1);
    CHECK(attributes.times == 0);
    CHECK(both.times == 0);
    CHECK_FALSE(desk.local(two));
    CHECK(desk.acknowledge(2));
    CHECK(attributes.times == 1);
    CHECK(both.times == 1);
}

TEST_CASE("Primary: frozen it answers nothing, and gives all answers when it thaws") {
    Desk desk;
    Told writer, reader;
    desk.primary.freeze();
    CHECK_FALSE(desk.local(desk.begin(writer)));
    desk.fence(reader, data_of(2, 0, 1));
    CHECK(writer.times + reader.times == 0);
    desk.primary.thaw(desk.answers);
    desk.deliver();
    CHECK(writer.times == 1);
    CHECK(reader.times == 1);
}

TEST_CASE("Primary: what a flush of everything covers is forgotten, and what came later is not") {
    Desk desk;
    desk.to_in_sync();
    Told early, later;
    const auto one = desk.begin(early, 1);
    CHECK(desk.number(one) == 1);
    CHECK_FALSE(desk.local(one));
    CHECK(desk.acknowledge(1));
    const auto token = desk.primary.begin_flush_all();
    const auto two = desk.begin(later, 2);
    CHECK(desk.number(two) == 2);
    CHECK_FALSE(desk.local(two));
    CHECK(desk.acknowledge(2));
    desk.primary.end_flush_all(token, true);
    desk.lose();
    CHECK(desk.primary.dirty().find(file_number(1)) == nullptr);
    CHECK(desk.primary.dirty().find(file_number(2)) != nullptr);
}

TEST_CASE("Primary: a flush that ends after its session is lost forgets nothing") {
    Desk desk;
    desk.to_in_sync();
    Told told;
    const auto handle = desk.begin(told, 1);
    CHECK(desk.number(handle) == 1);
    CHECK_FALSE(desk.local(handle));
    CHECK(desk.acknowledge(1));
    const auto token = desk.primary.begin_flush_all();
    desk.lose();
    desk.primary.end_flush_all(token, true);
    CHECK(desk.primary.dirty().find(file_number(1)) != nullptr);
}

TEST_CASE("Primary: what is in flight is bounded by bytes and by number") {
    Desk desk;
    desk.to_in_sync();
    std::vector<Told> told(limits::in_flight_bytes_max / 4096 + 1);
    std::size_t count = 0;
    while (desk.primary.has_room(4096) && count < told.size()) {
        CHECK(desk.number(desk.begin(told[count])) == count + 1);
        ++count;
    }
    CHECK(count == std::min(limits::in_flight_operations_max, limits::in_flight_bytes_max / 4096));
    CHECK(desk.acknowledge(1));
    CHECK_FALSE(desk.primary.has_room(limits::in_flight_bytes_max));
}

TEST_CASE("Primary: metadata counts as unflushed until a flush that began after it") {
    Desk desk;
    Operation chmod;
    chmod.kind = OperationKind::set_attributes;
    chmod.file = file_number(1);
    chmod.valid = attribute::mode;
    const auto change = [&] {
        Primary::Work work;
        work.effects = effects_of(chmod, {});
        CHECK_FALSE(desk.local(desk.primary.begin(work, desk.answers)));
    };
    CHECK_FALSE(desk.primary.has_unflushed_metadata(file_number(1)));
    change();
    CHECK(desk.primary.has_unflushed_metadata(file_number(1)));
    const auto mark = desk.primary.metadata_mark();
    change();
    desk.primary.metadata_flushed(file_number(1), mark);
    CHECK(desk.primary.has_unflushed_metadata(file_number(1)));
    desk.primary.metadata_flushed(root_file, desk.primary.metadata_mark());
    CHECK_FALSE(desk.primary.has_unflushed_metadata(file_number(1)));
}

TEST_CASE("Effects: what a file loses at its end is marked, and a huge hole costs no bitmap") {
    Operation truncate;
    truncate.kind = OperationKind::set_attributes;
    truncate.file = file_number(1);
    truncate.valid = attribute::size;
    truncate.attributes.size = 70000;
    DirtyMap map;
    effects_of(truncate, {.size = 200000, .target = {}, .replaced = {}}).mark(map);
    CHECK(map.find(file_number(1))->ranges() == std::vector<BlockRange>{{1, 3}});
    DirtyMap grown;
    effects_of(truncate, {.size = 1000, .target = {}, .replaced = {}}).mark(grown);
    REQUIRE(grown.find(file_number(1)) != nullptr);
    CHECK(grown.find(file_number(1))->count() == 0);
    DirtyMap unknown;
    effects_of(truncate, {}).mark(unknown);
    CHECK(unknown.find(file_number(1))->whole());
    Operation punch;
    punch.kind = OperationKind::allocate;
    punch.file = file_number(1);
    punch.flags = 3;
    punch.length = INT64_MAX;
    DirtyMap huge;
    effects_of(punch, {.size = std::uint64_t{1} << 60U, .target = {}, .replaced = {}}).mark(huge);
    CHECK(huge.find(file_number(1))->whole());
    DirtyMap small;
    effects_of(punch, {.size = 10, .target = {}, .replaced = {}}).mark(small);
    CHECK(small.find(file_number(1))->ranges() == std::vector<BlockRange>{{0, 1}});
}
