#include "health.hpp"

#include "rows.hpp"
#include "text.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace safepair::cli {

namespace {

using Rows = std::vector<const v1::ModuleStatus*>;

std::string place_words(const v1::ModuleStatus& row) {
    auto text = state_words(row) + " on " + row.node();
    if (row.heard() && row.readiness() != v1::READINESS_READY && !row.reason().empty() &&
        row.reason() != "none") {
        text += " (" + row.reason() + ")";
    }
    if (row.has_resync() && row.resync().bytes_total() > 0) {
        text += fmt::format(", {}", data_words(row));
    }
    return text;
}

std::string places(const Rows& rows) {
    std::vector<std::string> words;
    for (const auto* row : rows) {
        words.push_back(place_words(*row));
    }
    return fmt::format("{}", fmt::join(words, ", "));
}

ModuleHealth judge_module(const std::string& module, const Rows& rows) {
    const auto count = [&](const auto& predicate) {
        return std::count_if(rows.begin(), rows.end(), [&](const auto* row) {
            return row->heard() && predicate(*row);
        });
    };
    const auto serving = count([](const auto& row) {
        return leads(row) && (row.readiness() == v1::READINESS_READY || row.service() == "running");
    });
    const auto leading = count([](const auto& row) { return leads(row); });
    const auto starting =
        count([](const auto& row) { return row.readiness() == v1::READINESS_TRANSIENT; });
    const auto fine = count([](const auto& row) { return severity_of(row) == Severity::fine; });
    if (leading > 1) {
        return {module, Health::critical, "led by two nodes: " + places(rows)};
    }
    if (serving == 0 && starting > 0) {
        return {module, Health::warning, "not served yet: " + places(rows)};
    }
    if (serving == 0) {
        return {module, Health::critical, "served by no node: " + places(rows)};
    }
    if (static_cast<std::size_t>(fine) < rows.size() || rows.size() < 2) {
        return {module, Health::warning, "no second copy is ready: " + places(rows)};
    }
    return {module, Health::ok, places(rows)};
}

ModuleHealth judge_row(const v1::ModuleStatus& row) {
    switch (severity_of(row)) {
        case Severity::fine:
            return {row.module(), Health::ok, place_words(row)};
        case Severity::busy:
            return {row.module(), Health::warning, place_words(row)};
        case Severity::bad:
            break;
    }
    return {row.module(), Health::critical, place_words(row)};
}

std::string summary(const HealthReport& report, const std::vector<std::string>& bad_links) {
    std::vector<std::string> parts;
    for (const auto level : {Health::critical, Health::warning}) {
        for (const auto& module : report.modules) {
            if (module.health == level) {
                parts.push_back(module.module + ": " + module.text);
            }
        }
    }
    for (const auto& link : bad_links) {
        parts.push_back(link);
    }
    const auto fine = std::count_if(report.modules.begin(),
                                    report.modules.end(),
                                    [](const auto& module) { return module.health == Health::ok; });
    if (fine == 1 && report.modules.size() == 1) {
        parts.insert(parts.begin(),
                     report.modules.front().module + ": " + report.modules.front().text);
    } else if (fine > 0) {
        parts.push_back(fmt::format("{} module{} ok", fine, fine == 1 ? "" : "s"));
    }
    return printable(fmt::format("{}", fmt::join(parts, "; ")));
}

}  // namespace

const char* health_word(Health health) {
    switch (health) {
        case Health::ok:
            return "OK";
        case Health::warning:
            return "WARNING";
        case Health::critical:
            return "CRITICAL";
        case Health::unknown:
            break;
    }
    return "UNKNOWN";
}

HealthReport judge(const v1::StatusReply& reply, const std::string& node) {
    HealthReport report;
    std::vector<std::string> names;
    for (const auto& row : reply.modules()) {
        const bool counts = node.empty() || row.node() == node;
        if (counts && std::find(names.begin(), names.end(), row.module()) == names.end()) {
            names.push_back(row.module());
        }
    }
    if (names.empty()) {
        report.text =
            node.empty() ? "no module is configured" : "no module is configured on " + node;
        return report;
    }
    report.health = Health::ok;
    for (const auto& name : names) {
        Rows rows;
        for (const auto& row : reply.modules()) {
            if (row.module() == name && (node.empty() || row.node() == node)) {
                rows.push_back(&row);
            }
        }
        report.modules.push_back(node.empty() ? judge_module(name, rows)
                                              : judge_row(*rows.front()));
        report.health = std::max(report.health, report.modules.back().health);
    }
    std::vector<std::string> bad_links;
    for (const auto& link : merged_links(reply)) {
        if (link.state() == "down") {
            bad_links.push_back(fmt::format("link {} to {} is down", link.network(), link.peer()));
        }
    }
    if (!bad_links.empty()) {
        report.health = std::max(report.health, Health::warning);
    }
    report.text = summary(report, bad_links);
    return report;
}

}  // namespace safepair::cli
