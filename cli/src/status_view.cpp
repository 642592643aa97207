#include "status_view.hpp"

#include "output.hpp"
#include "rows.hpp"
#include "text.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <string_view>
#include <vector>

namespace safepair::cli {

namespace {

constexpr std::size_t generation_digits = 8;

std::string witness_words(const v1::StatusReply& reply) {
    return reply.witness().empty() ? "none" : printable(reply.witness());
}

std::string reason_words(const v1::ModuleStatus& row) {
    if (!row.heard()) {
        return row.role() == v1::ROLE_UNSPECIFIED ? "not heard yet"
                                                  : "silent, this is what it said last";
    }
    if (row.has_resync() && row.resync().bytes_total() > 0) {
        return progress_words(row.resync());
    }
    auto reason = row.reason() == "none" ? std::string{} : printable(row.reason());
    if (row.degraded()) {
        reason = reason.empty() ? "degraded" : "degraded: " + reason;
    }
    return reason;
}

std::string age_words(const v1::ModuleStatus& row, std::int64_t now) {
    if (row.since() == 0) {
        return "-";
    }
    return format_age(std::chrono::duration_cast<std::chrono::seconds>(
        std::chrono::nanoseconds(now - row.since())));
}

std::string or_dash(const std::string& text) { return text.empty() ? "-" : printable(text); }

/// Rows in the order in which they are shown.
std::vector<const v1::ModuleStatus*> ordered_rows(const v1::StatusReply& reply) {
    std::map<std::string, Severity> worst;
    std::vector<const v1::ModuleStatus*> rows;
    for (const auto& row : reply.modules()) {
        auto& severity = worst.emplace(row.module(), Severity::fine).first->second;
        severity = std::max(severity, severity_of(row));
        rows.push_back(&row);
    }
    std::stable_sort(rows.begin(), rows.end(), [&](const auto* left, const auto* right) {
        const auto left_worst = worst[left->module()];
        const auto right_worst = worst[right->module()];
        return left_worst != right_worst ? left_worst > right_worst
                                         : left->module() < right->module();
    });
    return rows;
}

std::string render_rows(const std::vector<const v1::ModuleStatus*>& rows,
                        std::int64_t now,
                        const ViewOptions& options) {
    std::vector<std::string> headers{
        "MODULE", "NODE", "STATE", "READY", "DATA", "SERVICE", "SINCE"};
    if (options.wide) {
        headers.insert(headers.end(), {"TERM", "GENERATION", "DIRTY", "FOLDER"});
    }
    headers.emplace_back("REASON");
    Table table(std::move(headers));
    for (const auto* row : rows) {
        const auto style = style_of(severity_of(*row));
        const auto ready = row->heard() ? readiness_word(row->readiness()) : std::string("silent");
        std::vector<Cell> cells{
            {printable(row->module())},
            {printable(row->node())},
            {or_dash(role_word(row->role())), style},
            {symbol_of(*row, options.utf8) + " " + (ready.empty() ? "-" : ready), style},
            {or_dash(data_words(*row))},
            {or_dash(row->service())},
            {age_words(*row, now)}};
        if (options.wide) {
            cells.push_back(
                {row->term().counter() == 0
                     ? "-"
                     : fmt::format("{} {}", row->term().counter(), printable(row->term().node()))});
            cells.push_back({or_dash(row->generation().substr(0, generation_digits))});
            cells.push_back({leads(*row) ? format_bytes(row->dirty_bytes()) : "-"});
            cells.push_back({or_dash(row->folder())});
        }
        cells.push_back({reason_words(*row)});
        table.add(std::move(cells));
    }
    return table.render(options.headers, options.color);
}

/// Commands in the agent's text that name no node act on the node that is asked, which may be the
/// other one.
bool needs_node_note(std::string_view text) {
    return text.find("safectl ") != std::string_view::npos &&
           text.find(" --node ") == std::string_view::npos &&
           text.find("on the node") == std::string_view::npos &&
           text.find("on one node") == std::string_view::npos;
}

std::string without_full_stop(std::string text) {
    while (!text.empty() && (text.back() == '.' || text.back() == ' ')) {
        text.pop_back();
    }
    return text;
}

struct Advice {
    Severity severity;
    std::string symbol;
    std::string module;
    std::vector<std::string> nodes;
    std::string text;
};

std::vector<Advice> advice_on(const std::vector<const v1::ModuleStatus*>& rows,
                              const std::string& answering_node,
                              bool utf8) {
    std::vector<Advice> all;
    for (const auto* row : rows) {
        auto text = what_next(*row, answering_node);
        if (text.empty()) {
            continue;
        }
        // Both nodes often wait for the same thing.
        if (!all.empty() && all.back().module == row->module() && all.back().text == text) {
            all.back().nodes.push_back(row->node());
            continue;
        }
        all.push_back({severity_of(*row),
                       symbol_of(*row, utf8),
                       row->module(),
                       {row->node()},
                       std::move(text)});
    }
    std::stable_sort(all.begin(), all.end(), [](const auto& left, const auto& right) {
        return left.severity > right.severity;
    });
    return all;
}

std::string link_words(const v1::LinkStatus& link, const std::vector<v1::LinkStatus>& links) {
    const auto name =
        fmt::format("link {} to {}", printable(link.network()), printable(link.peer()));
    if (link.state() == "up") {
        return fmt::format(
            "{}: {} heartbeats with a wrong key were dropped. Do both nodes have the same "
            "heartbeat.key?",
            name,
            link.forged());
    }
    if (link.state() != "down") {
        return name + ": nothing heard yet";
    }
    std::vector<std::string> others;
    for (const auto& other : links) {
        if (other.peer() == link.peer() && other.state() == "up") {
            others.push_back(printable(other.network()));
        }
    }
    if (others.empty()) {
        return fmt::format(
            "{} is down, and no other is up: {} counts as lost here. Check the cable, the switch "
            "and the agent there",
            name,
            printable(link.peer()));
    }
    return fmt::format(
        "{} is down; {} is still heard over {}. One more failure and it counts as lost. Check the "
        "cable and the switch",
        name,
        printable(link.peer()),
        listed(others));
}

std::string render_links(const v1::StatusReply& reply, const ViewOptions& options) {
    std::string text;
    const auto links = merged_links(reply);
    for (const auto& link : links) {
        const bool is_down = link.state() == "down";
        if (link.state() == "up" && link.forged() == 0) {
            continue;
        }
        const auto style = is_down ? Style::bad : Style::busy;
        const auto* const symbol =
            is_down ? (options.utf8 ? "✗" : "x") : (options.utf8 ? "↻" : "~");
        text += styled(symbol, style, options.color) + " " +
                wrapped(link_words(link, links), options.columns, 2) + "\n";
    }
    return text;
}

}  // namespace

std::string what_next(const v1::ModuleStatus& row, const std::string& answering_node) {
    if (severity_of(row) == Severity::fine) {
        return {};
    }
    auto text = without_full_stop(printable(with_module(row.text(), row.module())));
    if (!row.heard()) {
        return fmt::format(
            "{}. Check that the machine runs, its agent (systemctl status safe-agent), and the "
            "network",
            text.empty() ? row.node() + " is silent" : text);
    }
    if (text.find("safectl ") != std::string::npos) {
        const bool is_elsewhere = row.node() != answering_node;
        return is_elsewhere && needs_node_note(text)
                   ? fmt::format("{} (each with --node {})", text, row.node())
                   : text;
    }
    if (row.role() == v1::ROLE_STOP) {
        return fmt::format("{}. To start it: safectl start {} --node {}",
                           text.empty() ? "stopped" : text,
                           row.module(),
                           row.node());
    }
    if (severity_of(row) == Severity::busy) {
        return text;
    }
    return fmt::format("{}. What led to it: safectl log {} --node {}",
                       text.empty() ? row.reason() : text,
                       row.module(),
                       row.node());
}

std::string render_status(const v1::StatusReply& reply, const ViewOptions& options) {
    std::string text;
    if (options.headers) {
        text = fmt::format("CLUSTER {}   {} node{}   witness {}   seen by {}   {}\n",
                           printable(reply.cluster()),
                           reply.nodes_size(),
                           reply.nodes_size() == 1 ? "" : "s",
                           witness_words(reply),
                           printable(reply.node()),
                           format_local_time(reply.time(), false));
    }
    const auto rows = ordered_rows(reply);
    if (!rows.empty()) {
        text += render_rows(rows, reply.time(), options);
    }
    std::string below;
    for (const auto& advice : advice_on(rows, reply.node(), options.utf8)) {
        const auto sentence = fmt::format(
            "{} on {}: {}", printable(advice.module), printable(listed(advice.nodes)), advice.text);
        below += styled(advice.symbol, style_of(advice.severity), options.color) + " " +
                 wrapped(sentence, options.columns, 2) + "\n";
    }
    below += render_links(reply, options);
    if (!below.empty() && options.headers) {
        text += "\n" + below;
    }
    return text;
}

}  // namespace safepair::cli
