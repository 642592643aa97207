// ALONE and PRIM: the follower comes, is brought up to date, and goes.
#include "core/role_state.hpp"

#include <algorithm>

namespace safepair::cluster {

void RoleMachine::State::watch_follower() {
    if (rival()) {
        return;
    }
    if (overtaken()) {
        return;
    }
    look_at_suspension();
    watch_link();
    go_alone_when_proven();
    maybe_connect();
}

/// R18, and the end of a split brain: the other node leads too. True when this one gives way.
bool RoleMachine::State::rival() {
    if (!heard || !peer_leads() || peer->heard_incarnation != options.incarnation) {
        return false;
    }
    const auto verdict = compare(mine(), theirs());
    const std::string because(verdict.because);
    switch (verdict.verdict) {
        case Verdict::peer_leads:
            yield(
                peer->lineage.term > durable.term ? Reason::superseded : Reason::split_brain_loser,
                peer_name() + " leads: " + because);
            return true;
        case Verdict::split_brain:
            if (verdict.i_yield) {
                yield(Reason::split_brain_loser, "gives way to " + peer_name() + ": " + because);
                return true;
            }
            if (phase == Phase::leading) {
                refresh_leading(Reason::split_brain_winner,
                                "stays: " + because + ", " + peer_name() + " gives way");
            }
            return false;
        case Verdict::i_lead:
            return false;
        case Verdict::unrelated:
        case Verdict::nobody_initialised:
        case Verdict::nobody_may_lead:
            if (phase == Phase::leading) {
                refresh_leading(Reason::unrelated_data,
                                peer_name() + " leads too, and the copies cannot be weighed (" +
                                    because +
                                    "). On the node whose data is to go: safectl stop MODULE, then "
                                    "safectl as-secondary MODULE --discard-local");
            }
            return false;
    }
    return false;
}

/// The other node took over, wrote, and serves no more: what is held here follows from the older
/// copy.
bool RoleMachine::State::overtaken() {
    if (!heard || peer_leads() || peer->heard_incarnation != options.incarnation ||
        !peer->changed_alone || !may_lead_alone(peer->lineage) ||
        compare(mine(), theirs()).verdict != Verdict::peer_leads) {
        return false;
    }
    yield(Reason::superseded, peer_name() + " served meanwhile and has the newer copy");
    return true;
}

void RoleMachine::State::watch_link() {
    if (!link) {
        return;
    }
    switch (presence()) {
        case Presence::listening:
            return;
        case Presence::absent:
            lose_link(Reason::peer_silent, peer_name() + " is silent on all networks");
            return;
        case Presence::heard:
            break;
    }
    if (peer->incarnation != link->follower_incarnation) {
        lose_link(Reason::peer_restarted, "the agent of " + peer_name() + " was restarted");
        return;
    }
    if (!peer->following || peer->following->session != link->session) {
        const bool announced = peer->leaving || peer->role == Role::stop;
        lose_link(announced ? Reason::peer_stopped : Reason::channel_lost,
                  peer_name() + (announced ? " stops" : " no longer follows"));
        return;
    }
    if (link->opened && !peer->following->accepting) {
        lose_link(Reason::channel_lost, "the data channel is lost on " + peer_name());
        return;
    }
    look_at_resync_finish();
}

/// Only a leader that durably goes on alone brings a follower up to date; a session is used once.
void RoleMachine::State::maybe_connect() {
    if (phase != Phase::leading || link || holding || suspension || !heard || !peer ||
        !peer->following || now < next_connect_at || !surely_alone()) {
        return;
    }
    const auto& following = *peer->following;
    if (!following.accepting || following.leader != options.node ||
        following.leader_incarnation != options.incarnation || following.term != durable.term ||
        following.session == lost_session || peer->role != Role::second) {
        return;
    }
    const auto verdict = compare(mine(), theirs());
    const auto mode = verdict.verdict == Verdict::i_lead ? std::max(following.mode, verdict.mode)
                                                         : following.mode;
    link = Link{};
    link->session = following.session;
    link->follower_incarnation = peer->incarnation;
    next_connect_at = now + connect_pause;
    connect_pause = std::min(2 * connect_pause, limits::retry_pause_max);
    emit(ConnectSession{following.session, options.peer, durable.term, mode});
}

void RoleMachine::State::drop_link() {
    if (!link) {
        return;
    }
    emit(DropSession{link->session});
    lost_session = link->session;
    if (link->finished) {
        proof_session = link->session;
    }
    base_superseded = base_superseded || link->map_cleared;
    synced_session = {};
    link.reset();
}

void RoleMachine::State::lose_link(Reason why, std::string words) {
    drop_link();
    if (surely_alone()) {
        // The storage may have begun to wait for the follower before this machine heard of it.
        emit(ReleaseHeld{});
        refresh_leading(why, std::move(words));
        return;
    }
    if (!holding) {
        holding = true;
        alone_saving = false;
        holding_reason = why;
        holding_text = words;
    }
    refresh_leading(why,
                    words + "; writes are held until it is certain that it will not take over");
}

/// R7: held answers are given only when the other node cannot take over.
bool RoleMachine::State::peer_cannot_lead() const {
    if (!heard || !peer || peer_leads() || peer->claims_lead || may_lead_alone(peer->lineage)) {
        return false;
    }
    if (peer->role != Role::second || peer->lineage.outdated) {
        return true;
    }
    // Half-synchronised, and past the session that could still have made it whole.
    return !peer->lineage.consistent &&
           (!peer->following || peer->following->session != proof_session);
}

void RoleMachine::State::go_alone_when_proven() {
    const bool serving = phase == Phase::leading || phase == Phase::handing_over;
    if (!holding || alone_saving || suspension || !serving) {
        return;
    }
    if (presence() != Presence::absent && !peer_cannot_lead()) {
        return;
    }
    alone_saving = true;
    const auto next_line = draw<GenerationId>();
    save(
        [this, &next_line](Lineage& next) {
            if (!next.peer_outdated) {
                if (base_superseded) {
                    next.base = {};
                }
                next = rotate(std::move(next), next_line);
                next.alone_from = LastRole::primary;
            }
            next.peer_outdated = true;
            next.boot = options.boot;
        },
        [this] { released(); });
}

void RoleMachine::State::released() {
    emit(ReleaseHeld{});
    holding = false;
    alone_saving = false;
    base_superseded = false;
    proof_session = {};
    if (!map_reported) {
        changed_alone = true;
    }
    refresh_leading(holding_reason, holding_text + "; goes on alone");
}

/// R8: the record first, then the word to the follower.
void RoleMachine::State::resync_finished() {
    if (link->finished) {
        return;
    }
    link->finished = true;
    save([](Lineage& next) { next.peer_outdated = false; },
         [this, session = link->session] {
             if (link && link->session == session) {
                 synced_session = session;
             }
         });
}

void RoleMachine::State::look_at_resync_finish() {
    if (!link->finished || link->finish_sent || synced_session != link->session) {
        return;
    }
    const auto& theirs_now = peer->lineage;
    if (!theirs_now.consistent || theirs_now.outdated || theirs_now.current != durable.current) {
        return;
    }
    link->finish_sent = true;
    const auto session = link->session;
    const auto id = expect(Effect::finish_resync, [this, session] { map_is_cleared(session); }, {});
    emit(FinishResync{id, session});
}

void RoleMachine::State::map_is_cleared(SessionId session) {
    if (!link || link->session != session) {
        base_superseded = true;
        return;
    }
    link->map_cleared = true;
    map_usable = true;
    changed_alone = false;
    save(
        [](Lineage& next) {
            next.base = {};
            next.alone_from = LastRole::none;
            next.full_sync_due = false;
        },
        [this, session] {
            if (link && link->session == session) {
                link->ready = true;
                link->map_cleared = false;
                refresh_leading(Reason::peer_in_sync, peer_name() + " is up to date");
            }
        });
}

void RoleMachine::State::refresh_leading(Reason why, std::string words) {
    const bool paired = holding || (link && link->opened);
    const bool complete =
        service_ready && !suspension && !holding && (!link || link->ready || !link->opened);
    become(paired ? Role::prim : Role::alone,
           complete ? Readiness::ready : Readiness::transient,
           why,
           std::move(words));
}

/// R18: asleep for so long that the other node may lead by now.
void RoleMachine::State::suspend(base::Duration length) {
    const auto milliseconds = std::chrono::duration_cast<std::chrono::milliseconds>(length).count();
    emit(FreezeStorage{});
    emit(PauseService{});
    // A new version even when nothing visible changed: its echo proves that the other node heard us
    // after the sleep.
    ++version;
    suspension = Suspension{version};
    refresh_leading(Reason::overslept,
                    "this agent did not run for " + std::to_string(milliseconds) +
                        " ms: paused until " + peer_name() +
                        " confirms that this node still leads");
    emit(PublishStatus{});
}

void RoleMachine::State::look_at_suspension() {
    if (!suspension) {
        return;
    }
    const bool confirmed = heard && !peer_leads() && echoed(suspension->version);
    // Nobody to ask: what follows is the ordinary going alone, and its answers are held until that
    // is durable.
    if (confirmed || presence() == Presence::absent) {
        resume();
        refresh_leading(Reason::overslept,
                        confirmed ? peer_name() + " confirms that this node leads"
                                  : peer_name() + " is silent");
    }
}

void RoleMachine::State::resume() {
    suspension.reset();
    emit(ThawStorage{});
    emit(ResumeService{});
}

void RoleMachine::State::service_exited(const std::string& why) {
    if (start_in_flight) {
        exited_early = why;
        return;
    }
    if (phase != Phase::leading || !service_ready) {
        return;
    }
    restart_in_place(why);
}

/// A service that ended by itself is started again here; one that does not stay up stops the
/// module, so that the other node may try.
void RoleMachine::State::restart_in_place(const std::string& why) {
    if (now - service_since >= limits::service_stable_after) {
        service_failures = 0;
    }
    ++service_failures;
    service_ready = false;
    if (service_failures > limits::service_failures_max) {
        const std::string words =
            "the service ended " + std::to_string(service_failures) + " times in a row: " + why;
        if (link && link->ready) {
            Leave plan;
            plan.forced_by_failures = true;
            begin_leave(plan);
            text = words;
            return;
        }
        service_did_not_start(words);
        return;
    }
    refresh_leading(Reason::service_exited,
                    "the service ended (" + why + "): start " + std::to_string(service_failures) +
                        " of " + std::to_string(limits::service_failures_max));
    // What is left of it goes first; two of one service are worse than none.
    kill_service([this] { start_in_place(); });
}

void RoleMachine::State::start_in_place() {
    if (suspension) {
        later(limits::retry_pause_min, [this] { start_in_place(); });
        return;
    }
    start_service(
        StartCause::restart,
        [this] {
            service_ready = true;
            refresh_leading(Reason::service_exited, "the service was started again");
        },
        [this](const std::string&, const std::string& trouble) {
            later(limits::retry_pause_min, [this, trouble] { restart_in_place(trouble); });
        });
}

/// The follower said that it has everything, and was asked for no promise since (R7): it can take
/// over.
bool RoleMachine::State::follower_is_eligible() const {
    return link && link->ready && heard && peer && peer->role == Role::second &&
           peer->lineage.initialised && peer->lineage.consistent && !peer->lineage.outdated &&
           !durable.peer_outdated && peer->lineage.current == durable.current;
}

/// R13: with a follower that has everything, this node fails over instead of answering.
void RoleMachine::State::local_store_failed(const std::string& why) {
    if (phase != Phase::leading && phase != Phase::handing_over) {
        return;
    }
    if (!follower_is_eligible()) {
        // Nobody to fail over to: the error goes to the service, as soon as answers may be given at
        // all.
        if (phase == Phase::leading) {
            lose_link(Reason::storage_failed, "the storage of this node failed: " + why);
        }
        return;
    }
    storage_broken = true;
    whole = false;
    yield_marks_outdated = true;
    yield(Reason::storage_failed, "the storage of this node failed: " + why);
}

}  // namespace safepair::cluster
