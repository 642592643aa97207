#pragma once

#include "event_log.hpp"

#include <safepair/base/result.hpp>

#include <cstddef>
#include <cstdint>
#include <deque>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

struct sqlite3;
struct sqlite3_stmt;

namespace safepair::agent {

/// One connection to the file of an EventLog: the SQL and nothing else. Not thread-safe. Errors:
/// Errc::corrupt when the file is no readable event log of ours; otherwise SQLite's code in its own
/// category with SQLite's text.
class EventLog::Database {
  public:
    enum class Access : std::uint8_t { read, write };

    /// `write` makes what is missing; `read` needs it to be there.
    [[nodiscard]] static base::Result<std::unique_ptr<Database>> open(
        const std::filesystem::path& file, Access access);
    ~Database();
    Database(const Database&) = delete;
    Database& operator=(const Database&) = delete;

    /// All or none; the id of the last one. Durable on return.
    [[nodiscard]] base::Result<std::uint64_t> insert(const std::deque<EventEntry>& entries);
    [[nodiscard]] base::Result<std::vector<StoredEvent>> select(const std::string& module,
                                                                std::uint64_t after,
                                                                std::uint64_t last,
                                                                std::size_t limit);
    [[nodiscard]] base::Result<std::uint64_t> newest();
    /// Later ids are above `id`.
    [[nodiscard]] base::Result<void> continue_after(std::uint64_t id);
    /// Deletes the oldest beyond the limits; `now` is the wall clock.
    [[nodiscard]] base::Result<void> trim(const Options& options, base::WallNanoseconds now);

  private:
    Database() = default;
    [[nodiscard]] base::Result<void> prepare(Access access);
    [[nodiscard]] base::Result<void> make_schema();
    [[nodiscard]] base::Result<void> run(const char* sql);
    [[nodiscard]] base::Result<std::int64_t> number(const char* sql);
    [[nodiscard]] base::Result<void> remove_below(std::uint64_t id);
    [[nodiscard]] base::Error failure(int code, const char* what) const;

    std::filesystem::path file_;
    sqlite3* connection_ = nullptr;
    sqlite3_stmt* insert_ = nullptr;
};

}  // namespace safepair::agent
