#pragma once

#include <safepair/base/result.hpp>
#include <safepair/base/time.hpp>

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <filesystem>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

/// What happened on this node, for operators and audits: every transition with its reason and
/// actor, and what scripts and VM drivers said (P7). One SQLite file per node, beside the journal
/// that holds the same lines without their outputs.
namespace safepair::agent {

/// One line of the log. All texts are for people; empty where there is nothing to say.
struct EventEntry {
    base::WallNanoseconds time = 0;
    std::string module;
    std::string node;
    /// transition, output, note, warning, error, audit.
    std::string kind;
    std::string from;
    std::string to;
    std::string reason;
    std::string actor;
    std::uint64_t term_counter = 0;
    std::string term_node;
    std::string text;
    /// Of the script or VM driver that belongs to it.
    std::string output;
};

struct StoredEvent {
    /// Grows with every event of this node, also across a damaged file; the cursor of a reader.
    std::uint64_t id = 0;
    EventEntry entry;
};

/// `text` as valid UTF-8 of at most about `bytes_max` bytes: other bytes and control characters but
/// tab and newline become U+FFFD (protobuf refuses the first, terminals obey the second), and a
/// longer text loses its middle, with a note of how much.
[[nodiscard]] std::string printable(std::string_view text, std::size_t bytes_max);

/// Thread-safe. Events are queued and written by a thread of the log's own, because the caller is
/// the decision loop and a disk may take its time.
class EventLog {
  public:
    struct Options {
        /// The oldest go first when one of the three is passed.
        std::size_t events_max = 200'000;
        std::uint64_t file_bytes_max = 256U * 1024U * 1024U;
        base::Duration age_max = std::chrono::hours(24 * 400);
        /// The newest that age does not touch: a clock that jumped ahead must not empty the log.
        std::size_t events_kept_min = 10'000;
        /// Waiting for the disk. Beyond it outputs are dropped first, then new events, and the log
        /// says how many.
        std::size_t queued_events_max = 4096;
        std::size_t queued_bytes_max = 16U * 1024U * 1024U;
    };

    /// Opens or makes the log. A file that is damaged, foreign or of a newer version is moved to
    /// `FILE.damaged` (replacing an earlier one) and a new log begins with a warning that says so;
    /// with a full disk events wait: a node must not stay down for its journal. Errors: errno of a
    /// directory that cannot be written.
    [[nodiscard]] static base::Result<std::unique_ptr<EventLog>> open(
        const std::filesystem::path& file);
    [[nodiscard]] static base::Result<std::unique_ptr<EventLog>> open(
        const std::filesystem::path& file, Options options);

    /// Writes what is still queued.
    ~EventLog();
    EventLog(const EventLog&) = delete;
    EventLog& operator=(const EventLog&) = delete;

    /// Never blocks on the disk. Texts are made printable() and cut: 4 KiB each, 64 KiB of output.
    /// Stored in order, durable (synchronous=FULL) a moment later.
    void append(EventEntry entry);
    /// Returns when everything appended before is stored, or given up.
    void flush();

    /// Events of `module` (empty: all) with an id above `after`, oldest first; of those the newest
    /// `last` (0: all), and of these the first `limit`, or fewer when they are large. An empty
    /// answer means that there are no more. Errors: Errc::corrupt, or errno-like with SQLite's
    /// text.
    [[nodiscard]] base::Result<std::vector<StoredEvent>> query(const std::string& module,
                                                               std::uint64_t after,
                                                               std::uint64_t last,
                                                               std::size_t limit) const;
    /// Id of the newest stored event, of any module; 0 for none.
    [[nodiscard]] std::uint64_t newest() const;
    /// Returns when an event above `after` is stored, or at the latest after `timeout`.
    void wait_for_more(std::uint64_t after, std::chrono::milliseconds timeout) const;

    /// Events that were dropped because the disk did not keep up, or failed, and that the log does
    /// not mention yet.
    [[nodiscard]] std::uint64_t dropped() const;

  private:
    class Database;

    EventLog(std::filesystem::path file, Options options);
    [[nodiscard]] base::Result<void> open_databases();
    [[nodiscard]] base::Result<void> start_afresh(const std::string& why);
    void make_room(const EventEntry& entry);
    void run();
    [[nodiscard]] bool store(const std::deque<EventEntry>& batch, std::uint64_t lost);
    void report(const base::Result<void>& written);

    const std::filesystem::path file_;
    const Options options_;
    // Writer thread, and the opener before it runs.
    std::unique_ptr<Database> writer_;
    std::size_t stored_since_trim_ = 0;
    bool failing_ = false;

    mutable std::mutex reader_mutex_;
    std::unique_ptr<Database> reader_;  // guarded by reader_mutex_

    mutable std::mutex mutex_;
    mutable std::condition_variable changed_;
    std::deque<EventEntry> queue_;  // guarded by mutex_
    std::size_t queued_bytes_ = 0;  // guarded by mutex_
    std::uint64_t dropped_ = 0;     // guarded by mutex_
    std::uint64_t appended_ = 0;    // guarded by mutex_; accepted or dropped
    std::uint64_t settled_ = 0;     // guarded by mutex_; of appended_: stored or given up
    std::uint64_t newest_ = 0;      // guarded by mutex_
    bool closing_ = false;          // guarded by mutex_
    std::thread thread_;
};

}  // namespace safepair::agent
