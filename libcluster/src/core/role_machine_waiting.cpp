// WAIT: who leads? And the way from there to leading.
#include "core/role_state.hpp"

namespace safepair::cluster {

void RoleMachine::State::decide_waiting() {
    if (now < blocked_until) {
        return;
    }
    if (doubtful) {
        wait(Readiness::not_ready,
             Reason::lineage_failed,
             "the last record could not be written; tries again");
        return;
    }
    if (storage_broken) {
        wait_for_operator(Reason::storage_failed,
                          "the storage of this node failed while it served; repair it, then: "
                          "safectl stop, safectl start");
        return;
    }
    switch (presence()) {
        case Presence::listening:
            wait(Readiness::transient,
                 reason == Reason::none ? Reason::operator_command : reason,
                 "listens for " + peer_name());
            return;
        case Presence::absent:
            decide_absent();
            return;
        case Presence::heard:
            decide_with_peer();
            return;
    }
}

void RoleMachine::State::decide_absent() {
    claims = false;
    if (may_lead_alone(durable)) {
        LeadPlan plan;
        plan.reason = Reason::peer_absent;
        plan.text = peer_name() + " is absent and its data is known to be older";
        lead(std::move(plan));
        return;
    }
    if (takeover && whole && durable.initialised && durable.consistent && !durable.outdated) {
        lead(*takeover);
        return;
    }
    if (sticky_reason != Reason::none) {
        wait_for_operator(sticky_reason, sticky_text);
    } else if (!durable.initialised) {
        wait_for_operator(
            Reason::first_start,
            "the data was never declared good: on the node that has it, safectl as-primary");
    } else if (!durable.consistent) {
        wait_for_operator(Reason::inconsistent_data,
                          "half-synchronised data: waits for " + peer_name() + ". Start it there");
    } else {
        wait_for_operator(Reason::not_up_to_date, not_up_to_date_text());
    }
}

std::string RoleMachine::State::not_up_to_date_text() const {
    return "waits for " + peer_name() +
           ": its data may be newer. Start it there, or, if this copy is the good one: safectl "
           "stop MODULE --node " +
           node_name() + ", then safectl as-primary MODULE --node " + node_name();
}

void RoleMachine::State::decide_with_peer() {
    if (peer->settings_hash != options.settings_hash) {
        wait_for_operator(Reason::settings_differ,
                          "the settings of this module differ from those on " + peer_name() +
                              ": make them equal, then restart the agent");
        return;
    }
    const auto verdict = compare(mine(), theirs());
    if (peer_leads()) {
        decide_with_leading_peer(verdict);
    } else {
        decide_with_idle_peer(verdict);
    }
}

void RoleMachine::State::decide_with_leading_peer(const Comparison& verdict) {
    claims = false;
    if (!peer->lineage.peer_outdated) {
        wait(Readiness::transient,
             Reason::peer_leads,
             peer_name() + " leads and is not yet ready for this node");
        return;
    }
    switch (verdict.verdict) {
        case Verdict::peer_leads:
        case Verdict::split_brain:
            // Whoever serves keeps serving: nobody interrupts it for a node that waits.
            join(verdict);
            return;
        case Verdict::unrelated:
        case Verdict::i_lead:
            if (wish.discard_local || parted_from_peer(verdict)) {
                join(verdict);
                return;
            }
            wait_for_operator(
                Reason::unrelated_data,
                std::string(verdict.verdict == Verdict::unrelated
                                ? "this copy and the one that "
                                : "this copy is newer than the one that ") +
                    peer_name() + " serves" +
                    (verdict.verdict == Verdict::unrelated ? " have nothing in common" : "") +
                    ". To give up this copy: safectl stop, then safectl as-secondary "
                    "--discard-local");
            return;
        case Verdict::nobody_initialised:
        case Verdict::nobody_may_lead:
            wait_for_operator(
                Reason::inconsistent_data,
                peer_name() +
                    " serves data that was not declared good; use as-primary on one node");
            return;
    }
}

/// The peer serves a line that went its own way: a split brain in which it has written nothing yet,
/// or said so late. It keeps serving, and what only this copy has is archived.
bool RoleMachine::State::parted_from_peer(const Comparison& verdict) const {
    const auto& serving = peer->lineage.current;
    return verdict.verdict == Verdict::i_lead && durable.consistent && durable.base != serving &&
           !in_history(durable, serving);
}

void RoleMachine::State::decide_with_idle_peer(const Comparison& verdict) {
    const bool stopped_there = peer->role == Role::stop;
    if (peer->role == Role::second || peer->leaving || peer->service_running) {
        claims = false;
        wait(Readiness::transient,
             Reason::not_up_to_date,
             "waits until " + peer_name() + " has decided");
        return;
    }
    const bool peer_vetoes_itself =
        peer->lineage.outdated || !peer->lineage.consistent || !peer->lineage.initialised;
    const std::string because(verdict.because);
    switch (verdict.verdict) {
        case Verdict::i_lead:
            if (stopped_there && !may_lead_alone(durable) && !peer_vetoes_itself) {
                break;
            }
            claim(Reason::newest_data, "this copy is the newest: " + because);
            return;
        case Verdict::split_brain:
            if (stopped_there ? may_lead_alone(durable) : !verdict.i_yield) {
                claim(Reason::newest_data, because);
                return;
            }
            if (!stopped_there) {
                claims = false;
                wait(Readiness::transient,
                     Reason::split_brain_loser,
                     peer_name() + " leads: " + because);
                return;
            }
            break;
        case Verdict::peer_leads:
            claims = false;
            if (!stopped_there) {
                wait(Readiness::transient,
                     Reason::peer_leads,
                     peer_name() + " is about to lead: " + because);
                return;
            }
            break;
        case Verdict::nobody_initialised:
            claims = false;
            wait_for_operator(Reason::first_start,
                              "neither copy was ever declared good: on the node that has the data, "
                              "safectl stop, then safectl as-primary");
            return;
        case Verdict::unrelated:
            claims = false;
            wait_for_operator(
                Reason::unrelated_data,
                "this copy and that of " + peer_name() +
                    " have nothing in common: safectl stop, then safectl as-primary on the node "
                    "with the good one, and safectl as-secondary --discard-local on the other");
            return;
        case Verdict::nobody_may_lead:
            claims = false;
            wait_for_operator(Reason::inconsistent_data, "neither copy may lead: " + because);
            return;
    }
    claims = false;
    wait_for_operator(Reason::not_up_to_date, not_up_to_date_text());
}

/// Two nodes that wait may look at each other's older statuses. Whoever wants to lead says so, and
/// does it only when the other has heard that and still agrees.
void RoleMachine::State::claim(Reason why, std::string words) {
    if (!claims) {
        claims = true;
        claim_version = version + 1;
        claim_since = now;
        wait(Readiness::transient, why, words);
        return;
    }
    if (echoed(claim_version)) {
        LeadPlan plan;
        plan.reason = why;
        plan.text = std::move(words);
        lead(std::move(plan));
        return;
    }
    if (now - claim_since >= options.timeout + 2 * options.pulse) {
        // Heard, but it does not hear us.
        decide_absent();
    }
}

void RoleMachine::State::wait(Readiness how, Reason why, std::string words) {
    if (how == Readiness::transient && blocked_reason != Reason::none) {
        become(Role::wait, Readiness::not_ready, blocked_reason, blocked_text);
        return;
    }
    become(Role::wait, how, why, std::move(words));
}

void RoleMachine::State::wait_for_operator(Reason why, std::string words) {
    claims = false;
    wait(Readiness::not_ready, why, words);
    finish_command(Outcome::would_wait, std::move(words));
}

/// An effect failed: WAIT NotReady, and again after a pause that doubles (I9).
void RoleMachine::State::block(Reason why, std::string words) {
    cancel_everything();
    if (follow) {
        if (!follow->session.is_nil()) {
            emit(DropSession{follow->session});
        }
        follow.reset();
    }
    phase = Phase::waiting;
    blocked_reason = why;
    blocked_text = words;
    blocked_until = now + blocked_pause;
    blocked_pause = std::min(2 * blocked_pause, limits::retry_pause_max);
    become(Role::wait, Readiness::not_ready, why, words);
    finish_command(Outcome::failed, std::move(words));
    if (storage) {
        // A node that waits has no door open.
        phase = Phase::yielding;
        yield_blocked = true;
        yield_close();
    }
}

void RoleMachine::State::enter_waiting(Reason why, std::string words, bool sticky) {
    cancel_everything();
    phase = Phase::waiting;
    leaving = false;
    sticky_reason = sticky ? why : Reason::none;
    sticky_text = words;
    become(Role::wait, sticky ? Readiness::not_ready : Readiness::transient, why, std::move(words));
}

void RoleMachine::State::lead(LeadPlan plan) {
    cancel_everything();
    phase = Phase::opening;
    service_ready = false;
    holding = false;
    alone_saving = false;
    if (blocked_reason == Reason::none) {
        become(Role::alone, Readiness::transient, plan.reason, plan.text);
    } else {
        claims = true;
    }
    if (!durable.clean && !queued.clean) {
        lead_open(std::move(plan));
        return;
    }
    // Durable before anything can be written: a crash from here on is not a clean stop.
    save(
        [this](Lineage& next) {
            next.clean = false;
            next.boot = options.boot;
        },
        [this, plan] { lead_open(plan); });
}

void RoleMachine::State::lead_open(LeadPlan plan) {
    if (storage == StorageRole::leader) {
        lead_save(std::move(plan));
        return;
    }
    open_storage(
        StorageRole::leader,
        [this, plan] { lead_save(plan); },
        [this, plan](const std::string& failure, const std::string& why) {
            lead_failed(plan, failure, why);
        });
}

void RoleMachine::State::lead_save(LeadPlan plan) {
    claims = false;
    blocked_reason = Reason::none;
    blocked_pause = limits::retry_pause_min;
    become(Role::alone, Readiness::transient, plan.reason, plan.text);
    const auto term = plan.term.value_or(next_term());
    const auto next_line = draw<GenerationId>();
    save(
        [this, &plan, &term, &next_line](Lineage& next) {
            if (plan.declared) {
                next.initialised = true;
                next.consistent = true;
                next.outdated = false;
                next.resync_mode = SyncMode::none;
                next.full_sync_due = next.full_sync_due || plan.declared_inconsistent;
            }
            if (plan.rotate || !next.peer_outdated) {
                next = rotate(std::move(next), next_line);
                next.alone_from = plan.alone_from;
            }
            next.outdated = false;
            next.peer_outdated = true;
            next.pending = {};
            next.handed_to = {};
            next.term = term;
            next.last_role = LastRole::primary;
            next.boot = options.boot;
            next.clean = false;
        },
        [this, plan] { lead_start(plan); });
}

void RoleMachine::State::lead_start(const LeadPlan& plan) {
    whole = true;
    takeover.reset();
    if (taking) {
        handover_answer = HandoverAnswer{*std::exchange(taking, std::nullopt), true};
    }
    start_service(
        plan.cause,
        [this] {
            phase = Phase::leading;
            service_ready = true;
            service_failures = 0;
            sticky_reason = Reason::none;
            wish = {};
            refresh_leading(reason, text);
            finish_command(Outcome::done, "serves alone");
        },
        [this](const std::string&, const std::string& why) { service_did_not_start(why); });
}

void RoleMachine::State::lead_failed(const LeadPlan& plan,
                                     const std::string& failure,
                                     const std::string& why) {
    if (taking) {
        handover_answer = HandoverAnswer{*std::exchange(taking, std::nullopt), false};
    }
    Reason cause = Reason::storage_failed;
    if (failure == "folder-not-recognised") {
        cause = Reason::folder_not_recognised;
    } else if (failure == "folder-busy") {
        cause = Reason::folder_busy;
    }
    if (plan.declared) {
        finish_command(Outcome::failed, why);
        stopped(false, cause, why);
        return;
    }
    if (cause == Reason::storage_failed && storage == StorageRole::follower) {
        // What was received may not be applied to the end (R13).
        whole = false;
    }
    block(cause, why);
}

void RoleMachine::State::service_did_not_start(const std::string& why) {
    const std::string words = "the service did not start: " + why;
    become(role, Readiness::not_ready, Reason::service_failed, words);
    finish_command(Outcome::failed, words);
    phase = Phase::stopping;
    kill_for_good([this, words] { close_and_stop(true, Reason::service_failed, words); });
}

}  // namespace safepair::cluster
