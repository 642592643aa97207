// What an operator may ask for (behaviour b.2). Every refusal says what, why, what next.
#include "core/role_state.hpp"

namespace safepair::cluster {

bool RoleMachine::State::busy_with_command(const OperatorCommand& order) {
    if (!command) {
        return false;
    }
    reply(order,
          Outcome::refused,
          "another command is being carried out here; wait for it, or: safectl forcestop");
    return true;
}

void RoleMachine::State::accept_command(const OperatorCommand& order) {
    finish_command(Outcome::refused, "cancelled by a later command");
    command = order;
    service_failures = 0;
}

void RoleMachine::State::command_start(const OperatorCommand& order) {
    if (busy_with_command(order)) {
        return;
    }
    if (phase == Phase::waiting) {
        accept_command(order);
        blocked_until = now;
        blocked_reason = Reason::none;
        storage_broken = false;
        return;
    }
    if (phase != Phase::stopped) {
        const bool on_the_way_out = phase == Phase::stopping || phase == Phase::handing_over;
        reply(order,
              on_the_way_out ? Outcome::refused : Outcome::done,
              on_the_way_out ? "the module is being stopped; start it again afterwards"
                             : "already started");
        return;
    }
    accept_command(order);
    wish = {};
    storage_broken = false;
    blocked_reason = Reason::none;
    blocked_until = now;
    blocked_pause = limits::retry_pause_min;
    handover_answer.reset();
    enter_waiting(Reason::operator_command, "starting", false);
}

void RoleMachine::State::command_as_primary(const OperatorCommand& order) {
    if (busy_with_command(order)) {
        return;
    }
    switch (phase) {
        case Phase::stopped:
            accept_command(order);
            deferred = order;
            return;
        case Phase::waiting:
        case Phase::joining:
            reply(order,
                  Outcome::refused,
                  "refused: the module waits here. safectl stop MODULE --node " + node_name() +
                      " first, then safectl as-primary");
            return;
        case Phase::opening:
        case Phase::leading:
            reply(order, Outcome::done, "already leads");
            return;
        case Phase::following:
        case Phase::verifying:
            reply(order,
                  Outcome::unsafe,
                  "refused: " + peer_name() + " leads. To move the service here: safectl swap");
            return;
        case Phase::handing_over:
        case Phase::yielding:
        case Phase::stopping:
        case Phase::frozen:
            reply(order,
                  Outcome::refused,
                  "refused: the module is on its way to another role; try again");
            return;
    }
}

void RoleMachine::State::command_as_secondary(const OperatorCommand& order) {
    if (busy_with_command(order)) {
        return;
    }
    if (phase != Phase::stopped) {
        reply(order,
              Outcome::refused,
              "refused: the module is not stopped here. safectl stop MODULE --node " + node_name() +
                  " first, then safectl as-secondary");
        return;
    }
    accept_command(order);
    deferred = order;
}

/// as-primary and as-secondary depend on what the peer does; right after the agent started that is
/// not known yet.
void RoleMachine::State::look_at_deferred() {
    if (!deferred || presence() == Presence::listening) {
        return;
    }
    const auto order = *std::exchange(deferred, std::nullopt);
    const bool is_heard = presence() == Presence::heard;
    if (order.verb == Verb::as_secondary) {
        if (!is_heard || !peer_leads()) {
            finish_command(Outcome::refused,
                           "refused: " + peer_name() +
                               " does not lead. Start it there first, or use safectl start");
            return;
        }
        const auto verdict = compare(mine(), theirs()).verdict;
        if (verdict != Verdict::peer_leads && !order.discard_local) {
            finish_command(
                Outcome::unsafe,
                "refused: this copy holds changes that " + peer_name() +
                    " lacks. They are archived and then overwritten with --discard-local");
            return;
        }
        wish = FollowWish{order.full, order.discard_local};
        storage_broken = false;
        blocked_reason = Reason::none;
        blocked_until = now;
        handover_answer.reset();
        enter_waiting(Reason::operator_command, "follows " + peer_name(), false);
        return;
    }
    if (is_heard && (peer_leads() || peer->claims_lead || peer->role == Role::second)) {
        finish_command(Outcome::unsafe,
                       "refused: " + peer_name() + (peer_leads() ? " leads" : " is about to lead") +
                           ". Stop it there first, or use safectl start to follow it");
        return;
    }
    if (!durable.consistent && !order.force_inconsistent) {
        finish_command(Outcome::unsafe,
                       "refused: this copy was stopped during its resynchronisation and is half "
                       "old, half new. Start " +
                           peer_name() + ", or force it with --force-inconsistent");
        return;
    }
    storage_broken = false;
    blocked_reason = Reason::none;
    handover_answer.reset();
    wish = {};
    LeadPlan plan;
    plan.reason = Reason::operator_command;
    plan.text = "declared primary";
    plan.rotate = true;
    plan.declared = true;
    plan.declared_inconsistent = !durable.consistent;
    lead(std::move(plan));
}

void RoleMachine::State::command_stop(const OperatorCommand& order) {
    const bool forced = order.force || order.verb == Verb::shutdown;
    switch (phase) {
        case Phase::stopped:
            if (deferred) {
                deferred.reset();
                finish_command(Outcome::refused, "cancelled by stop");
            }
            reply(order, Outcome::done, "already stopped");
            return;
        case Phase::stopping:
        case Phase::handing_over:
            reply(order,
                  Outcome::refused,
                  "refused: the module is already leaving its role; safectl forcestop ends it at "
                  "once");
            return;
        case Phase::yielding:
            accept_command(order);
            stop_after_yield = true;
            return;
        case Phase::waiting:
        case Phase::joining:
            accept_command(order);
            stop_waiting();
            return;
        case Phase::following:
        case Phase::verifying:
            accept_command(order);
            stop_following();
            return;
        case Phase::frozen:
            accept_command(order);
            force_stop();
            return;
        case Phase::opening:
            accept_command(order);
            stop_leading_alone();
            return;
        case Phase::leading:
            break;
    }
    if (role == Role::prim && !(link && link->ready) && !forced) {
        reply(order,
              Outcome::unsafe,
              "refused: " + peer_name() +
                  " is not up to date and cannot take over, so the service would stop on both "
                  "nodes. Wait until it is SECOND Ready, or add --force");
        return;
    }
    if (suspension) {
        // Nobody has confirmed that this node still leads: the service may not run, not even in
        // order to stop (R14).
        if (!forced) {
            reply(order,
                  Outcome::refused,
                  "refused: paused until " + peer_name() +
                      " confirms that this node leads; try again, or add --force");
            return;
        }
        accept_command(order);
        force_stop();
        return;
    }
    accept_command(order);
    if (link && link->ready) {
        Leave plan;
        plan.verb = order.verb;
        begin_leave(plan);
    } else {
        stop_leading_alone();
    }
}

void RoleMachine::State::stop_waiting() {
    cancel_everything();
    phase = Phase::stopping;
    leaving = true;
    if (follow && !follow->session.is_nil()) {
        emit(DropSession{follow->session});
    }
    follow.reset();
    become(Role::wait, Readiness::transient, Reason::operator_command, "stopping");
    close_and_stop(true, Reason::operator_command, "stopped");
}

void RoleMachine::State::stop_following() {
    cancel_everything();
    phase = Phase::stopping;
    leaving = true;
    if (handover_answer || (peer && peer->handover)) {
        refuse_handover();
    }
    become(Role::second, Readiness::transient, Reason::operator_command, "stopping");
    const auto close = [this] {
        const bool applied = !(follow && follow->apply_failed);
        if (follow) {
            emit(DropSession{follow->session});
            follow.reset();
        }
        close_and_stop(applied, Reason::operator_command, "stopped");
    };
    if (!durable.consistent) {
        close();
        return;
    }
    // The leader goes on alone at once: it sees a durable promise that this copy will not lead
    // (R7).
    save([](Lineage& next) { next.outdated = true; }, close);
}

void RoleMachine::State::stop_leading_alone() {
    cancel_everything();
    phase = Phase::stopping;
    leaving = true;
    if (link) {
        emit(DropSession{link->session});
        lost_session = link->session;
        link.reset();
        synced_session = {};
    }
    become(Role::wait, Readiness::transient, Reason::operator_command, "stopping the service");
    const auto close = [this] { close_and_stop(true, Reason::operator_command, "stopped"); };
    stop_service(
        [this, close] {
            emit(FailHeld{});
            close();
        },
        [this, close](const std::string&, const std::string&) { kill_for_good(close); });
}

/// A service that is asked to stop may take minutes. When the other node serves meanwhile it has
/// none (R14).
void RoleMachine::State::hurry_stop() {
    const bool outranked = heard && peer_leads() && peer->heard_incarnation == options.incarnation;
    if (!outranked || hurried || !in_flight(Effect::stop)) {
        return;
    }
    hurried = true;
    cancel_everything();
    become(Role::wait,
           Readiness::transient,
           Reason::superseded,
           peer_name() + " leads: the service is killed");
    kill_for_good([this] {
        close_and_stop(false, Reason::superseded, "stopped; " + peer_name() + " leads");
    });
}

/// Ends the storage and shows STOP. clean=true is recorded only after everything was flushed and
/// given back.
void RoleMachine::State::close_and_stop(bool clean, Reason why, std::string words) {
    if (!storage_touched) {
        stopped(durable.clean, why, std::move(words));
        return;
    }
    close_storage(
        clean,
        [this, clean, why, words] { stopped(clean, why, words); },
        [this, clean, words](const std::string&, const std::string& problem) {
            if (clean) {
                close_and_stop(false,
                               Reason::storage_failed,
                               words + ", but the folder could not be closed cleanly: " + problem);
                return;
            }
            // STOP with an open door would be a side door (R16).
            const std::string trouble =
                "the folder cannot be closed: " + problem + ". Free it; it is tried again";
            become(Role::wait, Readiness::not_ready, Reason::storage_failed, trouble);
            finish_command(Outcome::failed, trouble);
            later(limits::retry_pause_min,
                  [this, words] { close_and_stop(false, Reason::storage_failed, words); });
        });
}

void RoleMachine::State::stopped(bool clean, Reason why, std::string words) {
    const auto end = [this, why, words] {
        cancel_everything();
        phase = Phase::stopped;
        leaving = false;
        hurried = false;
        holding = false;
        alone_saving = false;
        stop_after_yield = false;
        suspension.reset();
        handover.reset();
        leave.reset();
        follow.reset();
        wish = {};
        takeover.reset();
        sticky_reason = Reason::none;
        blocked_reason = Reason::none;
        proof_session = {};
        become(Role::stop, Readiness::not_ready, why, words);
        finish_command(why == Reason::storage_failed ? Outcome::failed : Outcome::done, words);
    };
    if (!clean || durable.clean) {
        end();
        return;
    }
    save([](Lineage& next) { next.clean = true; }, end);
}

void RoleMachine::State::command_restart(const OperatorCommand& order) {
    if (busy_with_command(order)) {
        return;
    }
    if (phase != Phase::leading || !service_ready || suspension) {
        reply(
            order,
            Outcome::refused,
            "refused: no service is running here. restart acts on the node that is ALONE or PRIM");
        return;
    }
    accept_command(order);
    service_ready = false;
    refresh_leading(Reason::operator_command, "restarting the service");
    stop_service(
        [this] {
            start_service(
                StartCause::restart,
                [this] {
                    service_ready = true;
                    refresh_leading(Reason::operator_command, "service restarted");
                    finish_command(Outcome::done, "restarted");
                },
                [this](const std::string&, const std::string& why) {
                    finish_command(Outcome::failed, "the service did not start again: " + why);
                    restart_in_place(why);
                });
        },
        [this](const std::string&, const std::string& why) {
            service_ready = true;
            refresh_leading(Reason::service_failed, "the service could not be stopped: " + why);
            finish_command(
                Outcome::failed,
                "the service could not be stopped: " + why + ". safectl forcestop kills it");
        });
}

void RoleMachine::State::command_swap(const OperatorCommand& order) {
    if (busy_with_command(order)) {
        return;
    }
    if (phase != Phase::leading || !link || !link->ready || !service_ready || suspension) {
        reply(order,
              Outcome::refused,
              "refused: swap needs PRIM Ready here and SECOND Ready on " + peer_name());
        return;
    }
    accept_command(order);
    Leave plan;
    plan.verb = Verb::swap;
    begin_leave(plan);
}

void RoleMachine::State::command_forcestop(const OperatorCommand& order) {
    deferred.reset();
    accept_command(order);
    force_stop();
}

/// R14: kill first, then answer what is held; nothing is flushed or promised.
void RoleMachine::State::force_stop() {
    const bool serving = service_up || start_in_flight;
    cancel_everything();
    leaving = true;
    leave.reset();
    handover.reset();
    holding = false;
    alone_saving = false;
    suspension.reset();
    if (link) {
        lost_session = link->session;
        emit(DropSession{link->session});
        link.reset();
        synced_session = {};
    }
    if (follow && !follow->session.is_nil()) {
        emit(DropSession{follow->session});
    }
    follow.reset();
    if (!serving && !storage_touched) {
        stopped(false, Reason::operator_command, "stopped by force");
        return;
    }
    phase = Phase::stopping;
    become(Role::wait, Readiness::transient, Reason::operator_command, "stopping by force");
    const auto close = [this] {
        close_and_stop(false, Reason::operator_command, "stopped by force");
    };
    if (serving) {
        kill_for_good(close);
    } else {
        emit(FailHeld{});
        close();
    }
}

}  // namespace safepair::cluster
