#include "rows.hpp"

#include "text.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace safepair::cli {

namespace {

Json time_or_null(std::int64_t time) {
    return time == 0 ? Json(nullptr) : Json(format_utc_time(time));
}

Json text_or_null(const std::string& text) { return text.empty() ? Json(nullptr) : Json(text); }

Json term_or_null(bool present, const v1::Term& term) {
    if (!present || (term.counter() == 0 && term.node().empty())) {
        return nullptr;
    }
    return Json{{"counter", term.counter()}, {"node", term.node()}};
}

int link_rank(const std::string& state) { return state == "down" ? 2 : state == "up" ? 0 : 1; }

}  // namespace

std::string role_word(v1::Role role) {
    switch (role) {
        case v1::ROLE_STOP:
            return "STOP";
        case v1::ROLE_WAIT:
            return "WAIT";
        case v1::ROLE_ALONE:
            return "ALONE";
        case v1::ROLE_PRIM:
            return "PRIM";
        case v1::ROLE_SECOND:
            return "SECOND";
        default:
            return "";
    }
}

std::string readiness_word(v1::Readiness readiness) {
    switch (readiness) {
        case v1::READINESS_NOT_READY:
            return "NotReady";
        case v1::READINESS_TRANSIENT:
            return "Transient";
        case v1::READINESS_READY:
            return "Ready";
        default:
            return "";
    }
}

std::string state_words(const v1::ModuleStatus& row) {
    const auto role = role_word(row.role());
    if (role.empty()) {
        return "not heard";
    }
    return role + " " + readiness_word(row.readiness()) + (row.heard() ? "" : " (silent)");
}

bool leads(const v1::ModuleStatus& row) {
    return row.role() == v1::ROLE_ALONE || row.role() == v1::ROLE_PRIM;
}

bool is_first_hand(const v1::ModuleStatus& row, const std::string& answering_node) {
    // Only a node itself fills in its folder.
    return row.heard() && (row.node() == answering_node || !row.folder().empty());
}

Severity severity_of(const v1::ModuleStatus& row) {
    if (!row.heard() || row.readiness() == v1::READINESS_NOT_READY) {
        return Severity::bad;
    }
    if (row.readiness() == v1::READINESS_READY && !row.degraded()) {
        return Severity::fine;
    }
    return row.readiness() == v1::READINESS_UNSPECIFIED ? Severity::bad : Severity::busy;
}

Style style_of(Severity severity) {
    switch (severity) {
        case Severity::fine:
            return Style::good;
        case Severity::busy:
            return Style::busy;
        case Severity::bad:
            return Style::bad;
    }
    return Style::plain;
}

std::string symbol_of(const v1::ModuleStatus& row, bool utf8) {
    if (!row.heard()) {
        return "?";
    }
    switch (severity_of(row)) {
        case Severity::fine:
            return utf8 ? "✓" : "+";
        case Severity::busy:
            return utf8 ? "↻" : "~";
        case Severity::bad:
            break;
    }
    if (row.role() == v1::ROLE_WAIT) {
        return utf8 ? "○" : "o";
    }
    return utf8 ? "✗" : "x";
}

int percent_of(const v1::Resync& resync) {
    if (resync.bytes_total() == 0) {
        return 0;
    }
    const auto share =
        static_cast<double>(resync.bytes_done()) / static_cast<double>(resync.bytes_total());
    return std::min(99, static_cast<int>(share * 100.0));
}

std::string progress_words(const v1::Resync& resync) {
    const auto left =
        resync.bytes_total() > resync.bytes_done() ? resync.bytes_total() - resync.bytes_done() : 0;
    std::string text = "resync ";
    if (resync.bytes_per_second() > 0) {
        text += format_rate(resync.bytes_per_second()) + ", ";
    }
    text += format_bytes(left) + " left";
    if (resync.eta_seconds() > 0) {
        text +=
            ", ETA " + format_duration(std::chrono::seconds(static_cast<std::int64_t>(
                           std::min<std::uint64_t>(resync.eta_seconds(), 100ULL * 366 * 86'400))));
    }
    return text;
}

std::string data_words(const v1::ModuleStatus& row) {
    if (row.has_resync() && row.resync().bytes_total() > 0) {
        return fmt::format("syncing {} %", percent_of(row.resync()));
    }
    return row.data();
}

std::vector<v1::LinkStatus> merged_links(const v1::StatusReply& reply) {
    std::vector<v1::LinkStatus> links;
    for (const auto& link : reply.links()) {
        const auto known = std::find_if(links.begin(), links.end(), [&](const auto& one) {
            return one.network() == link.network() && one.peer() == link.peer();
        });
        if (known == links.end()) {
            links.push_back(link);
        } else if (link_rank(link.state()) > link_rank(known->state())) {
            *known = link;
        }
    }
    return links;
}

void keep_node(v1::StatusReply& reply, const std::string& node) {
    if (node.empty()) {
        return;
    }
    auto& rows = *reply.mutable_modules();
    rows.erase(std::remove_if(
                   rows.begin(), rows.end(), [&](const auto& row) { return row.node() != node; }),
               rows.end());
}

const v1::ModuleStatus* find_row(const v1::StatusReply& reply,
                                 const std::string& module,
                                 const std::string& node) {
    for (const auto& row : reply.modules()) {
        if (row.module() == module && row.node() == node) {
            return &row;
        }
    }
    return nullptr;
}

Json to_json(const v1::ModuleStatus& row) {
    Json record;
    record["module"] = row.module();
    record["node"] = row.node();
    record["role"] = text_or_null(role_word(row.role()));
    record["readiness"] = text_or_null(readiness_word(row.readiness()));
    record["data"] = row.data();
    record["service"] = text_or_null(row.service());
    record["reason"] = row.reason();
    record["text"] = with_module(row.text(), row.module());
    record["since"] = time_or_null(row.since());
    record["heard"] = row.heard();
    record["degraded"] = row.degraded();
    record["peer"] = row.peer();
    record["folder"] = text_or_null(row.folder());
    record["term"] = term_or_null(row.has_term(), row.term());
    record["generation"] = text_or_null(row.generation());
    record["dirty_bytes"] = row.dirty_bytes();
    record["last_resync_copied_bytes"] = row.last_resync_copied_bytes();
    record["last_resync_changed_bytes"] = row.last_resync_changed_bytes();
    record["resync"] = nullptr;
    if (row.has_resync()) {
        const auto& resync = row.resync();
        auto& progress = record["resync"];
        progress["mode"] = resync.mode();
        progress["percent"] = percent_of(resync);
        progress["bytes_total"] = resync.bytes_total();
        progress["bytes_done"] = resync.bytes_done();
        progress["bytes_copied"] = resync.bytes_copied();
        progress["bytes_per_second"] = resync.bytes_per_second();
        progress["eta_seconds"] =
            resync.eta_seconds() == 0 ? Json(nullptr) : Json(resync.eta_seconds());
        progress["file"] = resync.file();
    }
    return record;
}

Json to_json(const v1::StatusReply& reply) {
    Json record;
    record["cluster"] = reply.cluster();
    record["node"] = reply.node();
    record["nodes"] = Json::array();
    for (const auto& node : reply.nodes()) {
        record["nodes"].push_back(node);
    }
    record["time"] = time_or_null(reply.time());
    record["witness"] = reply.witness();
    record["modules"] = Json::array();
    for (const auto& row : reply.modules()) {
        record["modules"].push_back(to_json(row));
    }
    record["links"] = Json::array();
    for (const auto& link : merged_links(reply)) {
        record["links"].push_back(Json{{"network", link.network()},
                                       {"peer", link.peer()},
                                       {"state", link.state()},
                                       {"sent", link.sent()},
                                       {"received", link.received()},
                                       {"forged", link.forged()},
                                       {"replayed", link.replayed()}});
    }
    return record;
}

Json to_json(const v1::EventRecord& event) {
    Json record;
    record["id"] = event.id();
    record["time"] = time_or_null(event.time());
    record["module"] = event.module();
    record["node"] = event.node();
    record["kind"] = event.kind();
    record["from"] = text_or_null(event.from());
    record["to"] = text_or_null(event.to());
    record["reason"] = event.reason();
    record["actor"] = event.actor();
    record["term"] = term_or_null(event.has_term(), event.term());
    record["text"] = with_module(event.text(), event.module());
    record["output"] = event.output();
    return record;
}

Json to_json(const v1::ModuleDescription& module) {
    Json record;
    record["name"] = module.name();
    record["kind"] = module.kind();
    record["nodes"] = Json::array();
    for (const auto& node : module.nodes()) {
        record["nodes"].push_back(node);
    }
    record["boot"] = module.boot();
    record["folder"] = module.folder();
    record["file"] = module.file();
    return record;
}

}  // namespace safepair::cli
