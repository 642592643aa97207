#include "core/role_state.hpp"

#include <safepair/cluster/role_machine.hpp>

#include <algorithm>

namespace safepair::cluster {

namespace {

constexpr std::size_t replaced_max = limits::replaced_incarnations_max;

std::string cut(const std::string& words) { return words.substr(0, limits::reason_bytes_max); }

}  // namespace

RoleMachine::RoleMachine(RoleOptions options, SavedRole saved, std::uint64_t seed)
    : state_(std::make_unique<State>(std::move(options), std::move(saved), seed)) {}

RoleMachine::~RoleMachine() = default;
RoleMachine::RoleMachine(RoleMachine&&) noexcept = default;
RoleMachine& RoleMachine::operator=(RoleMachine&&) noexcept = default;

std::vector<Action> RoleMachine::step(base::Instant now, const Event& event) {
    return state_->step(now, event);
}

const RoleView& RoleMachine::view() const noexcept { return state_->view; }

PeerStatus RoleMachine::status() const { return state_->status(); }

RoleMachine::State::State(RoleOptions given, SavedRole saved, std::uint64_t seed)
    : options(std::move(given)), prng(seed), durable(std::move(saved.lineage)) {
    // Answers carry ids over restarts of this process: a new life must not repeat those of the last
    // one.
    next_id = (prng.next() >> 16U) + 1;
    if (saved.lineage_damaged) {
        // Nothing is known about this copy but that there was one: an operator may force it, it
        // never leads by itself.
        durable = Lineage{};
        durable.initialised = true;
        durable.consistent = false;
        durable.clean = false;
        durable.resync_mode = SyncMode::checksum;
    }
    queued = durable;
    map_usable = saved.map_usable && !saved.lineage_damaged;
    changed_alone = saved.changed_alone;
    const bool survived_as_primary =
        durable.last_role == LastRole::primary && durable.boot == options.boot;
    whole = durable.clean || survived_as_primary || durable.last_role == LastRole::none;
    refresh_view();
    published = status();
}

std::vector<Action> RoleMachine::State::step(base::Instant time, const Event& event) {
    now = time;
    actions.clear();
    if (!listening_started) {
        listening_started = true;
        listening_since = now;
        since = now;
    }
    std::visit([this](const auto& known) { on(known); }, event);
    fire_timers();
    decide_until_quiet();
    publish_changes();
    refresh_view();
    return std::exchange(actions, {});
}

void RoleMachine::State::decide_until_quiet() {
    for (unsigned round = 0; round < limits::decisions_per_step_max; ++round) {
        const auto before = std::pair(phase, epoch);
        decide();
        if (before == std::pair(phase, epoch)) {
            return;
        }
    }
}

void RoleMachine::State::decide() {
    switch (phase) {
        case Phase::stopped:
            settle_record();
            decline_handover();
            promise_when_asked();
            look_at_deferred();
            return;
        case Phase::waiting:
            settle_record();
            decline_handover();
            promise_when_asked();
            decide_waiting();
            return;
        case Phase::opening:
        case Phase::frozen:
            static_cast<void>(rival());
            return;
        case Phase::leading:
            watch_follower();
            return;
        case Phase::following:
            watch_leader();
            return;
        case Phase::verifying:
            watch_while_verifying();
            return;
        case Phase::handing_over:
            if (durable.outdated || queued.outdated || !rival()) {
                go_alone_when_proven();
                watch_taker();
            }
            return;
        case Phase::stopping:
            hurry_stop();
            return;
        case Phase::joining:
        case Phase::yielding:
            return;
    }
}

void RoleMachine::State::fire_timers() {
    std::vector<Timer> due;
    std::erase_if(timers, [this, &due](const Timer& timer) {
        if (timer.at > now) {
            return false;
        }
        due.push_back(timer);
        return true;
    });
    for (const auto& timer : due) {
        if (timer.epoch == epoch) {
            timer.fire();
        }
    }
}

PeerStatus RoleMachine::State::status() const {
    PeerStatus shown;
    shown.node = options.node;
    shown.incarnation = options.incarnation;
    shown.version = version;
    shown.role = role;
    shown.readiness = readiness;
    shown.lineage = durable;
    shown.lineage.peer_outdated = durable.peer_outdated || (doubtful && doubtful->peer_outdated);
    shown.whole = whole;
    shown.changed_alone = changed_alone;
    shown.map_usable = map_usable;
    shown.service_running = service_up || start_in_flight;
    shown.leaving = leaving;
    shown.wants_exclusion = holding && !alone_saving;
    shown.synced_session = synced_session;
    shown.handover = handover;
    shown.handover_answer = handover_answer;
    if (follow && !follow->session.is_nil()) {
        shown.following = Following{follow->session,
                                    options.peer,
                                    follow->leader_incarnation,
                                    follow->term,
                                    follow->mode,
                                    follow->accepting};
    }
    shown.lost_session = lost_session;
    shown.claims_lead = claims;
    if (peer) {
        shown.heard_incarnation = peer->incarnation;
        shown.heard_version = peer->version;
    }
    shown.settings_hash = options.settings_hash;
    shown.reason = cut(text);
    return shown;
}

void RoleMachine::State::publish_changes() {
    auto shown = status();
    // The echo is no news of ours: counting it would make the two nodes answer each other for ever.
    published.version = shown.version;
    published.heard_incarnation = shown.heard_incarnation;
    published.heard_version = shown.heard_version;
    if (shown == published) {
        return;
    }
    ++version;
    shown.version = version;
    published = std::move(shown);
    emit(PublishStatus{});
}

void RoleMachine::State::refresh_view() {
    view.role = role;
    view.readiness = readiness;
    view.lineage = durable;
    view.reason = reason;
    view.text = text;
    view.since = since;
    view.uptodate = (readiness == Readiness::ready) ||
                    ((role == Role::alone || role == Role::prim) && phase != Phase::opening);
    view.degraded = role == Role::alone || (role == Role::prim && holding);
    view.service_running = service_up;
    view.surely_alone = surely_alone();
    view.peer_heard = heard;
    view.peer = peer;
}

void RoleMachine::State::on(const Tick&) {
    // The life that was known is over and the next one does not hear us: it keeps the detector
    // quiet, but it is not there.
    const bool replaced_unheard =
        peer && heard && !candidate.is_nil() && candidate != peer->incarnation;
    if (replaced_unheard && now - peer_heard_at >= options.timeout + options.pulse) {
        on(PeerLost{});
    }
}

void RoleMachine::State::on(const OperatorCommand& event) {
    switch (event.verb) {
        case Verb::start:
            command_start(event);
            return;
        case Verb::stop:
        case Verb::shutdown:
            command_stop(event);
            return;
        case Verb::restart:
            command_restart(event);
            return;
        case Verb::swap:
            command_swap(event);
            return;
        case Verb::as_primary:
            command_as_primary(event);
            return;
        case Verb::as_secondary:
            command_as_secondary(event);
            return;
        case Verb::forcestop:
            command_forcestop(event);
            return;
    }
}

void RoleMachine::State::on(const PeerStatusReceived& event) {
    const auto& news = event.status;
    if (news.node != options.peer) {
        return;
    }
    if (std::ranges::find(replaced, news.incarnation) != replaced.end()) {
        return;
    }
    if (peer && peer->incarnation == news.incarnation) {
        if (news.version < peer->version) {
            return;
        }
        if (news.version == peer->version) {
            if (news.heard_incarnation == options.incarnation) {
                const bool same = peer->heard_incarnation == options.incarnation;
                peer->heard_version =
                    same ? std::max(peer->heard_version, news.heard_version) : news.heard_version;
                peer->heard_incarnation = options.incarnation;
            }
            peer_heard_at = now;
            takeover.reset();
            heard = true;
            lost = false;
            return;
        }
    } else if (peer) {
        if (!lives(news)) {
            return;
        }
        replaced.push_back(peer->incarnation);
        if (replaced.size() > replaced_max) {
            replaced.erase(replaced.begin());
        }
    }
    peer = news;
    takeover.reset();
    peer_heard_at = now;
    heard = true;
    lost = false;
}

/// A status of another life of the peer may have lain somewhere while that life ended, too. One
/// that answers what this node says now is alive.
bool RoleMachine::State::lives(const PeerStatus& news) {
    if (candidate != news.incarnation) {
        candidate = news.incarnation;
        candidate_version = ++version;
        emit(PublishStatus{});
        return false;
    }
    return news.heard_incarnation == options.incarnation && news.heard_version >= candidate_version;
}

void RoleMachine::State::on(const PeerLost&) {
    heard = false;
    lost = true;
}

void RoleMachine::State::on(const Overslept& event) {
    // What was heard before, or is still in a buffer, says nothing about now.
    heard = false;
    lost = false;
    listening_since = now;
    if (surely_alone()) {
        // Nobody else can lead with right (R21).
        return;
    }
    const bool declared = command && command->verb == Verb::as_primary;
    if (phase == Phase::leading) {
        suspend(event.length);
    } else if ((phase == Phase::opening && !durable.peer_outdated && !declared) ||
               (phase == Phase::handing_over && !durable.outdated)) {
        // The decision to lead, or to go on leading, is older than what may have happened
        // meanwhile.
        yield(Reason::overslept, "this agent did not run for too long: looks again who leads");
    }
}

void RoleMachine::State::on(const LineageSaved& event) { succeeded(event.id); }

void RoleMachine::State::on(const LineageSaveFailed& event) {
    failed(event.id, "lineage-failed", event.why);
}

void RoleMachine::State::on(const StorageOpened& event) { succeeded(event.id); }

void RoleMachine::State::on(const StorageClosed& event) { succeeded(event.id); }

void RoleMachine::State::on(const StorageFailed& event) {
    failed(event.id, event.reason, event.why);
}

void RoleMachine::State::on(const ServiceStarted& event) { succeeded(event.id); }

void RoleMachine::State::on(const ServiceStopped& event) { succeeded(event.id); }

void RoleMachine::State::on(const ServiceFailed& event) {
    failed(event.id, "service-failed", event.why);
}

void RoleMachine::State::on(const ServiceExited& event) { service_exited(event.why); }

void RoleMachine::State::on(const SessionOpened& event) {
    if (follow && follow->session == event.session) {
        follow->opened = true;
        follow->pause = limits::retry_pause_min;
    } else if (link && link->session == event.session) {
        link->opened = true;
        connect_pause = limits::retry_pause_min;
        if (phase == Phase::leading) {
            refresh_leading(Reason::peer_follows, "synchronising " + peer_name());
        }
    } else {
        emit(DropSession{event.session});
    }
}

void RoleMachine::State::on(const SessionLost& event) {
    if (follow && follow->session == event.session) {
        session_lost_while_following(event);
    } else if (link && link->session == event.session) {
        if (leave) {
            lose_link_while_leaving(event.why);
        } else if (phase == Phase::leading) {
            lose_link(Reason::channel_lost,
                      "the data channel to " + peer_name() + " is lost: " + event.why);
        }
    }
}

void RoleMachine::State::on(const ResyncFinished& event) {
    if (phase == Phase::leading && link && link->session == event.session) {
        resync_finished();
    }
}

void RoleMachine::State::on(const MapCleared& event) { succeeded(event.id); }

void RoleMachine::State::on(const Quiesced& event) {
    quiesced_sequence = event.sequence;
    succeeded(event.id);
}

void RoleMachine::State::on(const QuiesceFailed& event) {
    failed(event.id, "quiesce-failed", event.why);
}

void RoleMachine::State::on(const AppliedVerified& event) {
    applied_complete = event.complete;
    succeeded(event.id);
}

void RoleMachine::State::on(const ArchiveFinished& event) { succeeded(event.id); }

void RoleMachine::State::on(const ArchiveFailed& event) {
    failed(event.id, "archive-failed", event.why);
}

void RoleMachine::State::on(const LocalStoreFailed& event) { local_store_failed(event.why); }

void RoleMachine::State::on(const MapChanged& event) {
    map_reported = true;
    map_usable = event.usable;
    changed_alone = event.changed;
}

Presence RoleMachine::State::presence() const {
    if (heard) {
        return Presence::heard;
    }
    const auto patience = options.timeout + 2 * options.pulse;
    return lost || now - listening_since >= patience ? Presence::absent : Presence::listening;
}

bool RoleMachine::State::peer_leads() const {
    return peer && (peer->role == Role::alone || peer->role == Role::prim);
}

Standing RoleMachine::State::mine() const {
    return Standing{durable, whole, changed_alone, map_usable, options.node};
}

Standing RoleMachine::State::theirs() const {
    return Standing{
        peer->lineage, peer->whole, peer->changed_alone, peer->map_usable, options.peer};
}

bool RoleMachine::State::echoed(std::uint64_t wanted) const {
    return peer && peer->heard_incarnation == options.incarnation && peer->heard_version >= wanted;
}

Term RoleMachine::State::next_term() const {
    const auto known = peer ? peer->lineage.term.counter : 0;
    return Term{std::max(queued.term.counter, known) + 1, options.node};
}

void RoleMachine::State::become(Role to, Readiness to_readiness, Reason why, std::string words) {
    if (role != to || readiness != to_readiness) {
        Transition transition;
        transition.from = role;
        transition.from_readiness = readiness;
        transition.to = to;
        transition.to_readiness = to_readiness;
        transition.reason = why;
        transition.actor = command ? command->actor : "heart";
        transition.text = words;
        transition.term = durable.term;
        emit(std::move(transition));
        since = now;
    }
    role = to;
    readiness = to_readiness;
    reason = why;
    text = std::move(words);
}

void RoleMachine::State::reply(const OperatorCommand& to, Outcome outcome, std::string message) {
    emit(Reply{to.id, outcome, std::move(message)});
}

void RoleMachine::State::finish_command(Outcome outcome, std::string message) {
    if (command) {
        const auto done = *std::exchange(command, std::nullopt);
        reply(done, outcome, std::move(message));
    }
}

}  // namespace safepair::cluster
