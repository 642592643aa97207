#include "event_log.hpp"

#include "event_database.hpp"

#include <safepair/base/system_time.hpp>

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <array>
#include <utility>

namespace safepair::agent {

namespace {

constexpr std::size_t text_bytes_max = 4 * 1024;
constexpr std::size_t output_bytes_max = 64 * 1024;
constexpr std::size_t name_bytes_max = 256;
/// Stored events between two looks at the limits.
constexpr std::size_t trim_period = 1000;
/// Before a failed write is tried again.
constexpr auto retry_pause = std::chrono::seconds(1);
constexpr std::string_view replacement = "\xEF\xBF\xBD";

/// Length of the well-formed UTF-8 character at the front (RFC 3629 section 4), 0 when there is
/// none.
std::size_t character_bytes(std::string_view text) {
    const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
    const auto first = byte(0);
    if (first < 0x80) {
        return 1;
    }
    const std::size_t count = first >= 0xC2 && first <= 0xDF   ? 2
                              : first >= 0xE0 && first <= 0xEF ? 3
                              : first >= 0xF0 && first <= 0xF4 ? 4
                                                               : 0;
    if (count == 0 || text.size() < count) {
        return 0;
    }
    // Overlong forms, surrogates and what lies beyond U+10FFFF show in the second byte.
    const auto second_min = first == 0xE0 ? 0xA0 : first == 0xF0 ? 0x90 : 0x80;
    const auto second_max = first == 0xED ? 0x9F : first == 0xF4 ? 0x8F : 0xBF;
    if (byte(1) < second_min || byte(1) > second_max) {
        return 0;
    }
    for (std::size_t i = 2; i < count; ++i) {
        if (byte(i) < 0x80 || byte(i) > 0xBF) {
            return 0;
        }
    }
    return count;
}

bool is_continuation(char c) { return (static_cast<unsigned char>(c) & 0xC0U) == 0x80U; }

std::size_t bytes_of(const EventEntry& entry) {
    return sizeof(EventEntry) + entry.module.size() + entry.node.size() + entry.kind.size() +
           entry.from.size() + entry.to.size() + entry.reason.size() + entry.actor.size() +
           entry.term_node.size() + entry.text.size() + entry.output.size();
}

}  // namespace

std::string printable(std::string_view text, std::size_t bytes_max) {
    std::string clean;
    clean.reserve(std::min(text.size(), bytes_max));
    const auto add = [&clean](std::string_view part) {
        while (!part.empty()) {
            const auto count = character_bytes(part);
            const auto c = static_cast<unsigned char>(part.front());
            const bool control = (c < 0x20 && c != '\n' && c != '\t') || c == 0x7f;
            // C1 controls are U+0080 to U+009F; some terminals obey them as well.
            const bool control_c1 =
                count == 2 && c == 0xC2 && static_cast<unsigned char>(part[1]) < 0xA0;
            clean += count == 0 || control || control_c1 ? replacement : part.substr(0, count);
            part.remove_prefix(std::max<std::size_t>(count, 1));
        }
    };
    if (text.size() <= bytes_max) {
        add(text);
        return clean;
    }
    // The beginning says what ran, the end how it ended.
    std::size_t head = bytes_max / 2;
    std::size_t tail = text.size() - bytes_max / 2;
    while (head > 0 && is_continuation(text[head])) {
        --head;
    }
    while (tail < text.size() && is_continuation(text[tail])) {
        ++tail;
    }
    add(text.substr(0, head));
    clean += fmt::format("\n[{} bytes left out]\n", tail - head);
    add(text.substr(tail));
    return clean;
}

EventLog::EventLog(std::filesystem::path file, Options options)
    : file_(std::move(file)), options_(options) {}

base::Result<std::unique_ptr<EventLog>> EventLog::open(const std::filesystem::path& file) {
    return open(file, Options());
}

base::Result<std::unique_ptr<EventLog>> EventLog::open(const std::filesystem::path& file,
                                                       Options options) {
    auto log =
        std::unique_ptr<EventLog>(new EventLog(file, options));  // NOLINT: private constructor
    auto opened = log->open_databases();
    if (opened) {
        opened = log->writer_->trim(options, base::wall_clock_now());
    }
    if (!opened && opened.error().code == base::Errc::corrupt) {
        opened = log->start_afresh(opened.error().context);
    }
    if (!opened && opened.error().code.category() == std::generic_category() &&
        opened.error().code != std::errc::no_space_on_device) {
        return opened.error();
    }
    // Whatever else it is (a full disk, most likely) may pass, and is tried again with each event.
    log->report(opened);
    log->thread_ = std::thread([one = log.get()] { one->run(); });
    return log;
}

base::Result<void> EventLog::open_databases() {
    SAFEPAIR_TRY(auto writer, Database::open(file_, Database::Access::write));
    SAFEPAIR_TRY(auto reader, Database::open(file_, Database::Access::read));
    SAFEPAIR_TRY(const auto newest_id, writer->newest());
    writer_ = std::move(writer);
    {
        const std::lock_guard lock(reader_mutex_);
        reader_ = std::move(reader);
    }
    const std::lock_guard lock(mutex_);
    newest_ = std::max(newest_, newest_id);
    return {};
}

base::Result<void> EventLog::start_afresh(const std::string& why) {
    writer_.reset();
    {
        const std::lock_guard lock(reader_mutex_);
        reader_.reset();
    }
    auto damaged = file_;
    damaged += ".damaged";
    std::error_code failed;
    for (const char* suffix : {"", "-wal", "-shm"}) {
        auto from = file_;
        from += suffix;
        auto to = damaged;
        to += suffix;
        std::filesystem::remove(to, failed);
        std::filesystem::rename(from, to, failed);
        if (failed && failed != std::errc::no_such_file_or_directory) {
            return base::Error{
                failed,
                fmt::format("move the damaged event log {} to {}", from.string(), to.string())};
        }
    }
    SAFEPAIR_CHECK(open_databases());
    // The ids that were given are not known any more. A log that holds less than one event per
    // second since 1970 is below this, so a reader's cursor stays behind what comes.
    const auto seconds =
        static_cast<std::uint64_t>(std::max<base::WallNanoseconds>(base::wall_clock_now(), 0)) /
        1'000'000'000U;
    std::uint64_t first = 0;
    {
        const std::lock_guard lock(mutex_);
        newest_ = std::max(newest_, seconds);
        first = newest_;
    }
    SAFEPAIR_CHECK(writer_->continue_after(first));
    const auto text = fmt::format(
        "the event log was unreadable ({}); it was moved to {} and a new one begins here",
        why,
        damaged.string());
    spdlog::error("{}", text);
    EventEntry entry;
    entry.time = base::wall_clock_now();
    entry.kind = "warning";
    entry.text = printable(text, text_bytes_max);
    SAFEPAIR_TRY(const auto id, writer_->insert({entry}));
    const std::lock_guard lock(mutex_);
    newest_ = id;
    return {};
}

EventLog::~EventLog() {
    {
        const std::lock_guard lock(mutex_);
        closing_ = true;
    }
    changed_.notify_all();
    if (thread_.joinable()) {
        thread_.join();
    }
}

void EventLog::make_room(const EventEntry& entry) {
    const auto fits = [&] {
        return queue_.size() < options_.queued_events_max &&
               queued_bytes_ + bytes_of(entry) <= options_.queued_bytes_max;
    };
    // An output is worth less than the transition it belongs to.
    for (auto one = queue_.begin(); !fits() && one != queue_.end();) {
        if (one->kind != "output") {
            ++one;
            continue;
        }
        queued_bytes_ -= bytes_of(*one);
        one = queue_.erase(one);
        ++dropped_;
        ++settled_;
    }
}

void EventLog::append(EventEntry entry) {
    for (auto* name : {&entry.module, &entry.node, &entry.kind, &entry.term_node}) {
        *name = printable(*name, name_bytes_max);
    }
    for (auto* text : {&entry.from, &entry.to, &entry.reason, &entry.actor, &entry.text}) {
        *text = printable(*text, text_bytes_max);
    }
    entry.output = printable(entry.output, output_bytes_max);
    {
        const std::lock_guard lock(mutex_);
        ++appended_;
        if (entry.kind != "output") {
            make_room(entry);
        }
        const auto bytes = bytes_of(entry);
        if (queue_.size() >= options_.queued_events_max ||
            queued_bytes_ + bytes > options_.queued_bytes_max) {
            ++dropped_;
            ++settled_;
        } else {
            queued_bytes_ += bytes;
            queue_.push_back(std::move(entry));
        }
    }
    changed_.notify_all();
}

void EventLog::flush() {
    std::unique_lock lock(mutex_);
    const auto wanted = appended_;
    changed_.wait(lock, [&] { return settled_ >= wanted; });
}

void EventLog::report(const base::Result<void>& written) {
    if (!written && !failing_) {
        spdlog::error("events cannot be stored, they are in the journal only: {}",
                      written.error().message());
    } else if (written && failing_) {
        spdlog::info("events are stored again");
    }
    failing_ = !written;
}

bool EventLog::store(const std::deque<EventEntry>& batch, std::uint64_t lost) {
    const auto attempt = [&]() -> base::Result<std::uint64_t> {
        if (!writer_) {
            SAFEPAIR_CHECK(open_databases());
        }
        if (lost == 0) {
            return writer_->insert(batch);
        }
        auto with_note = batch;
        EventEntry note;
        note.time = base::wall_clock_now();
        note.kind = "warning";
        note.text = fmt::format(
            "{} events before this one were dropped because they could not be stored in time",
            lost);
        with_note.push_front(std::move(note));
        return writer_->insert(with_note);
    };
    auto stored = attempt();
    if (!stored && stored.error().code == base::Errc::corrupt) {
        if (auto afresh = start_afresh(stored.error().context); !afresh) {
            report(afresh);
            return false;
        }
        stored = attempt();
    }
    if (!stored) {
        report(stored.error());
        return false;
    }
    report({});
    {
        const std::lock_guard lock(mutex_);
        newest_ = *stored;
    }
    stored_since_trim_ += batch.size();
    if (stored_since_trim_ >= trim_period) {
        stored_since_trim_ = 0;
        // A log that is too long is no reason to stop; the next event that cannot be stored says
        // why.
        if (auto trimmed = writer_->trim(options_, base::wall_clock_now()); !trimmed) {
            spdlog::warn("old events cannot be removed: {}", trimmed.error().message());
        }
    }
    return true;
}

void EventLog::run() {
    std::deque<EventEntry> batch;
    std::uint64_t lost = 0;
    std::unique_lock lock(mutex_);
    for (;;) {
        if (batch.empty()) {
            changed_.wait(lock, [this] { return closing_ || !queue_.empty(); });
            if (queue_.empty()) {
                return;
            }
            batch.swap(queue_);
            queued_bytes_ = 0;
            lost = dropped_;
        }
        lock.unlock();
        const bool stored = store(batch, lost);
        lock.lock();
        if (stored || closing_) {
            settled_ += batch.size();
            dropped_ = stored ? dropped_ - lost : dropped_ + batch.size();
            batch.clear();
            changed_.notify_all();
        } else {
            changed_.wait_for(lock, retry_pause, [this] { return closing_; });
        }
    }
}

base::Result<std::vector<StoredEvent>> EventLog::query(const std::string& module,
                                                       std::uint64_t after,
                                                       std::uint64_t last,
                                                       std::size_t limit) const {
    const std::lock_guard lock(reader_mutex_);
    if (!reader_) {
        return base::error(
            base::Errc::corrupt,
            "event log " + file_.string() + " could not be opened yet; the journal has its lines");
    }
    return reader_->select(module, after, last, limit);
}

std::uint64_t EventLog::newest() const {
    const std::lock_guard lock(mutex_);
    return newest_;
}

void EventLog::wait_for_more(std::uint64_t after, std::chrono::milliseconds timeout) const {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, timeout, [&] { return newest_ > after || closing_; });
}

std::uint64_t EventLog::dropped() const {
    const std::lock_guard lock(mutex_);
    return dropped_;
}

}  // namespace safepair::agent
