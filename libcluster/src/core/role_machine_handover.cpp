// R17: leaving is a request. The leaver stops its service, brings both copies to one sequence
// number, and asks.
#include "core/role_state.hpp"

namespace safepair::cluster {

void RoleMachine::State::begin_leave(Leave plan) {
    cancel_everything();
    leave = plan;
    leave->former_term = durable.term;
    phase = Phase::handing_over;
    leaving = plan.verb != Verb::swap;
    handover.reset();
    service_ready = false;
    become(Role::prim,
           Readiness::transient,
           plan.forced_by_failures ? Reason::service_failed : Reason::operator_command,
           "stops the service, then " + peer_name() + " takes over");
    stop_service([this] { leave_quiesce(); },
                 [this](const std::string&, const std::string&) {
                     kill_service([this] { leave_quiesce(); });
                 });
}

void RoleMachine::State::leave_quiesce() {
    if (leave->link_lost || !link) {
        leave_without_taker("the data channel to " + peer_name() + " was lost meanwhile");
        return;
    }
    const auto id = expect(
        Effect::quiesce,
        [this] { leave_ask(); },
        [this](const std::string&, const std::string& why) { leave_without_taker(why); });
    emit(Quiesce{id});
}

/// A service whose writes are held does not stop. So this node goes on alone first; one that is
/// stopped already holds nothing.
void RoleMachine::State::lose_link_while_leaving(const std::string& why) {
    leave->link_lost = true;
    if (in_flight(Effect::stop) || in_flight(Effect::kill)) {
        lose_link(Reason::channel_lost, "the data channel to " + peer_name() + " is lost: " + why);
    }
}

/// Durable before it is asked: from here on this node does not lead again by itself.
void RoleMachine::State::leave_ask() {
    const Term term{next_term().counter, options.peer};
    Handover request;
    request.id = next_id++;
    request.to = options.peer;
    request.term = term;
    request.session = link->session;
    request.sequence = quiesced_sequence;
    request.swap = leave->verb == Verb::swap;
    save(
        [this, &term](Lineage& next) {
            next.outdated = true;
            next.handed_to = options.peer;
            next.term = term;
        },
        [this, request] {
            handover = request;
            text = "waits for " + peer_name() + " to take over";
        });
}

void RoleMachine::State::watch_taker() {
    if (!handover) {
        return;
    }
    if (!heard) {
        if (presence() == Presence::absent && leave->verb != Verb::swap) {
            // It may or may not have taken: the marks stay, so this copy waits for it at the next
            // start.
            leave_without_taker(peer_name() + " fell silent before it answered");
        }
        return;
    }
    // Its record is the proof, also when the answer itself was lost, or when it took over by
    // itself.
    const bool leads_there =
        peer_leads() && compare(mine(), theirs()).verdict == Verdict::peer_leads;
    if (peer->lineage.term == handover->term || leads_there) {
        taken();
        return;
    }
    if (peer->handover_answer && peer->handover_answer->id == handover->id) {
        if (peer->handover_answer->taken) {
            taken();
        } else {
            not_taken(leave->verb != Verb::swap, peer_name() + " could not take over");
        }
        return;
    }
    if (link && peer->incarnation != link->follower_incarnation) {
        not_taken(leave->verb != Verb::swap,
                  "the agent of " + peer_name() + " was restarted before it took over");
    }
}

void RoleMachine::State::taken() {
    const auto plan = *leave;
    cancel_everything();
    handover.reset();
    leave.reset();
    drop_link();
    proof_session = {};
    holding = false;
    emit(FailHeld{});
    if (plan.verb == Verb::swap) {
        // Everything was flushed on both before it was handed over, so nothing differs but what the
        // map holds.
        map_survives_close = true;
        finish_command(Outcome::done, peer_name() + " serves now; this node follows it");
        begin_yielding(Reason::handed_over, peer_name() + " has taken over");
        yield_close();
        return;
    }
    phase = Phase::stopping;
    become(Role::wait, Readiness::transient, Reason::handed_over, peer_name() + " has taken over");
    close_and_stop(true,
                   plan.forced_by_failures ? Reason::service_failed : Reason::operator_command,
                   plan.forced_by_failures
                       ? "the service does not stay up here; " + peer_name() + " serves"
                       : "stopped; " + peer_name() + " serves");
}

/// The other node said no: both marks go, nothing has changed.
void RoleMachine::State::not_taken(bool go_on_stopping, const std::string& why) {
    handover.reset();
    save(
        [this](Lineage& next) {
            next.outdated = false;
            next.handed_to = {};
            next.term = leave->former_term;
        },
        [this, go_on_stopping, why] {
            if (go_on_stopping) {
                leave_without_taker(why);
            } else {
                resume_after_leave(Outcome::failed, why + "; the service runs here again");
            }
        });
}

void RoleMachine::State::leave_without_taker(const std::string& why) {
    const auto plan = *leave;
    if (plan.verb == Verb::swap) {
        resume_after_leave(Outcome::failed, why + "; the service runs here again");
        return;
    }
    cancel_everything();
    handover.reset();
    leave.reset();
    drop_link();
    emit(FailHeld{});
    holding = false;
    phase = Phase::stopping;
    become(Role::wait,
           Readiness::transient,
           Reason::operator_command,
           "stops without a taker: " + why);
    close_and_stop(true,
                   plan.forced_by_failures ? Reason::service_failed : Reason::operator_command,
                   "stopped, and nobody took over: " + why);
}

void RoleMachine::State::resume_after_leave(Outcome outcome, const std::string& message) {
    const bool link_lost = leave->link_lost;
    cancel_everything();
    alone_saving = false;
    leave.reset();
    handover.reset();
    leaving = false;
    phase = Phase::leading;
    finish_command(outcome, message);
    refresh_leading(Reason::refused, message);
    if (link_lost && link) {
        lose_link(Reason::channel_lost, "the data channel to " + peer_name() + " is lost");
    }
    start_service(
        StartCause::restart,
        [this, message] {
            service_ready = true;
            refresh_leading(Reason::refused, message);
        },
        [this](const std::string&, const std::string& why) { restart_in_place(why); });
}

/// Follower: was it asked, and has it not answered yet?
void RoleMachine::State::consider_handover() {
    if (!peer->handover || peer->handover->to != options.node) {
        return;
    }
    const auto request = *peer->handover;
    if (handover_answer && handover_answer->id == request.id) {
        return;
    }
    if (!may_take_over() || leaving || request.session != follow->session) {
        refuse_handover();
        return;
    }
    cancel_everything();
    phase = Phase::verifying;
    become(
        Role::second, Readiness::transient, Reason::handed_over, "takes over from " + peer_name());
    const auto id = expect(Effect::verify,
                           [this, request] {
                               const bool still_asked =
                                   peer && peer->handover && peer->handover->id == request.id;
                               if (applied_complete && still_asked) {
                                   accept_handover();
                               } else {
                                   refuse_handover();
                                   phase = Phase::following;
                               }
                           },
                           {});
    emit(VerifyApplied{id, request.session, request.sequence});
}

/// A node that follows no more answers what it was asked, or had begun to take.
void RoleMachine::State::decline_handover() {
    if (doubtful) {
        return;
    }
    if (taking) {
        handover_answer = HandoverAnswer{*std::exchange(taking, std::nullopt), false};
    }
    const bool asked = heard && peer && peer->handover && peer->handover->to == options.node;
    if (asked && !(handover_answer && handover_answer->id == peer->handover->id)) {
        refuse_handover();
    }
}

void RoleMachine::State::refuse_handover() {
    if (peer && peer->handover) {
        handover_answer = HandoverAnswer{peer->handover->id, false};
    }
}

/// Nothing of the old session counts from here on (R18). The answer is shown when the new term is
/// durable (lead_start).
void RoleMachine::State::accept_handover() {
    taking = peer->handover->id;
    LeadPlan plan;
    plan.cause = StartCause::handover;
    plan.reason = Reason::handed_over;
    plan.text = peer_name() + " handed over";
    plan.term = peer->handover->term;
    emit(DropSession{follow->session});
    follow.reset();
    lead(std::move(plan));
}

void RoleMachine::State::watch_while_verifying() {
    const bool asked =
        heard && peer && peer->handover && peer->incarnation == follow->leader_incarnation;
    if (presence() == Presence::absent || (heard && !asked)) {
        cancel_everything();
        phase = Phase::following;
    }
}

}  // namespace safepair::cluster
