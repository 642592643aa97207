#include "wait_target.hpp"

#include "rows.hpp"

#include <fmt/format.h>

namespace safepair::cli {

namespace {

bool is_ready(const v1::ModuleStatus& row) { return row.readiness() == v1::READINESS_READY; }

bool is_reached(v1::Verb verb, const v1::ModuleStatus& row, const v1::ModuleStatus* other) {
    switch (verb) {
        case v1::VERB_START:
            return is_ready(row) && (leads(row) || row.role() == v1::ROLE_SECOND);
        case v1::VERB_STOP:
        case v1::VERB_FORCESTOP:
            return row.role() == v1::ROLE_STOP;
        case v1::VERB_RESTART:
            // A leader that feeds a resynchronisation is Transient all the while; its service runs.
            return leads(row) && (is_ready(row) || row.service() == "running");
        case v1::VERB_AS_PRIMARY:
            return leads(row) && is_ready(row);
        case v1::VERB_AS_SECONDARY:
            return row.role() == v1::ROLE_SECOND && is_ready(row);
        case v1::VERB_SWAP:
            return row.role() == v1::ROLE_SECOND && is_ready(row) && other != nullptr &&
                   other->heard() && leads(*other) && is_ready(*other);
        default:
            return false;
    }
}

Progress trouble_of(v1::Verb verb, const v1::ModuleStatus& row) {
    if (verb == v1::VERB_STOP || verb == v1::VERB_FORCESTOP) {
        return Progress::pending;
    }
    if (row.role() == v1::ROLE_STOP) {
        return Progress::missed;
    }
    if (row.role() == v1::ROLE_WAIT && row.readiness() == v1::READINESS_NOT_READY) {
        return Progress::blocked;
    }
    // The leader went while this node was to follow it.
    if (verb == v1::VERB_AS_SECONDARY && leads(row) && is_ready(row)) {
        return Progress::missed;
    }
    return Progress::pending;
}

}  // namespace

Progress progress_of(v1::Verb verb,
                     const std::string& module,
                     const std::string& node,
                     const v1::StatusReply& reply) {
    const auto* row = find_row(reply, module, node);
    if (row == nullptr || !row->heard()) {
        return Progress::pending;
    }
    const v1::ModuleStatus* other = nullptr;
    for (const auto& one : reply.modules()) {
        if (one.module() == module && one.node() != node) {
            other = &one;
        }
    }
    if (is_reached(verb, *row, other)) {
        return Progress::reached;
    }
    return is_first_hand(*row, reply.node()) ? trouble_of(verb, *row) : Progress::pending;
}

std::string target_words(v1::Verb verb, const std::string& node, const std::string& peer) {
    switch (verb) {
        case v1::VERB_START:
            return fmt::format("ALONE, PRIM or SECOND Ready on {}", node);
        case v1::VERB_STOP:
        case v1::VERB_FORCESTOP:
            return fmt::format("STOP on {}", node);
        case v1::VERB_RESTART:
            return fmt::format("the service restarted on {}, roles as before", node);
        case v1::VERB_AS_PRIMARY:
            return fmt::format("ALONE or PRIM Ready on {}", node);
        case v1::VERB_AS_SECONDARY:
            return fmt::format("SECOND Ready on {}", node);
        case v1::VERB_SWAP:
            return fmt::format("PRIM Ready on {}, SECOND Ready on {}", peer, node);
        default:
            return "?";
    }
}

}  // namespace safepair::cli
