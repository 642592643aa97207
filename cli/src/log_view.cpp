#include "log_view.hpp"

#include "console.hpp"
#include "text.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace safepair::cli {

namespace {

constexpr std::size_t time_width = 23;
constexpr std::size_t gap = 2;

Style style_of(const v1::EventRecord& record) {
    if (record.kind() == "error") {
        return Style::bad;
    }
    if (record.kind() == "warning") {
        return Style::busy;
    }
    const auto& to = record.to();
    if (to.ends_with("NotReady")) {
        return Style::bad;
    }
    if (to.ends_with("Transient")) {
        return Style::busy;
    }
    return to.ends_with("Ready") ? Style::good : Style::plain;
}

std::string first_word(const std::string& text) { return text.substr(0, text.find(' ')); }

/// Text, reason and actor in one sentence.
std::string told(const v1::EventRecord& record) {
    auto text = printable(with_module(record.text(), record.module()));
    std::string behind;
    if (!record.reason().empty() && record.reason() != "none") {
        behind = printable(record.reason());
    }
    if (!record.actor().empty()) {
        behind += (behind.empty() ? "by " : ", by ") + printable(record.actor());
    }
    if (behind.empty()) {
        return text;
    }
    return text.empty() ? behind : fmt::format("{} ({})", text, behind);
}

std::string indented_output(const std::string& output) {
    std::string text;
    const auto clean = printable(output, true);
    for (std::size_t position = 0; position < clean.size();) {
        auto end = clean.find('\n', position);
        end = end == std::string::npos ? clean.size() : end;
        text += "    | " + clean.substr(position, end - position) + "\n";
        position = end + 1;
    }
    return text;
}

std::size_t line_count(const std::string& output) {
    const auto ends = static_cast<std::size_t>(std::count(output.begin(), output.end(), '\n'));
    return output.empty() || output.back() == '\n' ? ends : ends + 1;
}

void pad(std::string& line, std::size_t start, std::size_t width) {
    const auto used = display_width(std::string_view(line).substr(start));
    line.append(width > used ? width - used + gap : gap, ' ');
}

void add_column(std::string& line, const std::string& text, std::size_t width) {
    const auto start = line.size();
    line += text;
    pad(line, start, width);
}

}  // namespace

std::string event_words(const v1::EventRecord& record, bool utf8) {
    if (record.from().empty() && record.to().empty()) {
        return printable(record.kind());
    }
    const auto from = printable(record.from());
    auto to = printable(record.to());
    // "SECOND Transient → Ready": the role is said once.
    if (first_word(from) == first_word(to) && to.find(' ') != std::string::npos && from != to) {
        to = to.substr(to.find(' ') + 1);
    }
    if (from.empty()) {
        return to;
    }
    return from + (utf8 ? " → " : " -> ") + to;
}

std::string LogView::render(const v1::EventRecord& record) {
    const auto id = std::to_string(record.id());
    const auto event = event_words(record, options_.utf8);
    id_width_ = std::max(id_width_, id.size());
    node_width_ = std::max(node_width_, display_width(printable(record.node())));
    module_width_ = std::max(module_width_, display_width(printable(record.module())));
    event_width_ = std::max(event_width_, display_width(event));
    std::string text;
    if (options_.headers && !started_) {
        if (options_.wide) {
            add_column(text, "ID", id_width_);
        }
        add_column(text, "TIME", time_width);
        add_column(text, "NODE", node_width_);
        add_column(text, "MODULE", module_width_);
        add_column(text, "EVENT", event_width_);
        text += "TEXT\n";
    }
    started_ = true;
    std::string line;
    if (options_.wide) {
        add_column(line, id, id_width_);
    }
    add_column(line, format_local_time(record.time(), true), time_width);
    add_column(line, printable(record.node()), node_width_);
    add_column(line, record.module().empty() ? "-" : printable(record.module()), module_width_);
    line += styled(event, style_of(record), options_.color);
    const auto padding = event_width_ - display_width(event) + gap;
    line.append(padding, ' ');
    line += told(record);
    if (options_.wide && record.has_term() && record.term().counter() > 0) {
        line +=
            fmt::format(" [term {} {}]", record.term().counter(), printable(record.term().node()));
    }
    const auto lines = line_count(record.output());
    if (!options_.output && lines > 0) {
        line += fmt::format(" [{} line{} of output: --output]", lines, lines == 1 ? "" : "s");
    }
    while (!line.empty() && line.back() == ' ') {
        line.pop_back();
    }
    text += line + "\n";
    return options_.output ? text + indented_output(record.output()) : text;
}

}  // namespace safepair::cli
