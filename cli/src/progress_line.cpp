#include "progress_line.hpp"

#include "rows.hpp"
#include "text.hpp"

#include <fmt/format.h>

#include <ostream>

namespace safepair::cli {

std::string states_of(const v1::StatusReply& reply, const std::string& module, bool with_progress) {
    std::string text;
    for (const auto& row : reply.modules()) {
        if (row.module() != module) {
            continue;
        }
        text += text.empty() ? "" : ", ";
        text += fmt::format("{} on {}", state_words(row), printable(row.node()));
        if (with_progress && row.has_resync() && row.resync().bytes_total() > 0) {
            text += fmt::format(" ({}, {})", data_words(row), progress_words(row.resync()));
        }
    }
    return text;
}

void ProgressLine::show(const v1::StatusReply& reply) {
    const auto text =
        fmt::format("{}: {}", module_, states_of(reply, module_, console_.err_is_terminal));
    if (!console_.err_is_terminal) {
        if (text != last_) {
            console_.err << text << "\n" << std::flush;
        }
        last_ = text;
        return;
    }
    const auto symbol = std::string(console_.utf8 ? "↻ " : "~ ");
    const auto line =
        console_.columns == 0 ? symbol + text : clipped(symbol + text, console_.columns - 1);
    console_.err << "\r\033[K" << styled(line, Style::busy, console_.err_color) << std::flush;
    is_shown_ = true;
}

void ProgressLine::clear() {
    if (is_shown_) {
        console_.err << "\r\033[K" << std::flush;
    }
    is_shown_ = false;
}

}  // namespace safepair::cli
