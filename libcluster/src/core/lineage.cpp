#include <safepair/cluster/lineage.hpp>

#include <algorithm>
#include <optional>
#include <tuple>

namespace safepair::cluster {

namespace {

enum class Side : std::uint8_t { mine, peer };

/// Position of `id` in the line that led to `lineage.current`: 0 is current, 1 the newest former
/// value, and so on.
std::optional<std::size_t> place_in_line(const Lineage& lineage, GenerationId id) {
    if (id.is_nil()) {
        return std::nullopt;
    }
    if (lineage.current == id) {
        return 0;
    }
    const auto found = std::ranges::find(lineage.history, id);
    if (found == lineage.history.end()) {
        return std::nullopt;
    }
    return static_cast<std::size_t>(found - lineage.history.begin()) + 1;
}

/// True when `leader` holds everything that was acknowledged under `id`.
bool descends_from(const Lineage& leader, GenerationId id) {
    return !id.is_nil() && (leader.base == id || in_history(leader, id));
}

bool share_an_ancestor(const Lineage& one, const Lineage& other) {
    const auto known = [&other](GenerationId id) {
        return !id.is_nil() && (id == other.base || in_history(other, id));
    };
    return known(one.base) || std::ranges::any_of(one.history, known);
}

/// The leader's map covers everything that changed since the follower's copy was equal to it.
bool map_covers(const Lineage& leader, const Lineage& follower) {
    if (leader.base.is_nil()) {
        return leader.current == follower.current;
    }
    if (leader.base == follower.current || leader.base == follower.base) {
        return true;
    }
    const auto base = place_in_line(leader, leader.base);
    const auto place = place_in_line(leader, follower.current);
    return place && base && *place <= *base;
}

/// Where a follower that is not known to be equal has to be compared or copied.
SyncMode mode_for(const Standing& leader, const Standing& follower) {
    if (!follower.lineage.initialised || leader.lineage.full_sync_due) {
        return SyncMode::full;
    }
    // What a follower received is in the leader's map until both flushed it (R9); only what it
    // wrote as leader is not.
    const bool follower_led = follower.lineage.last_role == LastRole::primary ||
                              follower.lineage.peer_outdated || follower.changed_alone;
    const bool follower_known = follower.map_usable || !follower_led;
    const bool maps_serve = leader.map_usable && follower_known &&
                            !follower.lineage.full_sync_due &&
                            map_covers(leader.lineage, follower.lineage);
    const auto mode = maps_serve ? SyncMode::dirty_blocks : SyncMode::checksum;
    return std::max(mode, follower.lineage.resync_mode);
}

bool nothing_to_copy(const Standing& one) {
    return one.lineage.clean && one.lineage.base.is_nil() && !one.changed_alone && one.map_usable;
}

Comparison leads(
    Side side, const Standing& mine, const Standing& peer, bool archive, std::string_view because) {
    Comparison result;
    result.verdict = side == Side::mine ? Verdict::i_lead : Verdict::peer_leads;
    result.mode = side == Side::mine ? mode_for(mine, peer) : mode_for(peer, mine);
    result.archive = archive;
    result.because = because;
    return result;
}

Comparison nobody(Verdict verdict, std::string_view because) {
    Comparison result;
    result.verdict = verdict;
    result.because = because;
    return result;
}

/// b.3: the one that took over loses, then the lower term, then the higher node name.
Side split_brain_winner(const Standing& mine, const Standing& peer) {
    const bool mine_took = mine.lineage.alone_from == LastRole::secondary;
    const bool peer_took = peer.lineage.alone_from == LastRole::secondary;
    if (mine_took != peer_took) {
        return mine_took ? Side::peer : Side::mine;
    }
    if (mine.lineage.term.counter != peer.lineage.term.counter) {
        return mine.lineage.term.counter > peer.lineage.term.counter ? Side::mine : Side::peer;
    }
    return mine.node < peer.node ? Side::mine : Side::peer;
}

Comparison split(const Standing& mine, const Standing& peer) {
    if (mine.changed_alone != peer.changed_alone) {
        const Side side = mine.changed_alone ? Side::mine : Side::peer;
        return leads(side,
                     mine,
                     peer,
                     false,
                     "common ancestor, only one side wrote: the other yields for free");
    }
    const Side winner = split_brain_winner(mine, peer);
    auto result = leads(winner,
                        mine,
                        peer,
                        mine.changed_alone,
                        "common ancestor, both sides went on alone: split brain");
    result.verdict = Verdict::split_brain;
    result.i_yield = winner == Side::peer;
    return result;
}

/// Both records name the same line of acknowledged data (R1, R23).
Side leader_of_equals(const Standing& mine, const Standing& peer) {
    if (mine.lineage.peer_outdated != peer.lineage.peer_outdated) {
        return mine.lineage.peer_outdated ? Side::mine : Side::peer;
    }
    if (mine.whole != peer.whole) {
        return mine.whole ? Side::mine : Side::peer;
    }
    if (mine.lineage.outdated != peer.lineage.outdated) {
        return mine.lineage.outdated ? Side::peer : Side::mine;
    }
    const bool i_was_primary = mine.lineage.last_role == LastRole::primary;
    const bool peer_was_primary = peer.lineage.last_role == LastRole::primary;
    if (i_was_primary != peer_was_primary) {
        return i_was_primary ? Side::mine : Side::peer;
    }
    if (mine.lineage.term.counter != peer.lineage.term.counter) {
        return mine.lineage.term.counter > peer.lineage.term.counter ? Side::mine : Side::peer;
    }
    return mine.node < peer.node ? Side::mine : Side::peer;
}

Comparison compare_equal_lines(const Standing& mine, const Standing& peer) {
    // `outdated` under one identity is a promise (a stop, a hand-over that nobody took), not a
    // fact: whoever goes on alone changes its identity first, so neither copy lacks anything that
    // was acknowledged, but by a crash (R1).
    const bool one_outdated = mine.lineage.outdated != peer.lineage.outdated;
    std::string_view because = "same current, no divergence";
    if (mine.whole != peer.whole) {
        because = "same current, one of them lost what it had not flushed";
    } else if (one_outdated) {
        because = "same current, one of them outdated";
    }
    auto result = leads(leader_of_equals(mine, peer), mine, peer, false, because);
    if (result.mode == SyncMode::dirty_blocks && nothing_to_copy(mine) && nothing_to_copy(peer)) {
        result.mode = SyncMode::none;
    }
    return result;
}

/// Both initialised and consistent, currents differ.
Comparison compare_lines(const Standing& mine, const Standing& peer) {
    const bool mine_ahead = descends_from(mine.lineage, peer.lineage.current);
    const bool peer_ahead = descends_from(peer.lineage, mine.lineage.current);
    if (mine.lineage.outdated && peer.lineage.outdated) {
        return nobody(Verdict::nobody_may_lead, "both outdated");
    }
    if (mine_ahead != peer_ahead) {
        const auto& ahead = mine_ahead ? mine : peer;
        if (ahead.lineage.outdated) {
            return nobody(Verdict::nobody_may_lead, "the one that went on is outdated");
        }
        return leads(mine_ahead ? Side::mine : Side::peer,
                     mine,
                     peer,
                     false,
                     "one current is an ancestor of the other");
    }
    if (!mine_ahead && !share_an_ancestor(mine.lineage, peer.lineage)) {
        return nobody(Verdict::unrelated, "nothing in common");
    }
    if (mine.lineage.outdated != peer.lineage.outdated) {
        const auto& behind = mine.lineage.outdated ? mine : peer;
        return leads(mine.lineage.outdated ? Side::peer : Side::mine,
                     mine,
                     peer,
                     behind.changed_alone,
                     "common ancestor, one of them outdated");
    }
    return split(mine, peer);
}

}  // namespace

Lineage rotate(Lineage lineage, GenerationId next) {
    if (lineage.base.is_nil()) {
        lineage.base = lineage.current;
    }
    if (!lineage.current.is_nil()) {
        std::shift_right(lineage.history.begin(), lineage.history.end(), 1);
        lineage.history.front() = lineage.current;
    }
    lineage.current = next;
    return lineage;
}

Lineage rejoin(Lineage lineage) {
    if (lineage.base.is_nil()) {
        return lineage;
    }
    const auto place = place_in_line(lineage, lineage.base);
    if (place && *place > 0) {
        const auto newer = static_cast<std::ptrdiff_t>(*place);
        std::shift_left(lineage.history.begin(), lineage.history.end(), newer);
        std::fill(lineage.history.end() - newer, lineage.history.end(), GenerationId{});
    }
    lineage.current = lineage.base;
    lineage.base = {};
    lineage.peer_outdated = false;
    lineage.alone_from = LastRole::none;
    return lineage;
}

bool in_history(const Lineage& lineage, GenerationId id) noexcept {
    return !id.is_nil() && std::ranges::find(lineage.history, id) != lineage.history.end();
}

bool may_lead_alone(const Lineage& lineage) noexcept {
    return lineage.initialised && lineage.consistent && !lineage.outdated &&
           lineage.peer_outdated && lineage.pending.is_nil();
}

Comparison compare(const Standing& mine, const Standing& peer) {
    const Lineage& a = mine.lineage;
    const Lineage& b = peer.lineage;
    if (!a.initialised && !b.initialised) {
        return nobody(Verdict::nobody_initialised, "neither copy was ever declared good");
    }
    const auto able = [](const Lineage& lineage) {
        return lineage.initialised && lineage.consistent;
    };
    if (able(a) && able(b)) {
        return a.current == b.current ? compare_equal_lines(mine, peer) : compare_lines(mine, peer);
    }
    if (!able(a) && !able(b)) {
        return nobody(Verdict::nobody_may_lead, "no copy is whole");
    }
    const bool mine_able = able(a);
    if ((mine_able ? a : b).outdated) {
        return nobody(Verdict::nobody_may_lead, "the only consistent copy is outdated");
    }
    const auto& other = mine_able ? b : a;
    if (other.initialised && other.current.is_nil() && !(mine_able ? a : b).peer_outdated) {
        // Half-synchronised copies keep their `current`; this one lost its record, and may have
        // been the newer one.
        return nobody(Verdict::nobody_may_lead,
                      "the record of one copy is damaged, and the other may be older");
    }
    // Archived, if it had to be, before its resync began.
    return leads(
        mine_able ? Side::mine : Side::peer,
        mine,
        peer,
        false,
        other.initialised ? "one copy is half-synchronised" : "one copy was never synchronised");
}

}  // namespace safepair::cluster
