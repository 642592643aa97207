#include "wire.hpp"

#include <algorithm>

namespace safepair::agent::wire {

namespace {

v1::Role to_proto(cluster::Role role) {
    switch (role) {
        case cluster::Role::stop:
            return v1::ROLE_STOP;
        case cluster::Role::wait:
            return v1::ROLE_WAIT;
        case cluster::Role::alone:
            return v1::ROLE_ALONE;
        case cluster::Role::prim:
            return v1::ROLE_PRIM;
        case cluster::Role::second:
            return v1::ROLE_SECOND;
    }
    return v1::ROLE_UNSPECIFIED;
}

v1::Readiness to_proto(cluster::Readiness readiness) {
    switch (readiness) {
        case cluster::Readiness::not_ready:
            return v1::READINESS_NOT_READY;
        case cluster::Readiness::transient:
            return v1::READINESS_TRANSIENT;
        case cluster::Readiness::ready:
            return v1::READINESS_READY;
    }
    return v1::READINESS_UNSPECIFIED;
}

bool leads(cluster::Role role) {
    return role == cluster::Role::alone || role == cluster::Role::prim;
}

/// One word on the data of a copy, from its record and the role it is in.
std::string data_word(const cluster::Lineage& lineage,
                      cluster::Role role,
                      cluster::Readiness readiness) {
    if (leads(role)) {
        return "uptodate";
    }
    if (role == cluster::Role::second) {
        if (readiness == cluster::Readiness::ready) {
            return "uptodate";
        }
        return lineage.outdated ? "outdated" : "syncing";
    }
    if (!lineage.initialised) {
        return "not uptodate";
    }
    if (!lineage.consistent) {
        return "inconsistent";
    }
    if (lineage.outdated) {
        return "outdated";
    }
    return lineage.peer_outdated ? "uptodate" : "unknown";
}

void set_term(v1::ModuleStatus& row, const cluster::Term& term) {
    row.mutable_term()->set_counter(term.counter);
    row.mutable_term()->set_node(term.node.value);
}

const char* mode_word(replica::SyncMode mode) {
    switch (mode) {
        case replica::SyncMode::dirty_blocks:
            return "dirty-blocks";
        case replica::SyncMode::checksum:
            return "checksum";
        case replica::SyncMode::full:
            return "full";
    }
    return "";
}

void set_resync(v1::ModuleStatus& row, const replica::Progress& progress) {
    if (!progress.running) {
        return;
    }
    auto& resync = *row.mutable_resync();
    resync.set_mode(mode_word(progress.mode));
    resync.set_bytes_total(progress.bytes_total);
    resync.set_bytes_done(progress.bytes_done);
    resync.set_bytes_copied(progress.bytes_copied);
    resync.set_bytes_per_second(progress.bytes_per_second);
    resync.set_file(progress.file);
    if (progress.bytes_per_second > 0 && progress.bytes_total > progress.bytes_done) {
        resync.set_eta_seconds((progress.bytes_total - progress.bytes_done) /
                               progress.bytes_per_second);
    }
}

}  // namespace

v1::ModuleStatus local_row(const ModuleSnapshot& snapshot,
                           const std::string& node,
                           const std::string& peer) {
    const auto& view = snapshot.view;
    v1::ModuleStatus row;
    row.set_module(snapshot.module);
    row.set_node(node);
    row.set_peer(peer);
    row.set_role(to_proto(view.role));
    row.set_readiness(to_proto(view.readiness));
    row.set_data(data_word(view.lineage, view.role, view.readiness));
    row.set_service(snapshot.service);
    row.set_reason(cluster::to_string(view.reason));
    row.set_text(view.text);
    row.set_since(snapshot.since);
    set_term(row, view.lineage.term);
    row.set_generation(base::to_string(view.lineage.current));
    row.set_degraded(view.degraded);
    row.set_heard(true);
    row.set_folder(snapshot.folder.string());
    if (leads(view.role)) {
        row.set_dirty_bytes(snapshot.stats.dirty_bytes);
        row.set_last_resync_copied_bytes(snapshot.stats.last_resync_copied_bytes);
        row.set_last_resync_changed_bytes(snapshot.stats.last_resync_changed_bytes);
    }
    return row;
}

v1::ModuleStatus peer_row(const ModuleSnapshot& snapshot,
                          const std::string& node,
                          const std::string& peer) {
    const auto& view = snapshot.view;
    v1::ModuleStatus row;
    row.set_module(snapshot.module);
    row.set_node(peer);
    row.set_peer(node);
    row.set_heard(view.peer_heard && view.peer.has_value());
    row.set_since(snapshot.peer_since);
    if (!view.peer) {
        row.set_data("unknown");
        row.set_text(peer + " has not been heard yet");
        return row;
    }
    const auto& status = *view.peer;
    row.set_role(to_proto(status.role));
    row.set_readiness(to_proto(status.readiness));
    row.set_data(data_word(status.lineage, status.role, status.readiness));
    row.set_service(status.service_running ? "running" : "");
    row.set_reason(status.reason);
    set_term(row, status.lineage.term);
    row.set_generation(base::to_string(status.lineage.current));
    if (!row.heard()) {
        row.set_data("unknown");
        row.set_text(peer + " is silent; this is what it said last");
    }
    if (leads(view.role) && status.role == cluster::Role::second) {
        set_resync(row, snapshot.stats.progress);
    }
    return row;
}

v1::EventRecord to_proto(std::uint64_t id, const EventEntry& entry) {
    v1::EventRecord record;
    record.set_id(id);
    record.set_time(entry.time);
    record.set_module(entry.module);
    record.set_node(entry.node);
    record.set_kind(entry.kind);
    record.set_from(entry.from);
    record.set_to(entry.to);
    record.set_reason(entry.reason);
    record.set_actor(entry.actor);
    record.mutable_term()->set_counter(entry.term_counter);
    record.mutable_term()->set_node(entry.term_node);
    record.set_text(entry.text);
    record.set_output(entry.output);
    return record;
}

base::Result<cluster::OperatorCommand> to_command(const v1::CommandRequest& request) {
    cluster::OperatorCommand command;
    switch (request.verb()) {
        case v1::VERB_START:
            command.verb = cluster::Verb::start;
            break;
        case v1::VERB_STOP:
            command.verb = cluster::Verb::stop;
            break;
        case v1::VERB_RESTART:
            command.verb = cluster::Verb::restart;
            break;
        case v1::VERB_SWAP:
            command.verb = cluster::Verb::swap;
            break;
        case v1::VERB_AS_PRIMARY:
            command.verb = cluster::Verb::as_primary;
            break;
        case v1::VERB_AS_SECONDARY:
            command.verb = cluster::Verb::as_secondary;
            break;
        case v1::VERB_FORCESTOP:
            command.verb = cluster::Verb::forcestop;
            break;
        default:
            return base::error(base::Errc::bad_input,
                               "unknown verb " + std::to_string(request.verb()));
    }
    command.actor = request.actor().substr(0, 100);
    command.force = request.force();
    command.force_inconsistent = request.force_inconsistent();
    command.discard_local = request.discard_local();
    command.full = request.full();
    return command;
}

v1::CommandReply::Outcome to_proto(cluster::Outcome outcome) {
    switch (outcome) {
        case cluster::Outcome::done:
            return v1::CommandReply::OUTCOME_DONE;
        case cluster::Outcome::refused:
            return v1::CommandReply::OUTCOME_REFUSED;
        case cluster::Outcome::unsafe:
            return v1::CommandReply::OUTCOME_UNSAFE;
        case cluster::Outcome::failed:
            return v1::CommandReply::OUTCOME_FAILED;
        case cluster::Outcome::would_wait:
            return v1::CommandReply::OUTCOME_WAITS;
    }
    return v1::CommandReply::OUTCOME_UNSPECIFIED;
}

}  // namespace safepair::agent::wire
