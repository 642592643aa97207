#include "event_log.hpp"

#include "support/catch.hpp"
#include "support/scratch_directory.hpp"

#include <safepair/base/system_time.hpp>

#include <sqlite3.h>

#include <fstream>
#include <numeric>
#include <thread>

#include <sys/stat.h>
#include <unistd.h>

using namespace safepair;
using namespace safepair::agent;

namespace {

EventEntry sample(const std::string& module,
                  const std::string& text,
                  const std::string& kind = "note") {
    EventEntry entry;
    entry.time = base::wall_clock_now();
    entry.module = module;
    entry.node = "node1";
    entry.kind = kind;
    entry.text = text;
    return entry;
}

std::unique_ptr<EventLog> open_log(const std::filesystem::path& file,
                                   const EventLog::Options& options = {}) {
    auto log = EventLog::open(file, options);
    REQUIRE(log);
    return std::move(*log);
}

std::vector<StoredEvent> query(const EventLog& log,
                               const std::string& module = "",
                               std::uint64_t after = 0,
                               std::uint64_t last = 0,
                               std::size_t limit = 1000) {
    auto found = log.query(module, after, last, limit);
    REQUIRE(found);
    return *found;
}

std::vector<std::string> texts(const std::vector<StoredEvent>& events) {
    std::vector<std::string> all;
    for (const auto& event : events) {
        all.push_back(event.entry.text);
    }
    return all;
}

/// Another program's view of the file.
void execute(const std::filesystem::path& file, const std::string& sql) {
    sqlite3* connection = nullptr;
    REQUIRE(sqlite3_open(file.c_str(), &connection) == SQLITE_OK);
    char* failure = nullptr;
    const int code = sqlite3_exec(connection, sql.c_str(), nullptr, nullptr, &failure);
    INFO((failure == nullptr ? "" : failure));
    CHECK(code == SQLITE_OK);
    sqlite3_free(failure);
    sqlite3_close(connection);
}

}  // namespace

TEST_CASE("An event is stored with every field and is there after a restart") {
    const tests::ScratchDirectory scratch;
    const auto file = scratch / "events.db";
    EventEntry entry;
    entry.time = 1'700'000'000'123'456'789;
    entry.module = "vm1";
    entry.node = "node1";
    entry.kind = "transition";
    entry.from = "SECOND Ready";
    entry.to = "ALONE Ready";
    entry.reason = "peer-dead";
    entry.actor = "heart";
    entry.term_counter = 0xFFFFFFFFFFFFFFFF;
    entry.term_node = "node1";
    entry.text = "what";
    entry.output = std::string("line 1\nline 2\t\xc3\xa9");
    open_log(file)->append(entry);

    const auto log = open_log(file);
    const auto events = query(*log);
    REQUIRE(events.size() == 1);
    const auto& read = events[0].entry;
    CHECK(events[0].id == 1);
    CHECK(read.time == entry.time);
    CHECK(read.module == entry.module);
    CHECK(read.node == entry.node);
    CHECK(read.kind == entry.kind);
    CHECK(read.from == entry.from);
    CHECK(read.to == entry.to);
    CHECK(read.reason == entry.reason);
    CHECK(read.actor == entry.actor);
    CHECK(read.term_counter == entry.term_counter);
    CHECK(read.term_node == entry.term_node);
    CHECK(read.text == entry.text);
    CHECK(read.output == entry.output);
    CHECK(log->newest() == 1);

    struct stat status {};

    REQUIRE(stat(file.c_str(), &status) == 0);
    CHECK((status.st_mode & 0777U) == 0600U);
}

TEST_CASE(
    "A query gives what is above a cursor, of one module, oldest first, and of that the newest") {
    const tests::ScratchDirectory scratch;
    const auto log = open_log(scratch / "events.db");
    for (int i = 1; i <= 6; ++i) {
        log->append(sample(i % 2 == 0 ? "b" : "a", std::to_string(i)));
    }
    log->flush();
    using Texts = std::vector<std::string>;
    CHECK(texts(query(*log)) == Texts{"1", "2", "3", "4", "5", "6"});
    CHECK(texts(query(*log, "a")) == Texts{"1", "3", "5"});
    CHECK(texts(query(*log, "", 4)) == Texts{"5", "6"});
    CHECK(texts(query(*log, "", 0, 2)) == Texts{"5", "6"});
    CHECK(texts(query(*log, "a", 0, 2)) == Texts{"3", "5"});
    CHECK(texts(query(*log, "a", 3, 2)) == Texts{"5"});
    CHECK(texts(query(*log, "", 0, 4, 3)) == Texts{"3", "4", "5"});
    CHECK(texts(query(*log, "", 0, 100)) == Texts{"1", "2", "3", "4", "5", "6"});
    CHECK(query(*log, "c").empty());
    CHECK(query(*log, "", 0xFFFFFFFFFFFFFFFF).empty());
}

TEST_CASE("A query with large outputs gives some at a time and all in the end") {
    const tests::ScratchDirectory scratch;
    const auto log = open_log(scratch / "events.db");
    constexpr std::size_t count = 200;
    for (std::size_t i = 0; i < count; ++i) {
        auto entry = sample("a", "x", "output");
        entry.output = std::string(60'000, 'o');
        log->append(entry);
        log->flush();
    }
    std::uint64_t after = 0;
    std::size_t seen = 0;
    std::size_t queries = 0;
    for (auto events = query(*log); !events.empty(); events = query(*log, "", after)) {
        seen += events.size();
        after = events.back().id;
        ++queries;
        CHECK(events.size() <= 4U * 1024U * 1024U / 60'000U + 1U);
    }
    CHECK(seen == count);
    CHECK(queries >= 3);
}

TEST_CASE("A reader that waits is woken by the next event") {
    const tests::ScratchDirectory scratch;
    const auto log = open_log(scratch / "events.db");
    std::thread writer([&] { log->append(sample("a", "news")); });
    // The timeout is only there so that a lost wake-up fails instead of hanging.
    log->wait_for_more(0, std::chrono::minutes(5));
    CHECK(log->newest() == 1);
    writer.join();
    log->wait_for_more(0, std::chrono::minutes(5));
    log->wait_for_more(1, std::chrono::milliseconds(1));
    CHECK(log->newest() == 1);
}

TEST_CASE("Text that protobuf or a terminal would trip over is made printable") {
    CHECK(printable("plain\n\ttext", 100) == "plain\n\ttext");
    CHECK(printable("\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80", 100) ==
          "\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80");
    const std::string bad = "\xEF\xBF\xBD";
    CHECK(printable("a\xff"
                    "b",
                    100) == "a" + bad + "b");
    CHECK(printable("\x1b[2J", 100) == bad + "[2J");
    CHECK(printable(std::string_view("a\0b", 3), 100) == "a" + bad + "b");
    CHECK(printable("\xc3", 100) == bad);
    CHECK(printable("\xc0\x80", 100) == bad + bad);
    CHECK(printable("\xed\xa0\x80", 100) == bad + bad + bad);
    CHECK(printable("\xf5\x80\x80\x80", 100) == bad + bad + bad + bad);
    CHECK(printable("\xc2\x9b"
                    "2J",
                    100) == bad + "2J");
}

TEST_CASE("Text that is too long loses its middle and no half character") {
    std::string text(1000, 'a');
    text += std::string(1000, 'z');
    const auto cut = printable(text, 100);
    CHECK_THAT(cut, Catch::StartsWith(std::string(50, 'a') + "\n[1900 bytes left out]\n"));
    CHECK_THAT(cut, Catch::EndsWith(std::string(50, 'z')));

    std::string wide;
    for (int i = 0; i < 100; ++i) {
        wide += "\xe2\x82\xac";
    }
    CHECK(printable(wide, 100).find("\xEF\xBF\xBD") == std::string::npos);
}

TEST_CASE("An output of any size and any bytes is stored within its bound") {
    const tests::ScratchDirectory scratch;
    const auto log = open_log(scratch / "events.db");
    auto entry = sample("a", "big", "output");
    entry.output = std::string(10U * 1024U * 1024U, 'x');
    log->append(entry);
    log->flush();
    const auto events = query(*log);
    REQUIRE(events.size() == 1);
    CHECK(events[0].entry.output.size() < 66U * 1024U);
    CHECK_THAT(events[0].entry.output, Catch::Contains("bytes left out]"));
}

TEST_CASE("The log keeps the newest events only") {
    const tests::ScratchDirectory scratch;
    const auto file = scratch / "events.db";
    {
        const auto log = open_log(file);
        for (int i = 0; i < 50; ++i) {
            log->append(sample("a", std::to_string(i)));
        }
    }
    EventLog::Options options;
    options.events_max = 10;
    const auto log = open_log(file, options);
    const auto events = query(*log);
    REQUIRE(events.size() == 10);
    CHECK(events.front().entry.text == "40");
    log->append(sample("a", "next"));
    log->flush();
    CHECK(query(*log).back().id == 51);
}

TEST_CASE("Old events go, but a clock that jumped ahead does not empty the log") {
    const tests::ScratchDirectory scratch;
    const auto file = scratch / "events.db";
    {
        const auto log = open_log(file);
        for (int i = 0; i < 20; ++i) {
            auto entry = sample("a", std::to_string(i));
            entry.time = i < 15 ? 1 : base::wall_clock_now();
            log->append(entry);
        }
    }
    EventLog::Options options;
    options.events_kept_min = 10;
    const auto log = open_log(file, options);
    CHECK(texts(query(*log)).front() == "10");
    CHECK(query(*log).size() == 10);
}

TEST_CASE("A log whose file is too large loses its oldest events and shrinks") {
    const tests::ScratchDirectory scratch;
    const auto file = scratch / "events.db";
    {
        const auto log = open_log(file);
        for (int i = 0; i < 100; ++i) {
            auto entry = sample("a", std::to_string(i), "output");
            entry.output = std::string(50'000, 'x');
            log->append(entry);
            log->flush();
        }
    }
    const auto before = std::filesystem::file_size(file);
    EventLog::Options options;
    options.file_bytes_max = 1024 * 1024;
    {
        const auto log = open_log(file, options);
        const auto events = query(*log);
        REQUIRE_FALSE(events.empty());
        CHECK(events.size() < 30);
        CHECK(events.back().entry.text == "99");
    }
    CHECK(std::filesystem::file_size(file) < before / 2);
}

TEST_CASE("A full queue gives up outputs first, and the log says how many were dropped") {
    const tests::ScratchDirectory scratch;
    const auto file = scratch / "events.db";
    EventLog::Options options;
    options.queued_events_max = 3;
    const auto log = open_log(file, options);
    log->append(sample("a", "first"));
    log->flush();

    // The writer waits for this transaction, so what is appended stays queued.
    sqlite3* other = nullptr;
    REQUIRE(sqlite3_open(file.c_str(), &other) == SQLITE_OK);
    REQUIRE(sqlite3_exec(other, "BEGIN IMMEDIATE", nullptr, nullptr, nullptr) == SQLITE_OK);
    log->append(sample("a", "taken by the writer"));
    // The writer may take any number of these with it; whatever is left over does not fit.
    for (int i = 0; i < 40; ++i) {
        log->append(sample("a", "output", "output"));
    }
    for (int i = 0; i < 2; ++i) {
        log->append(sample("a", "transition", "transition"));
    }
    const auto dropped = log->dropped();
    CHECK(dropped >= 30);
    REQUIRE(sqlite3_exec(other, "COMMIT", nullptr, nullptr, nullptr) == SQLITE_OK);
    sqlite3_close(other);
    log->flush();

    const auto all = texts(query(*log));
    CHECK(std::count(all.begin(), all.end(), "transition") == 2);
    CHECK(std::count(all.begin(), all.end(), "taken by the writer") == 1);
    const auto note = std::find_if(all.begin(), all.end(), [](const auto& text) {
        return text.find("events before this one were dropped") != std::string::npos;
    });
    log->append(sample("a", "after"));
    log->flush();
    const auto later = texts(query(*log));
    const bool noted =
        note != all.end() || std::any_of(later.begin(), later.end(), [](const auto& text) {
            return text.find("events before this one were dropped") != std::string::npos;
        });
    CHECK(noted);
    CHECK(log->dropped() == 0);
}

TEST_CASE("A log that cannot be written keeps its events until it can") {
    const tests::ScratchDirectory scratch;
    const auto file = scratch / "events.db";
    const auto log = open_log(file);
    log->append(sample("a", "first"));
    log->flush();
    execute(
        file,
        "CREATE TRIGGER full BEFORE INSERT ON events BEGIN SELECT raise(ABORT, 'no room'); END");
    log->append(sample("a", "second"));
    execute(file, "DROP TRIGGER full");
    log->flush();
    CHECK(texts(query(*log)) == std::vector<std::string>{"first", "second"});
}

TEST_CASE("A damaged, foreign or newer file is moved aside and a new log begins with a warning") {
    const tests::ScratchDirectory scratch;
    const auto file = scratch / "events.db";
    std::uint64_t cursor = 0;
    {
        const auto log = open_log(file);
        log->append(sample("a", "lost"));
        log->flush();
        cursor = log->newest();
    }
    SECTION("junk") { std::ofstream(file) << std::string(10'000, 'j'); }
    SECTION("a damaged page") {
        std::fstream stream(file, std::ios::in | std::ios::out);
        stream.seekp(4096);
        stream << std::string(3 * 4096, '\xff');
    }
    SECTION("a later version") { execute(file, "PRAGMA user_version=2"); }
    SECTION("another program's file") {
        std::filesystem::remove(file);
        execute(file, "CREATE TABLE other (a)");
    }
    SECTION("our numbers without our table") { execute(file, "DROP TABLE events"); }
    const auto log = open_log(file);
    log->append(sample("a", "new"));
    log->flush();
    const auto events = query(*log, "", cursor);
    REQUIRE(events.size() == 2);
    CHECK(events[0].entry.kind == "warning");
    CHECK_THAT(events[0].entry.text,
               Catch::Contains("was moved to " + (scratch / "events.db.damaged").string()));
    CHECK(events[1].entry.text == "new");
    CHECK(std::filesystem::exists(scratch / "events.db.damaged"));
}

TEST_CASE("Damage that shows while the log runs moves the file aside as well") {
    const tests::ScratchDirectory scratch;
    const auto file = scratch / "events.db";
    const auto log = open_log(file);
    log->append(sample("a", "lost"));
    log->flush();
    execute(file, "DROP TABLE events");
    log->append(sample("a", "kept"));
    log->flush();
    const auto events = query(*log);
    REQUIRE(events.size() == 2);
    CHECK(events[0].entry.kind == "warning");
    CHECK(events[1].entry.text == "kept");
}

TEST_CASE("A log in a directory that does not exist is an error") {
    const tests::ScratchDirectory scratch;
    const auto log = EventLog::open(scratch / "missing" / "events.db");
    REQUIRE_FALSE(log);
    CHECK(log.error().code == std::errc::no_such_file_or_directory);
}

TEST_CASE("Events of several threads are all stored, each thread's in its order") {
    const tests::ScratchDirectory scratch;
    const auto log = open_log(scratch / "events.db");
    std::vector<std::thread> threads;
    for (const char* name : {"a", "b", "c"}) {
        threads.emplace_back([&log, name] {
            for (int i = 0; i < 100; ++i) {
                log->append(sample(name, std::to_string(i)));
            }
        });
    }
    for (auto& thread : threads) {
        thread.join();
    }
    log->flush();
    for (const char* name : {"a", "b", "c"}) {
        const auto events = query(*log, name);
        REQUIRE(events.size() == 100);
        for (std::size_t i = 0; i < events.size(); ++i) {
            CHECK(events[i].entry.text == std::to_string(i));
        }
    }
}
