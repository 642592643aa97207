#include "event_database.hpp"

#include <safepair/base/unique_fd.hpp>

#include <fmt/format.h>
#include <sqlite3.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include <fcntl.h>

namespace safepair::agent {

namespace {

constexpr int schema_version = 1;
/// "SPEV": tells our file from any other SQLite file.
constexpr int application_id = 0x53504556;
/// The two connections of one log wait for each other at most so long.
constexpr int busy_milliseconds = 5000;
/// Of texts in one answer; more comes with the next query.
constexpr std::size_t answer_bytes_max = 4U * 1024U * 1024U;

constexpr const char* schema = R"(
CREATE TABLE IF NOT EXISTS events (
  id INTEGER PRIMARY KEY AUTOINCREMENT, time INTEGER NOT NULL, module TEXT NOT NULL, node TEXT NOT NULL, kind TEXT NOT NULL,
  "from" TEXT NOT NULL, "to" TEXT NOT NULL, reason TEXT NOT NULL, actor TEXT NOT NULL, term_counter INTEGER NOT NULL,
  term_node TEXT NOT NULL, text TEXT NOT NULL, output TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS events_by_module ON events (module, id);
)";

class SqliteCategory final : public std::error_category {
  public:
    [[nodiscard]] const char* name() const noexcept override { return "sqlite"; }

    [[nodiscard]] std::string message(int value) const override { return sqlite3_errstr(value); }
};

const std::error_category& sqlite_category() noexcept {
    static const SqliteCategory instance;
    return instance;
}

/// A prepared statement that goes with its owner.
struct Finalize {
    void operator()(sqlite3_stmt* statement) const noexcept { sqlite3_finalize(statement); }
};

using Statement = std::unique_ptr<sqlite3_stmt, Finalize>;

/// `text` must stay until the statement was stepped.
void bind(sqlite3_stmt* statement, int index, const std::string& text) {
    sqlite3_bind_text(statement, index, text.data(), static_cast<int>(text.size()), SQLITE_STATIC);
}

std::string column(sqlite3_stmt* statement, int index) {
    const auto* text = reinterpret_cast<const char*>(sqlite3_column_text(statement, index));
    const auto bytes = static_cast<std::size_t>(sqlite3_column_bytes(statement, index));
    return text == nullptr ? std::string() : std::string(text, bytes);
}

StoredEvent row(sqlite3_stmt* statement) {
    StoredEvent event;
    event.id = static_cast<std::uint64_t>(sqlite3_column_int64(statement, 0));
    auto& entry = event.entry;
    entry.time = sqlite3_column_int64(statement, 1);
    entry.module = column(statement, 2);
    entry.node = column(statement, 3);
    entry.kind = column(statement, 4);
    entry.from = column(statement, 5);
    entry.to = column(statement, 6);
    entry.reason = column(statement, 7);
    entry.actor = column(statement, 8);
    entry.term_counter = static_cast<std::uint64_t>(sqlite3_column_int64(statement, 9));
    entry.term_node = column(statement, 10);
    entry.text = column(statement, 11);
    entry.output = column(statement, 12);
    return event;
}

}  // namespace

base::Result<std::unique_ptr<EventLog::Database>> EventLog::Database::open(
    const std::filesystem::path& file, Access access) {
    if (access == Access::write) {
        // Made here, because SQLite would make it readable by all; its companions take over the
        // mode.
        const base::UniqueFd made(::open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
        if (!made) {
            return base::error_from_errno(errno, "open the event log " + file.string());
        }
    }
    auto database = std::unique_ptr<Database>(new Database);  // NOLINT: private constructor
    database->file_ = file;
    const int code =
        sqlite3_open_v2(file.c_str(),
                        &database->connection_,
                        SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_PRIVATECACHE,
                        nullptr);
    if (code != SQLITE_OK) {
        return database->failure(code, "open");
    }
    SAFEPAIR_CHECK(database->prepare(access));
    return database;
}

EventLog::Database::~Database() {
    sqlite3_finalize(insert_);
    sqlite3_close_v2(connection_);
}

base::Error EventLog::Database::failure(int code, const char* what) const {
    const auto* text = connection_ == nullptr ? sqlite3_errstr(code) : sqlite3_errmsg(connection_);
    const auto context = fmt::format("event log {}: {}: {}", file_.string(), what, text);
    const int primary = code & 0xff;
    if (primary == SQLITE_CORRUPT || primary == SQLITE_NOTADB || primary == SQLITE_MISMATCH ||
        primary == SQLITE_ERROR) {
        return base::error(base::Errc::corrupt, context);
    }
    return {std::error_code(primary, sqlite_category()), context};
}

base::Result<void> EventLog::Database::run(const char* sql) {
    const int code = sqlite3_exec(connection_, sql, nullptr, nullptr, nullptr);
    if (code != SQLITE_OK) {
        return failure(code, sql);
    }
    return {};
}

base::Result<std::int64_t> EventLog::Database::number(const char* sql) {
    sqlite3_stmt* prepared = nullptr;
    int code = sqlite3_prepare_v2(connection_, sql, -1, &prepared, nullptr);
    const Statement statement(prepared);
    if (code == SQLITE_OK) {
        code = sqlite3_step(prepared);
    }
    if (code == SQLITE_ROW) {
        return sqlite3_column_int64(prepared, 0);
    }
    if (code == SQLITE_DONE) {
        return std::int64_t{0};
    }
    return failure(code, sql);
}

base::Result<void> EventLog::Database::make_schema() {
    SAFEPAIR_TRY(const auto version, number("PRAGMA user_version"));
    SAFEPAIR_TRY(const auto owner, number("PRAGMA application_id"));
    SAFEPAIR_TRY(const auto tables, number("SELECT count(*) FROM sqlite_master"));
    if (version == 0 && owner == 0 && tables == 0) {
        SAFEPAIR_CHECK(run("PRAGMA auto_vacuum=INCREMENTAL"));
        SAFEPAIR_CHECK(run("BEGIN IMMEDIATE"));
        SAFEPAIR_CHECK(run(schema));
        SAFEPAIR_CHECK(run(fmt::format("PRAGMA application_id={}", application_id).c_str()));
        SAFEPAIR_CHECK(run(fmt::format("PRAGMA user_version={}", schema_version).c_str()));
        return run("COMMIT");
    }
    if (owner != application_id || version != schema_version) {
        return base::error(
            base::Errc::corrupt,
            fmt::format("event log {}: version {} of {}, this program reads version {}",
                        file_.string(),
                        version,
                        owner == application_id ? "ours" : "another program's file",
                        schema_version));
    }
    return {};
}

base::Result<void> EventLog::Database::prepare(Access access) {
    sqlite3_extended_result_codes(connection_, 1);
    sqlite3_busy_timeout(connection_, busy_milliseconds);
    if (access == Access::read) {
        return run("PRAGMA query_only=1");
    }
    SAFEPAIR_CHECK(make_schema());
    SAFEPAIR_CHECK(run("PRAGMA journal_mode=WAL"));
    // An audit must survive the power cut that it explains; the writer has a thread of its own, so
    // this costs nobody.
    SAFEPAIR_CHECK(run("PRAGMA synchronous=FULL"));
    SAFEPAIR_CHECK(run("PRAGMA journal_size_limit=4194304"));
    // Both ends of table and index: most damage shows here, at a cost that does not grow with the
    // log.
    SAFEPAIR_TRY([[maybe_unused]] const auto first,
                 number("SELECT length(text) FROM events ORDER BY id LIMIT 1"));
    SAFEPAIR_TRY([[maybe_unused]] const auto last,
                 number("SELECT length(text) FROM events ORDER BY id DESC LIMIT 1"));
    const char* sql =
        "INSERT INTO events (time, module, node, kind, \"from\", \"to\", reason, actor, "
        "term_counter, term_node, text, output) "
        "VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)";
    const int code =
        sqlite3_prepare_v3(connection_, sql, -1, SQLITE_PREPARE_PERSISTENT, &insert_, nullptr);
    if (code != SQLITE_OK) {
        return failure(code, "prepare");
    }
    return {};
}

base::Result<std::uint64_t> EventLog::Database::insert(const std::deque<EventEntry>& entries) {
    SAFEPAIR_CHECK(run("BEGIN IMMEDIATE"));
    for (const auto& entry : entries) {
        sqlite3_bind_int64(insert_, 1, entry.time);
        const std::array<const std::string*, 7> head{&entry.module,
                                                     &entry.node,
                                                     &entry.kind,
                                                     &entry.from,
                                                     &entry.to,
                                                     &entry.reason,
                                                     &entry.actor};
        for (std::size_t i = 0; i < head.size(); ++i) {
            bind(insert_, static_cast<int>(i) + 2, *head[i]);
        }
        sqlite3_bind_int64(insert_, 9, static_cast<sqlite3_int64>(entry.term_counter));
        bind(insert_, 10, entry.term_node);
        bind(insert_, 11, entry.text);
        bind(insert_, 12, entry.output);
        const int code = sqlite3_step(insert_);
        const auto failed = failure(code, "insert");
        sqlite3_reset(insert_);
        sqlite3_clear_bindings(insert_);
        if (code != SQLITE_DONE) {
            // Some errors have rolled back by themselves; then this one says so and nothing is lost
            // by it.
            static_cast<void>(run("ROLLBACK"));
            return failed;
        }
    }
    const auto id = static_cast<std::uint64_t>(sqlite3_last_insert_rowid(connection_));
    if (auto committed = run("COMMIT"); !committed) {
        static_cast<void>(run("ROLLBACK"));
        return committed.error();
    }
    return id;
}

base::Result<std::vector<StoredEvent>> EventLog::Database::select(const std::string& module,
                                                                  std::uint64_t after,
                                                                  std::uint64_t last,
                                                                  std::size_t limit) {
    const std::string columns =
        "id, time, module, node, kind, \"from\", \"to\", reason, actor, term_counter, term_node, "
        "text, output";
    const std::string filter = module.empty() ? "id > ?1" : "id > ?1 AND module = ?2";
    // Where the newest `last` begin; ids only, so that no text is read that is not shown.
    const std::string newest =
        "SELECT id FROM events WHERE " + filter + " ORDER BY id DESC LIMIT ?3";
    const std::string sql =
        last == 0 ? "SELECT " + columns + " FROM events WHERE " + filter + " ORDER BY id LIMIT ?4"
                  : "SELECT " + columns + " FROM events WHERE " + filter +
                        " AND id >= (SELECT min(id) FROM (" + newest + ")) ORDER BY id LIMIT ?4";
    sqlite3_stmt* prepared = nullptr;
    int code = sqlite3_prepare_v2(connection_, sql.c_str(), -1, &prepared, nullptr);
    const Statement statement(prepared);
    if (code != SQLITE_OK) {
        return failure(code, "select");
    }
    const auto bounded = [](std::uint64_t value) {
        return static_cast<sqlite3_int64>(std::min<std::uint64_t>(value, INT64_MAX));
    };
    sqlite3_bind_int64(prepared, 1, bounded(after));
    if (!module.empty()) {
        bind(prepared, 2, module);
    }
    if (last != 0) {
        sqlite3_bind_int64(prepared, 3, bounded(last));
    }
    sqlite3_bind_int64(prepared, 4, bounded(limit));
    std::vector<StoredEvent> events;
    std::size_t bytes = 0;
    while (bytes < answer_bytes_max && (code = sqlite3_step(prepared)) == SQLITE_ROW) {
        events.push_back(row(prepared));
        bytes += events.back().entry.text.size() + events.back().entry.output.size();
    }
    if (code != SQLITE_ROW && code != SQLITE_DONE) {
        return failure(code, "select");
    }
    return events;
}

base::Result<std::uint64_t> EventLog::Database::newest() {
    SAFEPAIR_TRY(const auto id, number("SELECT seq FROM sqlite_sequence WHERE name = 'events'"));
    return static_cast<std::uint64_t>(std::max<std::int64_t>(id, 0));
}

base::Result<void> EventLog::Database::continue_after(std::uint64_t id) {
    return run(
        fmt::format("INSERT INTO sqlite_sequence (name, seq) VALUES ('events', {})", id).c_str());
}

base::Result<void> EventLog::Database::remove_below(std::uint64_t id) {
    return run(fmt::format("DELETE FROM events WHERE id < {}", id).c_str());
}

base::Result<void> EventLog::Database::trim(const Options& options, base::WallNanoseconds now) {
    SAFEPAIR_TRY(const auto newest_id, newest());
    if (newest_id > options.events_max) {
        SAFEPAIR_CHECK(remove_below(newest_id - options.events_max + 1));
    }
    if (newest_id > options.events_kept_min) {
        const auto kept = newest_id - options.events_kept_min + 1;
        const auto oldest = now - std::chrono::nanoseconds(options.age_max).count();
        SAFEPAIR_CHECK(run(
            fmt::format("DELETE FROM events WHERE id < {} AND time < {}", kept, oldest).c_str()));
    }
    SAFEPAIR_TRY(const auto page_bytes, number("PRAGMA page_size"));
    for (;;) {
        SAFEPAIR_TRY(const auto pages, number("PRAGMA page_count"));
        SAFEPAIR_TRY(const auto unused, number("PRAGMA freelist_count"));
        if (static_cast<std::uint64_t>((pages - unused) * page_bytes) <= options.file_bytes_max) {
            break;
        }
        SAFEPAIR_TRY(const auto first, number("SELECT min(id) FROM events"));
        const auto first_id = static_cast<std::uint64_t>(first);
        if (first == 0 || first_id >= newest_id) {
            break;
        }
        SAFEPAIR_CHECK(
            remove_below(first_id + std::max<std::uint64_t>(1, (newest_id - first_id) / 10)));
    }
    return run("PRAGMA incremental_vacuum");
}

}  // namespace safepair::agent
