#include "text.hpp"

#include <fmt/format.h>

#include <array>
#include <cctype>
#include <charconv>
#include <clocale>
#include <ctime>
#include <cwchar>
#include <limits>

namespace safepair::cli {

namespace {

constexpr std::array verbs{
    "start", "stop", "restart", "swap", "as-primary", "as-secondary", "forcestop"};

struct Unit {
    const char* name;
    std::int64_t milliseconds;
};

constexpr std::array units{
    Unit{"ms", 1}, Unit{"s", 1000}, Unit{"m", 60'000}, Unit{"h", 3'600'000}, Unit{"d", 86'400'000}};

bool is_word_character(char one) {
    return std::isalnum(static_cast<unsigned char>(one)) != 0 || one == '-' || one == '_';
}

/// The word that starts at `position`.
std::string_view word_at(std::string_view text, std::size_t position) {
    std::size_t end = position;
    while (end < text.size() && is_word_character(text[end])) {
        ++end;
    }
    return text.substr(position, end - position);
}

bool is_verb(std::string_view word) {
    for (const std::string_view verb : verbs) {
        if (word == verb) {
            return true;
        }
    }
    return false;
}

std::string three_digits(double value) {
    if (value < 9.995) {
        return fmt::format("{:.2f}", value);
    }
    return value < 99.95 ? fmt::format("{:.1f}", value) : fmt::format("{:.0f}", value);
}

template <std::size_t N>
std::string scaled(std::uint64_t amount, double step, const std::array<const char*, N>& names) {
    auto value = static_cast<double>(amount);
    std::size_t index = 0;
    // What would be rounded up to a whole step is shown in the next unit.
    while (value >= step - 0.5 && index + 1 < N) {
        value /= step;
        ++index;
    }
    return index == 0 ? fmt::format("{} {}", amount, names[0])
                      : fmt::format("{} {}", three_digits(value), names[index]);
}

/// One character of valid UTF-8 at `position`; length 1 and the byte itself where the bytes are
/// none.
struct Character {
    char32_t value = 0;
    std::size_t length = 1;
};

Character character_at(std::string_view text, std::size_t position) {
    const auto first = static_cast<unsigned char>(text[position]);
    const std::size_t length = first < 0x80   ? 1
                               : first < 0xc0 ? 0
                               : first < 0xe0 ? 2
                               : first < 0xf0 ? 3
                                              : 4;
    if (length < 2 || position + length > text.size()) {
        return {first, 1};
    }
    char32_t value = first & (0xffU >> (length + 1));
    for (std::size_t index = 1; index < length; ++index) {
        const auto next = static_cast<unsigned char>(text[position + index]);
        if ((next & 0xc0U) != 0x80U) {
            return {first, 1};
        }
        value = (value << 6U) | (next & 0x3fU);
    }
    return {value, length};
}

/// wcwidth() in a UTF-8 locale, whatever the environment's is.
int width_of(char32_t value) {
    static const locale_t utf8 = newlocale(LC_CTYPE_MASK, "C.UTF-8", nullptr);
    if (utf8 == nullptr) {
        return 1;
    }
    const auto before = uselocale(utf8);
    const int width = wcwidth(static_cast<wchar_t>(value));
    uselocale(before);
    return width < 0 ? 0 : width;
}

/// Where the word that starts at `position` ends.
std::size_t word_end(std::string_view text, std::size_t position) {
    const auto end = text.find(' ', position);
    return end == std::string_view::npos ? text.size() : end;
}

/// Where the text may be broken next: a command stays on one line, so that it can be copied from a
/// terminal.
std::size_t unbroken_end(std::string_view text, std::size_t position) {
    auto end = word_end(text, position);
    if (text.substr(position, end - position) != "safectl") {
        return end;
    }
    const auto take = [&] { end = end < text.size() ? word_end(text, end + 1) : end; };
    take();
    take();
    const auto next_starts = [&](std::string_view option) {
        return end < text.size() && text.substr(end + 1, option.size()) == option;
    };
    while (std::isalnum(static_cast<unsigned char>(text[end - 1])) != 0 && next_starts("--")) {
        const bool has_value = next_starts("--node ");
        take();
        if (has_value) {
            take();
        }
    }
    return end;
}

std::tm broken_down(std::int64_t seconds, bool local) {
    const auto time = static_cast<std::time_t>(seconds);
    std::tm parts{};
    if (local) {
        localtime_r(&time, &parts);
    } else {
        gmtime_r(&time, &parts);
    }
    return parts;
}

struct SplitTime {
    std::int64_t seconds;
    std::int64_t nanoseconds;
};

SplitTime split(std::int64_t time) {
    constexpr std::int64_t second = 1'000'000'000;
    SplitTime parts{time / second, time % second};
    if (parts.nanoseconds < 0) {
        parts.nanoseconds += second;
        --parts.seconds;
    }
    return parts;
}

std::string date_and_time(const std::tm& parts, char between) {
    return fmt::format("{:04}-{:02}-{:02}{}{:02}:{:02}:{:02}",
                       parts.tm_year + 1900,
                       parts.tm_mon + 1,
                       parts.tm_mday,
                       between,
                       parts.tm_hour,
                       parts.tm_min,
                       parts.tm_sec);
}

}  // namespace

base::Result<std::chrono::milliseconds> parse_duration(std::string_view text) {
    const auto refuse = [&] {
        return base::error(
            base::Errc::bad_input,
            fmt::format("'{}' is no duration: a number and ms, s, m, h or d, such as 30s or 5m",
                        text));
    };
    std::int64_t total = 0;
    std::int64_t last_unit = std::numeric_limits<std::int64_t>::max();
    auto rest = text;
    while (!rest.empty()) {
        std::int64_t number = 0;
        const auto [end, failed] = std::from_chars(rest.data(), rest.data() + rest.size(), number);
        if (failed != std::errc{} || number < 0) {
            return refuse();
        }
        rest.remove_prefix(static_cast<std::size_t>(end - rest.data()));
        std::size_t length = 0;
        while (length < rest.size() &&
               std::isalpha(static_cast<unsigned char>(rest[length])) != 0) {
            ++length;
        }
        const auto name = rest.substr(0, length);
        rest.remove_prefix(length);
        std::int64_t unit = 0;
        for (const auto& one : units) {
            unit = name == one.name ? one.milliseconds : unit;
        }
        constexpr std::int64_t century = 100LL * 366 * 86'400'000;
        if (unit == 0 || unit >= last_unit || number > century / unit) {
            return refuse();
        }
        last_unit = unit;
        total += number * unit;
    }
    if (text.empty()) {
        return refuse();
    }
    return std::chrono::milliseconds(total);
}

std::string format_age(std::chrono::seconds age) {
    const auto seconds = age.count() < 0 ? 0 : age.count();
    if (seconds < 3600) {
        return fmt::format("{:02}:{:02}", seconds / 60, seconds % 60);
    }
    if (seconds < 86'400) {
        return fmt::format("{}h{:02}m", seconds / 3600, seconds % 3600 / 60);
    }
    if (seconds < 100 * 86'400) {
        return fmt::format("{}d{:02}h", seconds / 86'400, seconds % 86'400 / 3600);
    }
    return fmt::format("{}d", seconds / 86'400);
}

std::string format_duration(std::chrono::seconds duration) {
    const auto seconds = duration.count() < 0 ? 0 : duration.count();
    if (seconds < 60) {
        return fmt::format("{}s", seconds);
    }
    if (seconds < 3600) {
        return fmt::format("{}m{:02}s", seconds / 60, seconds % 60);
    }
    return format_age(duration);
}

std::string format_bytes(std::uint64_t bytes) {
    static constexpr std::array names{"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
    return scaled(bytes, 1024.0, names);
}

std::string format_rate(std::uint64_t bytes_per_second) {
    static constexpr std::array names{"B/s", "kB/s", "MB/s", "GB/s"};
    return scaled(bytes_per_second, 1000.0, names);
}

std::string format_local_time(std::int64_t time, bool milliseconds) {
    const auto parts = split(time);
    const auto text = date_and_time(broken_down(parts.seconds, true), ' ');
    return milliseconds ? fmt::format("{}.{:03}", text, parts.nanoseconds / 1'000'000) : text;
}

std::string format_utc_time(std::int64_t time) {
    const auto parts = split(time);
    return fmt::format("{}.{:06}Z",
                       date_and_time(broken_down(parts.seconds, false), 'T'),
                       parts.nanoseconds / 1000);
}

std::size_t display_width(std::string_view text) {
    std::size_t width = 0;
    for (std::size_t position = 0; position < text.size();) {
        const auto one = character_at(text, position);
        width += static_cast<std::size_t>(width_of(one.value));
        position += one.length;
    }
    return width;
}

std::string printable(std::string_view text, bool keep_lines) {
    std::string clean;
    clean.reserve(text.size());
    for (std::size_t position = 0; position < text.size();) {
        const auto one = character_at(text, position);
        const bool is_kept_control = keep_lines && (one.value == '\n' || one.value == '\t');
        const bool is_control = one.value < 0x20 || (one.value >= 0x7f && one.value < 0xa0);
        const bool is_stray_byte = one.length == 1 && one.value >= 0x80;
        if (is_kept_control) {
            clean += text[position];
        } else if (!keep_lines && (one.value == '\n' || one.value == '\t')) {
            clean += ' ';
        } else if (is_control || is_stray_byte) {
            clean += '?';
        } else {
            clean += text.substr(position, one.length);
        }
        position += one.length;
    }
    return clean;
}

std::string with_module(std::string_view text, std::string_view module) {
    constexpr std::string_view program = "safectl ";
    std::string result;
    for (std::size_t position = 0; position < text.size();) {
        const bool starts_word = position == 0 || !is_word_character(text[position - 1]);
        const auto word = starts_word ? word_at(text, position) : std::string_view{};
        if (word == "MODULE") {
            result += module;
            position += word.size();
            continue;
        }
        if (!starts_word || text.substr(position, program.size()) != program) {
            result += text[position++];
            continue;
        }
        const auto verb = word_at(text, position + program.size());
        result += program;
        result += verb;
        position += program.size() + verb.size();
        if (!is_verb(verb)) {
            continue;
        }
        const auto next = position < text.size() && text[position] == ' '
                              ? word_at(text, position + 1)
                              : std::string_view{};
        if (next != "MODULE" && next != module) {
            result += ' ';
            result += module;
        }
    }
    return result;
}

std::string wrapped(std::string_view text, std::size_t columns, std::size_t indent) {
    // Below that a narrow terminal breaks the lines better than we could.
    if (columns < indent + 20) {
        return std::string(text);
    }
    std::string result;
    std::size_t used = 0;
    for (std::size_t position = 0; position < text.size();) {
        const auto end = unbroken_end(text, position);
        const auto word = text.substr(position, end - position);
        const auto width = display_width(word);
        if (used > 0 && used + 1 + width > columns) {
            result += '\n' + std::string(indent, ' ');
            used = indent;
        } else if (position > 0) {
            result += ' ';
            ++used;
        }
        result += word;
        used += width;
        position = end + 1;
    }
    return result;
}

std::string clipped(std::string_view text, std::size_t columns) {
    std::size_t used = 0;
    std::size_t position = 0;
    while (position < text.size()) {
        const auto one = character_at(text, position);
        used += static_cast<std::size_t>(width_of(one.value));
        if (used > columns) {
            break;
        }
        position += one.length;
    }
    return std::string(text.substr(0, position));
}

std::string listed(const std::vector<std::string>& words) {
    std::string text;
    for (std::size_t index = 0; index < words.size(); ++index) {
        text += index == 0 ? "" : index + 1 == words.size() ? " and " : ", ";
        text += words[index];
    }
    return text;
}

}  // namespace safepair::cli
