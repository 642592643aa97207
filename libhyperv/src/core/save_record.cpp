#include "save_record.hpp"

#include <algorithm>
#include <charconv>

namespace safepair::hyperv {

namespace {

constexpr std::string_view first_line = "safepair-save 1";

/// Takes one line off the front of `text`; false when there is no complete one.
bool take_line(std::string_view& text, std::string_view& line) {
    const auto end = text.find('\n');
    if (end == std::string_view::npos) {
        return false;
    }
    line = text.substr(0, end);
    text.remove_prefix(end + 1);
    return true;
}

/// Takes "WORD " off the front of `line`.
bool take_word(std::string_view& line, std::string_view word) {
    if (line.substr(0, word.size()) != word || line.size() <= word.size() ||
        line[word.size()] != ' ') {
        return false;
    }
    line.remove_prefix(word.size() + 1);
    return true;
}

template <typename Number>
bool take_number(std::string_view& line, Number& number) {
    const auto parsed = std::from_chars(line.data(), line.data() + line.size(), number);
    if (parsed.ec != std::errc{}) {
        return false;
    }
    line.remove_prefix(static_cast<std::size_t>(parsed.ptr - line.data()));
    return true;
}

bool take_blank(std::string_view& line) {
    if (line.empty() || line.front() != ' ') {
        return false;
    }
    line.remove_prefix(1);
    return true;
}

bool parse_disk(std::string_view line, DiskFact& disk) {
    if (!take_word(line, "disk") || !take_number(line, disk.bytes) || !take_blank(line) ||
        !take_number(line, disk.modified_ns) || !take_blank(line) || line.empty()) {
        return false;
    }
    disk.path = std::string(line);
    return true;
}

}  // namespace

base::Result<std::string> format_save_record(const SaveRecord& record) {
    auto text = std::string(first_line) + "\nstate " + std::to_string(record.state_bytes) + "\n";
    for (const auto& disk : record.disks) {
        if (disk.path.empty() || disk.path.find('\n') != std::string::npos) {
            return base::error(base::Errc::bad_input,
                               "the path of a disk is empty or holds a line end");
        }
        text += "disk " + std::to_string(disk.bytes) + " " + std::to_string(disk.modified_ns) +
                " " + disk.path + "\n";
    }
    return text + "end " + std::to_string(record.disks.size()) + "\n";
}

base::Result<SaveRecord> parse_save_record(std::string_view text) {
    SaveRecord record;
    std::string_view line;
    if (!take_line(text, line) || line != first_line || !take_line(text, line) ||
        !take_word(line, "state") || !take_number(line, record.state_bytes) || !line.empty()) {
        return base::error(base::Errc::corrupt, "this is no record of a saved VM");
    }
    while (take_line(text, line)) {
        DiskFact disk;
        std::size_t count = 0;
        auto rest = line;
        if (take_word(rest, "end")) {
            if (take_number(rest, count) && rest.empty() && count == record.disks.size() &&
                text.empty()) {
                return record;
            }
            break;
        }
        if (!parse_disk(line, disk)) {
            break;
        }
        record.disks.push_back(std::move(disk));
    }
    return base::error(base::Errc::corrupt, "the record of a saved VM is damaged or cut off");
}

StartChoice choose_start(const SavedFacts& facts) {
    if (!facts.state_bytes) {
        return {StartMode::boot, {}};
    }
    const auto stale = [](std::string why) {
        return StartChoice{StartMode::boot_beside_stale_state, std::move(why)};
    };
    if (!facts.record) {
        return stale("nothing says which disks it belongs to");
    }
    if (*facts.state_bytes != facts.record->state_bytes) {
        return stale("it is not complete");
    }
    if (facts.record->disks.empty()) {
        return stale("its record names no disk");
    }
    for (const auto& then : facts.record->disks) {
        const auto now = std::find_if(facts.disks.begin(),
                                      facts.disks.end(),
                                      [&](const DiskFact& disk) { return disk.path == then.path; });
        if (now == facts.disks.end()) {
            return stale("the disk " + then.path + " is missing");
        }
        if (!(*now == then)) {
            return stale("the disk " + then.path + " was changed since");
        }
    }
    return {StartMode::restore, {}};
}

}  // namespace safepair::hyperv
