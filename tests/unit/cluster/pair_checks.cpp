// The promises of behaviour b.7, looked at after every step.
#include "unit/cluster/pair.hpp"

#include <algorithm>
#include <utility>

namespace safepair::cluster::pairs {

namespace {

constexpr Duration retry_pause_least = std::chrono::milliseconds(400);
constexpr Duration window = std::chrono::seconds(10);
constexpr std::size_t asks_per_window_max = 30;
/// The loser of a healed isolation has this long to stop its service.
constexpr Duration overlap_max = std::chrono::seconds(8);

bool leads(Role role) { return role == Role::alone || role == Role::prim; }

}  // namespace

void Pair::check(Side side) {
    auto& mine = node(side);
    if (!mine.machine) {
        return;
    }
    const auto& now_shown = view(side);
    if (mine.shown_role != now_shown.role || mine.shown_readiness != now_shown.readiness) {
        broken("I10: " + mine.name.value + " changed its visible state without a transition");
    }
    if (now_shown.role == Role::second && now_shown.readiness == Readiness::ready) {
        if (mine.losses_untold == 0 && !data_.follows(side)) {
            broken("I7: SECOND Ready without a data channel");
        }
        data_.check_follower(side);
    }
    const bool door_ought_to_be_closed =
        now_shown.role == Role::stop ||
        (now_shown.role == Role::wait && now_shown.readiness == Readiness::not_ready);
    const auto storage_free =
        std::max(mine.free_at[static_cast<std::size_t>(Lane::storage)], mine.asleep_until);
    const bool closing = now_ - storage_free < std::chrono::seconds(2);
    if (door_ought_to_be_closed && data_.copy(side).door != Door::closed && !closing &&
        (now_shown.role == Role::stop || now_shown.reason != Reason::storage_failed) &&
        mine.guest == Guest::off) {
        broken("R16: the folder is open in role " + state(side));
    }
    if (now_shown.role != Role::second) {
        mine.eligible = false;
    }
    check_services();
}

void Pair::check_transition(Side side, const Transition& transition) {
    auto& mine = node(side);
    if (transition.reason == Reason::none || transition.actor.empty()) {
        broken("I10: a transition without a reason or an actor");
    }
    if (mine.shown_role != transition.from || mine.shown_readiness != transition.from_readiness) {
        broken("I10: a transition does not begin where the last one ended");
    }
    mine.shown_role = transition.to;
    mine.shown_readiness = transition.to_readiness;
    if (leads(transition.to) && !leads(transition.from)) {
        const bool declared = transition.reason == Reason::operator_command;
        mine.may_try_again =
            mine.may_try_again || (transition.from == Role::second && mine.eligible);
        mine.took_over_fairly = mine.may_try_again || declared;
        if (declared) {
            data_.give_up_what_is_missing(side);
            if (node(other(side)).guest != Guest::off) {
                forced_until_ = now_ + std::chrono::seconds(65);
            }
        }
    }
}

/// I3: a copy that misses an answered write begins to lead only when an operator says so, or when a
/// follower that had everything hears nothing any more.
void Pair::check_service_start(Side side) {
    auto& mine = node(side);
    if (!mine.record.consistent || !mine.record.initialised) {
        broken("I4: inconsistent data leads");
    }
    if (!mine.record.peer_outdated) {
        broken("I2: a service starts although its record does not say that the peer is behind");
    }
    const auto missing = data_.missing(side);
    if (missing != 0 && !mine.took_over_fairly && mine.record.current != mine.fair_line) {
        broken("I3: " + mine.name.value +
               " begins to lead without an answered write: " + data_.describe(missing));
    }
    mine.fair_line = mine.record.current;
}

void Pair::check_services() {
    // The guard lets the service of a dead agent run for a while when its record says alone; its
    // disk is gone with the door.
    const auto executes = [this](Side side) {
        return serves(side) && (node(side).up || !node(side).record.peer_outdated);
    };
    const bool both = executes(Side::a) && executes(Side::b);
    // A node that sleeps, and whose record lets it run alone, is as good as cut off.
    const auto dreams = [this](Side side) {
        return node(side).up && !runs(side) && node(side).record.peer_outdated;
    };
    if (!whole_path(Side::a) || !whole_path(Side::b) || dreams(Side::a) || dreams(Side::b)) {
        last_isolated_ = now_;
    }
    if (!both) {
        both_serve_since_.reset();
        return;
    }
    if (now_ < forced_until_) {
        return;
    }
    const bool isolated_lately =
        now_ - last_isolated_ <= options_.timeout + std::chrono::seconds(2);
    if (!both_serve_since_) {
        both_serve_since_ = now_;
        if (!isolated_lately) {
            broken("I1: two services run at once, and nobody is isolated");
        }
    }
    if (now_ - std::max(*both_serve_since_, last_isolated_) > overlap_max) {
        broken("I1: two services still run long after the networks were healed");
    }
}

void Pair::record_saved(Side side) {
    auto& mine = node(side);
    const auto& record = mine.record;
    // A leader that goes on without its follower, or a follower that takes over in time.
    if (record.peer_outdated && (view(side).role == Role::prim || mine.took_over_fairly)) {
        mine.fair_line = record.current;
    }
    const bool promises = record.outdated || !record.consistent;
    if (promises) {
        mine.eligible = false;
        mine.may_try_again = false;
    } else if (record.last_role == LastRole::secondary && !record.peer_outdated &&
               view(side).role == Role::second) {
        if (!mine.eligible && view(side).peer) {
            mine.eligible = true;
            mine.eligible_since_version = view(side).peer->version;
        }
    }
}

/// A follower that was told that its leader goes on alone is out.
void Pair::heard_status(Side side, const PeerStatus& status) {
    auto& mine = node(side);
    const bool newer = view(side).peer && status.incarnation == view(side).peer->incarnation &&
                       status.version > mine.eligible_since_version;
    if (newer && leads(status.role) && status.lineage.peer_outdated) {
        mine.eligible = false;
        mine.may_try_again = false;
    }
}

void Pair::asked_for(Side side, const std::string& what, bool backs_off) {
    auto& mine = node(side);
    ++mine.times[what];
    auto& asked = mine.asked[what];
    asked.push_back(now_);
    while (now_ - asked.front() > window) {
        asked.pop_front();
    }
    if (asked.size() > asks_per_window_max) {
        broken("I9: " + mine.name.value + " asks for \"" + what + "\" again and again");
    }
    const auto failed = mine.failed_at.find(what);
    if (backs_off && failed != mine.failed_at.end() && now_ - failed->second < retry_pause_least) {
        broken("I9: " + mine.name.value + " repeats \"" + what + "\" without a pause");
    }
}

void Pair::failed_at(Side side, const std::string& what) { node(side).failed_at[what] = now_; }

}  // namespace safepair::cluster::pairs
