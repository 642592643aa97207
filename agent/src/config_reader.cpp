#include "config_reader.hpp"

#include "config.hpp"

#include <safepair/cluster/limits.hpp>

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <numeric>
#include <sstream>

namespace safepair::agent::yaml {

namespace {

constexpr std::size_t quoted_bytes_max = 60;

/// Levenshtein distance; the words are keys, so they are short.
std::size_t distance(std::string_view a, std::string_view b) {
    std::vector<std::size_t> row(b.size() + 1);
    std::iota(row.begin(), row.end(), std::size_t{0});
    for (std::size_t i = 0; i < a.size(); ++i) {
        std::size_t diagonal = row[0];
        row[0] = i + 1;
        for (std::size_t j = 0; j < b.size(); ++j) {
            const auto above = row[j + 1];
            row[j + 1] = a[i] == b[j] ? diagonal : 1 + std::min({diagonal, above, row[j]});
            diagonal = above;
        }
    }
    return row[b.size()];
}

/// What may stand here, the nearest first when one is near.
std::string known_keys(std::string_view unknown, const std::set<std::string>& known) {
    const auto nearest =
        std::min_element(known.begin(), known.end(), [&](const auto& a, const auto& b) {
            return distance(unknown, a) < distance(unknown, b);
        });
    if (nearest != known.end() && distance(unknown, *nearest) <= 1 + nearest->size() / 4) {
        return fmt::format("did you mean {}?", *nearest);
    }
    return fmt::format("known here: {}", fmt::join(known, ", "));
}

struct Unit {
    const char* name;
    base::Duration length;
};

constexpr std::array<Unit, 4> units{{{"h", std::chrono::hours(1)},
                                     {"min", std::chrono::minutes(1)},
                                     {"s", std::chrono::seconds(1)},
                                     {"ms", std::chrono::milliseconds(1)}}};

}  // namespace

void Mistakes::add(int line, std::string_view field, std::string_view text) {
    if (lines_.size() >= config_limits::errors_max) {
        ++left_out_;
        return;
    }
    auto message = file_.string();
    if (line > 0) {
        message += fmt::format(":{}", line);
    }
    if (!field.empty()) {
        message += fmt::format(": {}", field);
    }
    lines_.push_back(fmt::format("{}: {}", message, text));
}

void Mistakes::add_lines(const base::Error& other) {
    std::istringstream text(other.context);
    for (std::string line; std::getline(text, line);) {
        if (lines_.size() >= config_limits::errors_max) {
            ++left_out_;
        } else {
            lines_.push_back(line);
        }
    }
}

base::Error Mistakes::error() const {
    auto text = fmt::format("{}", fmt::join(lines_, "\n"));
    if (left_out_ > 0) {
        text += fmt::format("\nand {} more", left_out_);
    }
    return base::error(base::Errc::bad_input, text);
}

std::string in_quotes(std::string_view text) {
    std::string shown;
    for (const char c : text.substr(0, quoted_bytes_max)) {
        shown += static_cast<unsigned char>(c) < 0x20 || c == 0x7f ? '?' : c;
    }
    return fmt::format("\"{}{}\"", shown, text.size() > quoted_bytes_max ? "..." : "");
}

Section::Section(const Value& value, Mistakes& mistakes)
    : mistakes_(mistakes), field_(value.field), line_(value.line()) {
    if (!value.node.IsMap()) {
        mistakes_.add(line_, field_, "must hold \"key: value\" lines");
        return;
    }
    valid_ = true;
    for (const auto& entry : value.node) {
        const int line = entry.first.Mark().line + 1;
        if (!entry.first.IsScalar()) {
            mistakes_.add(line, field_, "a key must be a word");
            continue;
        }
        const auto& key = entry.first.Scalar();
        const auto earlier = std::find_if(
            entries_.begin(), entries_.end(), [&](const auto& one) { return one.field == key; });
        if (earlier != entries_.end()) {
            mistakes_.add(
                line,
                key,
                fmt::format("is given twice, first in line {}; remove one", earlier->line()));
            continue;
        }
        if (entry.second.IsNull()) {
            mistakes_.add(line, key, "has no value; give it one or remove the line");
            taken_.insert(key);
        }
        entries_.push_back({entry.second, key, line});
    }
}

std::optional<Value> Section::take(const std::string& key) {
    asked_.insert(key);
    const auto found = std::find_if(
        entries_.begin(), entries_.end(), [&](const auto& one) { return one.field == key; });
    if (found == entries_.end()) {
        return std::nullopt;
    }
    taken_.insert(key);
    if (found->node.IsNull()) {
        return std::nullopt;
    }
    return *found;
}

std::optional<Value> Section::require(const std::string& key, const std::string& remedy) {
    auto value = take(key);
    if (!value && valid_ && !taken_.contains(key)) {
        mistakes_.add(line_, key, "is missing; " + remedy);
    }
    return value;
}

bool Section::has(const std::string& key) const {
    return std::any_of(
        entries_.begin(), entries_.end(), [&](const auto& one) { return one.field == key; });
}

void Section::finish() {
    for (const auto& entry : entries_) {
        if (!asked_.contains(entry.field) && !taken_.contains(entry.field)) {
            mistakes_.add(
                entry.line(),
                "",
                in_quotes(entry.field) + " is not known; " + known_keys(entry.field, asked_));
        }
    }
}

std::optional<Value> parse(const std::string& text, Mistakes& mistakes) {
    if (text.size() > config_limits::file_bytes_max) {
        mistakes.add(0, "", fmt::format("is larger than {} bytes", config_limits::file_bytes_max));
        return std::nullopt;
    }
    try {
        const auto documents = YAML::LoadAll(text);
        if (documents.empty() || documents[0].IsNull()) {
            mistakes.add(0, "", "is empty");
            return std::nullopt;
        }
        if (documents.size() > 1) {
            mistakes.add(
                documents[1].Mark().line + 1, "", "a second document begins; write one per file");
            return std::nullopt;
        }
        return Value{documents[0], ""};
    } catch (const YAML::Exception& failure) {
        mistakes.add(
            failure.mark.is_null() ? 0 : failure.mark.line + 1, "", "not YAML: " + failure.msg);
        return std::nullopt;
    }
}

std::optional<std::string> text(const Value& value, Mistakes& mistakes) {
    if (!value.node.IsScalar()) {
        mistakes.add(value.line(), value.field, "must be a single value");
        return std::nullopt;
    }
    const auto& scalar = value.node.Scalar();
    if (scalar.empty()) {
        mistakes.add(value.line(), value.field, "is empty");
        return std::nullopt;
    }
    if (scalar.size() > config_limits::text_bytes_max) {
        mistakes.add(value.line(),
                     value.field,
                     fmt::format("is longer than {} bytes", config_limits::text_bytes_max));
        return std::nullopt;
    }
    if (scalar.find('\0') != std::string::npos) {
        mistakes.add(value.line(), value.field, "holds a zero byte");
        return std::nullopt;
    }
    return scalar;
}

bool is_name(std::string_view name) {
    const auto allowed = [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-';
    };
    return !name.empty() && name.size() <= cluster::limits::name_bytes_max && name.front() != '-' &&
           name.back() != '-' && std::all_of(name.begin(), name.end(), allowed);
}

std::optional<std::string> name(const Value& value, Mistakes& mistakes) {
    auto word = text(value, mistakes);
    if (word && !is_name(*word)) {
        mistakes.add(value.line(),
                     value.field,
                     fmt::format("{} is not a name: a-z, 0-9 and - inside, at most {} of them",
                                 in_quotes(*word),
                                 cluster::limits::name_bytes_max));
        return std::nullopt;
    }
    return word;
}

std::string to_text(base::Duration duration) {
    for (const auto& unit : units) {
        if (duration >= unit.length && duration % unit.length == base::Duration::zero()) {
            return fmt::format("{}{}", duration / unit.length, unit.name);
        }
    }
    return fmt::format("{}ms",
                       std::chrono::duration_cast<std::chrono::milliseconds>(duration).count());
}

std::optional<base::Duration> duration(const Value& value,
                                       base::Duration minimum,
                                       base::Duration maximum,
                                       Mistakes& mistakes) {
    const auto word = text(value, mistakes);
    if (!word) {
        return std::nullopt;
    }
    std::int64_t count = 0;
    const auto parsed = std::from_chars(word->data(), word->data() + word->size(), count);
    auto suffix = std::string_view(parsed.ptr, word->data() + word->size());
    const bool number = parsed.ptr != word->data();
    if (number && parsed.ec == std::errc{} && suffix.empty()) {
        mistakes.add(
            value.line(),
            value.field,
            fmt::format(
                "{0} has no unit; write {1}ms, {1}s, {1}min or {1}h", in_quotes(*word), count));
        return std::nullopt;
    }
    suffix.remove_prefix(std::min(suffix.find_first_not_of(' '), suffix.size()));
    const auto unit = std::find_if(
        units.begin(), units.end(), [&](const auto& one) { return suffix == one.name; });
    if (!number || unit == units.end()) {
        mistakes.add(
            value.line(),
            value.field,
            in_quotes(*word) +
                " is not a duration; write a whole number and one of ms, s, min, h, such as 3s");
        return std::nullopt;
    }
    // A number too large for us is too large for any bound as well.
    const bool huge = parsed.ec != std::errc{} || count > maximum / unit->length;
    const auto length = huge ? maximum + std::chrono::milliseconds(1) : count * unit->length;
    if (length < minimum || length > maximum) {
        mistakes.add(value.line(),
                     value.field,
                     fmt::format("{} is not within {} and {}",
                                 in_quotes(*word),
                                 to_text(minimum),
                                 to_text(maximum)));
        return std::nullopt;
    }
    return length;
}

std::optional<std::uint16_t> port(const Value& value, Mistakes& mistakes) {
    const auto word = text(value, mistakes);
    if (!word) {
        return std::nullopt;
    }
    std::uint16_t number = 0;
    const auto* end = word->data() + word->size();
    const auto parsed = std::from_chars(word->data(), end, number);
    if (parsed.ec != std::errc{} || parsed.ptr != end || number == 0) {
        mistakes.add(value.line(),
                     value.field,
                     in_quotes(*word) + " is not a port; write a number from 1 to 65535");
        return std::nullopt;
    }
    return number;
}

std::optional<std::vector<Value>> list(const Value& value,
                                       std::size_t count_max,
                                       Mistakes& mistakes) {
    if (!value.node.IsSequence()) {
        mistakes.add(
            value.line(), value.field, "must be a list: [a, b], or lines that begin with -");
        return std::nullopt;
    }
    if (value.node.size() > count_max) {
        mistakes.add(
            value.line(),
            value.field,
            fmt::format("has {} entries, at most {} are allowed", value.node.size(), count_max));
        return std::nullopt;
    }
    std::vector<Value> values;
    for (const auto& node : value.node) {
        values.push_back({node, value.field});
    }
    return values;
}

std::optional<std::vector<std::string>> texts(const Value& value,
                                              std::size_t count_max,
                                              Mistakes& mistakes) {
    const auto values = list(value, count_max, mistakes);
    if (!values) {
        return std::nullopt;
    }
    std::vector<std::string> found;
    for (const auto& one : *values) {
        if (auto word = text(one, mistakes)) {
            found.push_back(std::move(*word));
        }
    }
    if (found.size() != values->size()) {
        return std::nullopt;
    }
    return found;
}

}  // namespace safepair::agent::yaml
