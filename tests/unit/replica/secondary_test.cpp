#include "core/secondary.hpp"

#include "support/catch.hpp"

using namespace safepair;
using namespace safepair::replica;

namespace {

FileId file_number(std::uint8_t number) {
    FileId file;
    file.bytes[0] = number;
    return file;
}

base::SessionId session_number(std::uint8_t number) {
    base::SessionId session;
    session.bytes[0] = number;
    return session;
}

FrameHeader frame(FrameKind kind, std::uint64_t sequence) {
    FrameHeader header;
    header.kind = kind;
    header.sequence = sequence;
    return header;
}

Operation write(std::uint8_t file, std::int64_t time) {
    Operation operation;
    operation.kind = OperationKind::write;
    operation.file = file_number(file);
    operation.time = time;
    return operation;
}

}  // namespace

TEST_CASE("Secondary: records come in one sequence without gaps or repetitions") {
    Secondary secondary(DirtyMap{});
    secondary.session_up(session_number(1));
    CHECK_FALSE(secondary.received(frame(FrameKind::operation, 2)).has_value());
    CHECK(secondary.received(frame(FrameKind::operation, 1)).has_value());
    CHECK(secondary.received(frame(FrameKind::heartbeat, 0)).has_value());
    CHECK(secondary.received(frame(FrameKind::resync, 2)).has_value());
    CHECK(secondary.received(frame(FrameKind::flush, 3)).has_value());
    CHECK_FALSE(secondary.received(frame(FrameKind::question, 3)).has_value());
    CHECK_FALSE(secondary.received(frame(FrameKind::operation, 5)).has_value());
    CHECK(secondary.received(frame(FrameKind::complete, 4)).has_value());
    for (const auto kind : {FrameKind::welcome, FrameKind::answer, FrameKind::acknowledgement}) {
        CHECK_FALSE(secondary.received(frame(kind, 5)).has_value());
    }
    // Another session begins again.
    secondary.session_up(session_number(2));
    CHECK(secondary.received(frame(FrameKind::operation, 1)).has_value());
}

TEST_CASE("Secondary: it vouches only for what it applied, of that session, without a failure") {
    Secondary secondary(DirtyMap{});
    CHECK_FALSE(secondary.has_applied({}, 0));
    secondary.session_up(session_number(1));
    secondary.applied(10);
    CHECK(secondary.has_applied(session_number(1), 10));
    CHECK_FALSE(secondary.has_applied(session_number(1), 11));
    CHECK_FALSE(secondary.has_applied(session_number(2), 10));
    secondary.set_failed();
    CHECK_FALSE(secondary.has_applied(session_number(1), 10));
}

TEST_CASE("Secondary: times wait until they are set or asked for") {
    Secondary secondary(DirtyMap{});
    const auto receive = [&](const Operation& operation) {
        secondary.changed(operation, effects_of(operation, {}));
    };
    receive(write(1, 100));
    receive(write(1, 200));
    receive(write(2, 300));
    receive(write(3, 400));
    Operation set;
    set.kind = OperationKind::set_attributes;
    set.file = file_number(2);
    set.valid = attribute::modified;
    receive(set);
    set.file = file_number(3);
    set.valid = attribute::mode;
    receive(set);
    const auto times = secondary.take_times();
    CHECK(times == std::map<FileId, std::int64_t>{{file_number(1), 200}, {file_number(3), 400}});
    CHECK(secondary.take_times().empty());
}

TEST_CASE(
    "Secondary: own changes are kept until the copy is whole, unflushed ones until the flush") {
    DirtyMap own;
    own.mark(file_number(9), 0, 1);
    Secondary secondary(own);
    const auto operation = write(1, 0);
    secondary.changed(operation, effects_of(operation, {}));
    CHECK(secondary.uncertain().find(file_number(9)) != nullptr);
    CHECK(secondary.uncertain().find(file_number(1)) != nullptr);
    const auto failed = secondary.begin_flush_all();
    secondary.end_flush_all(failed, false);
    CHECK(secondary.uncertain().find(file_number(1)) != nullptr);
    const auto flush = secondary.begin_flush_all();
    const auto later = write(2, 0);
    secondary.changed(later, effects_of(later, {}));
    secondary.end_flush_all(flush, true);
    CHECK(secondary.uncertain().find(file_number(1)) == nullptr);
    CHECK(secondary.uncertain().find(file_number(2)) != nullptr);
    CHECK_FALSE(secondary.completed());
    secondary.complete();
    CHECK(secondary.completed());
    CHECK(secondary.dirty().empty());
    CHECK(secondary.uncertain().find(file_number(9)) == nullptr);
}
