// SECOND: from the first byte of a resync to taking over.
#include "core/role_state.hpp"

#include <algorithm>

namespace safepair::cluster {

void RoleMachine::State::join(const Comparison& verdict) {
    cancel_everything();
    phase = Phase::joining;
    follow = Follow{};
    const auto mode = wish.full ? SyncMode::full : std::max(verdict.mode, SyncMode::dirty_blocks);
    const bool given_up =
        verdict.verdict == Verdict::i_lead || verdict.verdict == Verdict::unrelated;
    // Data that follows nothing in common with the leader's is compared as a whole.
    const auto sure_mode = given_up ? std::max(mode, SyncMode::checksum) : mode;
    if (!given_up && !verdict.archive) {
        join_save(sure_mode);
        return;
    }
    wait(Readiness::transient, Reason::split_brain_loser, "archives what only this copy has");
    const auto id = expect(
        Effect::archive,
        [this, sure_mode] { join_save(sure_mode); },
        [this](const std::string&, const std::string& why) {
            block(
                Reason::archive_failed,
                "what only this copy has could not be archived, so nothing is overwritten: " + why);
        });
    emit(ArchiveLocal{id, durable.current});
}

/// Durable before the first byte arrives. What this node last was stays recorded: its own changes
/// must not be forgotten before the leader has them in its map (R10).
void RoleMachine::State::join_save(SyncMode mode) {
    save(
        [this, mode](Lineage& next) {
            next.consistent = false;
            next.resync_mode = std::max(next.resync_mode, mode);
            next.clean = false;
            next.boot = options.boot;
        },
        [this, mode] {
            open_storage(
                StorageRole::follower,
                [this, mode] {
                    follow->mode = mode;
                    phase = Phase::following;
                    blocked_reason = Reason::none;
                    blocked_pause = limits::retry_pause_min;
                    sticky_reason = Reason::none;
                    wish = {};
                    become(Role::second,
                           Readiness::transient,
                           Reason::peer_leads,
                           "is being synchronised by " + peer_name());
                    accept_session();
                    finish_command(Outcome::done,
                                   "follows " + peer_name() + " and is being synchronised");
                },
                [this](const std::string& failure, const std::string& why) {
                    Reason cause = Reason::storage_failed;
                    if (failure == "folder-not-recognised") {
                        cause = Reason::folder_not_recognised;
                    } else if (failure == "folder-busy") {
                        cause = Reason::folder_busy;
                    }
                    block(cause, why);
                });
        });
}

void RoleMachine::State::accept_session() {
    follow->session = draw<SessionId>();
    follow->leader_incarnation = peer->incarnation;
    follow->term = peer->lineage.term;
    follow->accepting = true;
    follow->next_session_at = now + follow->pause;
    follow->pause = std::min(2 * follow->pause, limits::retry_pause_max);
    emit(AcceptSession{follow->session, options.peer, follow->term});
}

void RoleMachine::State::watch_leader() {
    switch (presence()) {
        case Presence::listening:
            return;
        case Presence::absent:
            leader_gone();
            return;
        case Presence::heard:
            watch_leader_in_place();
            return;
    }
}

void RoleMachine::State::watch_leader_in_place() {
    // Whatever the leader does by now: what its record says of this copy stays true.
    follow->left_behind = follow->left_behind || (follow->in_sync && peer->lineage.peer_outdated);
    if (peer->incarnation != follow->leader_incarnation || !peer_leads()) {
        leader_left();
        return;
    }
    if (follow->session.is_nil()) {
        return;
    }
    consider_handover();
    if (phase != Phase::following) {
        return;
    }
    // Either it asks to go on without this copy, or it already does.
    if (follow->in_sync && (peer->wants_exclusion || follow->left_behind) && !follow->excluded) {
        exclude_myself();
        return;
    }
    if (!follow->in_sync && !follow->finishing) {
        watch_resync();
        return;
    }
    if (follow->in_sync && follow->opened && !follow->ready && !follow->excluded &&
        peer->synced_session == follow->session && peer->lineage.base.is_nil() &&
        peer->lineage.alone_from == LastRole::none && peer->lineage.current == durable.current) {
        follow->ready = true;
        become(
            Role::second, Readiness::ready, Reason::peer_in_sync, "up to date with " + peer_name());
    }
}

void RoleMachine::State::watch_resync() {
    const bool over = peer->lost_session == follow->session || !follow->accepting ||
                      peer->wants_exclusion || follow->term != peer->lineage.term;
    if (over) {
        // A whole copy is given up only for a leader that durably went on without it: one that
        // merely wanted to may have died since, and this may be the better copy (R1).
        const bool worth_it = !durable.consistent || peer->lineage.peer_outdated;
        if (worth_it && now >= follow->next_session_at) {
            resync_again();
        }
        return;
    }
    if (peer->synced_session == follow->session && !peer->lineage.peer_outdated) {
        finish_sync();
    }
}

/// R8: the leader has recorded that this copy is no longer behind, so it takes the leader's
/// identity.
void RoleMachine::State::finish_sync() {
    follow->finishing = true;
    save(
        [this](Lineage& next) {
            const auto& leader = peer->lineage;
            next.initialised = true;
            next.consistent = true;
            next.outdated = false;
            next.peer_outdated = false;
            next.pending = {};
            next.current = leader.current;
            next.base = {};
            next.history = leader.history;
            next.term = leader.term;
            next.last_role = LastRole::secondary;
            next.boot = options.boot;
            next.clean = false;
            next.handed_to = {};
            next.alone_from = LastRole::none;
            next.resync_mode = SyncMode::none;
            next.full_sync_due = false;
        },
        [this] {
            follow->in_sync = true;
            whole = true;
            map_usable = true;
            changed_alone = false;
            become(Role::second,
                   Readiness::transient,
                   Reason::peer_in_sync,
                   "has everything; " + peer_name() + " closes its map");
        });
}

/// R7: a durable promise not to lead, so that the leader may answer without this copy.
void RoleMachine::State::exclude_myself() {
    follow->excluded = true;
    follow->ready = false;
    become(Role::second,
           Readiness::transient,
           Reason::excluded,
           peer_name() + " goes on without this copy");
    save([](Lineage& next) { next.outdated = true; },
         [this] {
             follow->in_sync = false;
             follow->finishing = false;
         });
}

/// The same from a node that took over, wrote nothing, and gave up again: the leader it wanted to
/// replace still serves.
void RoleMachine::State::promise_when_asked() {
    const bool asked = heard && peer_leads() && peer->wants_exclusion &&
                       peer->heard_incarnation == options.incarnation;
    if (asked && may_lead_alone(durable) && durable == queued && !changed_alone &&
        durable.base == peer->lineage.current) {
        // Its line of its own holds nothing, so it ends where it began.
        save(
            [](Lineage& next) {
                next = rejoin(std::move(next));
                next.outdated = true;
            },
            {});
    }
}

void RoleMachine::State::resync_again() {
    const auto verdict = compare(mine(), theirs());
    if (verdict.verdict != Verdict::peer_leads) {
        fall_back(
            Reason::peer_leads, "weighs the copies again: " + std::string(verdict.because), false);
        return;
    }
    emit(DropSession{follow->session});
    Follow next;
    next.mode = std::max(verdict.mode, SyncMode::dirty_blocks);
    next.leader_incarnation = peer->incarnation;
    next.pause = follow->pause;
    follow = next;
    become(Role::second,
           Readiness::transient,
           Reason::peer_leads,
           "is being synchronised by " + peer_name());
    save(
        [this, mode = next.mode](Lineage& record) {
            record.consistent = false;
            record.resync_mode = std::max(record.resync_mode, mode);
            record.clean = false;
            record.boot = options.boot;
        },
        [this] { accept_session(); });
}

void RoleMachine::State::session_lost_while_following(const SessionLost& event) {
    follow->opened = false;
    follow->accepting = false;
    if (event.apply_failed) {
        // R13: never again in this life, and never silently.
        follow->apply_failed = true;
        whole = false;
    }
    if (phase != Phase::following && phase != Phase::verifying) {
        return;
    }
    if (event.apply_failed) {
        storage_broken = true;
        yield_marks_outdated = true;
        fall_back(Reason::storage_failed,
                  "this node could not apply or flush what it received: " + event.why,
                  true);
        return;
    }
    if (follow->in_sync) {
        // Still eligible: nothing is acknowledged without this copy until it says so itself (R7).
        follow->ready = false;
        become(Role::second,
               Readiness::transient,
               Reason::channel_lost,
               "the data channel to " + peer_name() + " is lost: " + event.why);
    } else {
        become(Role::second,
               Readiness::transient,
               Reason::resync_interrupted,
               "the synchronisation was interrupted: " + event.why);
    }
}

bool RoleMachine::State::may_take_over() const {
    return follow && follow->in_sync && !follow->left_behind && !follow->apply_failed &&
           durable.initialised && durable.consistent && !durable.outdated;
}

bool RoleMachine::State::nobody_serves_there() const {
    return !peer_leads() && !peer->service_running && !peer->claims_lead &&
           peer->role != Role::second && !may_lead_alone(peer->lineage);
}

void RoleMachine::State::leader_gone() {
    if (!may_take_over()) {
        if (durable.consistent) {
            fall_back(Reason::not_up_to_date, not_up_to_date_text(), true);
        } else {
            fall_back(Reason::resync_interrupted,
                      peer_name() + " is silent and this copy is half-synchronised: waits for " +
                          peer_name() + ". Start it there",
                      true);
        }
        return;
    }
    take_over(Reason::peer_silent, peer_name() + " is silent on all networks");
}

void RoleMachine::State::leader_left() {
    if (peer_leads()) {
        fall_back(Reason::peer_restarted, "the agent of " + peer_name() + " was restarted", false);
        return;
    }
    if (peer->service_running) {
        return;
    }
    if (may_take_over() && nobody_serves_there()) {
        const bool restarted = peer->incarnation != follow->leader_incarnation;
        take_over(restarted ? Reason::peer_restarted : Reason::peer_stopped,
                  restarted ? "the agent of " + peer_name() + " was restarted and serves no more"
                            : peer_name() + " no longer serves");
        return;
    }
    fall_back(durable.consistent ? Reason::peer_stopped : Reason::resync_interrupted,
              peer_name() + " no longer serves",
              false);
}

void RoleMachine::State::take_over(Reason why, std::string words) {
    if (!options.failover) {
        fall_back(Reason::failover_off,
                  words + ", and failover is off. To serve here: safectl stop MODULE --node " +
                      node_name() + ", then safectl as-primary MODULE --node " + node_name(),
                  true);
        return;
    }
    emit(DropSession{follow->session});
    follow.reset();
    LeadPlan plan;
    plan.cause = StartCause::failover;
    plan.reason = why;
    plan.text = std::move(words);
    plan.alone_from = LastRole::secondary;
    takeover = plan;
    lead(std::move(plan));
}

/// From SECOND to WAIT: the door goes, the copy stays closed.
void RoleMachine::State::fall_back(Reason why, std::string words, bool sticky) {
    begin_yielding(why, std::move(words));
    yield_sticky = sticky;
    if (follow) {
        if (!follow->session.is_nil()) {
            emit(DropSession{follow->session});
        }
        follow.reset();
    }
    yield_close();
}

}  // namespace safepair::cluster
