#pragma once

#include <safepair/base/ids.hpp>

#include <array>
#include <compare>
#include <cstdint>
#include <string_view>

/// Lineage: the durable record of whose data is newest. Identities are random UUIDs; wall clocks
/// and file times decide nothing. `compare` is total and pure; it is the only place where the two
/// nodes' records are weighed.
namespace safepair::cluster {

using base::BootId;
using base::GenerationId;
using base::Incarnation;
using base::NodeId;
using base::SessionId;

/// Counter of promotions, made unique by the node that was promoted (R18). Ordered by counter, then
/// node.
struct Term {
    std::uint64_t counter = 0;
    NodeId node;
    friend auto operator<=>(const Term&, const Term&) = default;
};

/// What this node last was for the module; decides only between equal, equally whole copies (R1).
enum class LastRole : std::uint8_t { none, primary, secondary };

/// How the follower is brought up to date.
enum class SyncMode : std::uint8_t {
    none,          ///< equal already
    dirty_blocks,  ///< union of both maps (R10)
    checksum,      ///< compare everything by hash, copy what differs
    full,          ///< copy everything
};

inline constexpr std::size_t history_generations = 8;

/// One node's durable record for one module. Every change is on stable storage before the action it
/// justifies.
struct Lineage {
    /// This copy was the source or the result of a complete synchronisation, or was forced primary.
    bool initialised = false;
    /// False from the first byte of a resync onto this copy to its end. Inconsistent data never
    /// leads.
    bool consistent = true;
    /// This node knows that another copy is newer (announced stop, hand-over, exclusion by the
    /// leader: R7, R17).
    bool outdated = false;
    /// This node knows that the peer's copy is behind. Durable before the first write acknowledged
    /// alone.
    bool peer_outdated = false;
    /// The last stop was clean: everything is flushed and the maps on disk are complete.
    bool clean = true;
    /// New identity written before the arbitrating witness was asked (R6); nil otherwise.
    GenerationId pending;
    /// The line of acknowledged data this copy holds.
    GenerationId current;
    /// `current` at the moment the dirty map started; nil while there is no map (R23).
    GenerationId base;
    /// Former values of `current`, newest first, nil-padded.
    std::array<GenerationId, history_generations> history{};
    Term term;
    LastRole last_role = LastRole::none;
    /// Boot in which this record was last written while in service.
    BootId boot;
    /// To whom leadership was handed (R17); empty when not leaving.
    NodeId handed_to;
    /// What this node was when it last began to lead without its peer: primary if it led already,
    /// secondary if it took over, none since the last complete resync. After a split brain the one
    /// that took over loses (b.3).
    LastRole alone_from = LastRole::none;
    /// Mode of the resync onto this copy that has not finished; `none` while consistent. The next
    /// one is not weaker.
    SyncMode resync_mode = SyncMode::none;
    /// This copy was forced to lead although half-synchronised: the next resync from it copies
    /// everything.
    bool full_sync_due = false;

    friend bool operator==(const Lineage&, const Lineage&) = default;
};

/// `lineage` with `current` replaced by `next` and the old value pushed to history. `base` is set
/// to the old value only when it is nil (R23).
[[nodiscard]] Lineage rotate(Lineage lineage, GenerationId next);

/// The inverse, for a copy that wrote nothing since `base`: it is on the line of `base` again and
/// knows nothing of its peer.
[[nodiscard]] Lineage rejoin(Lineage lineage);

/// True when `id` is in `lineage.history`.
[[nodiscard]] bool in_history(const Lineage& lineage, GenerationId id) noexcept;

/// may_lead_alone of behaviour b.1: initialised, consistent, not outdated, peer_outdated, nothing
/// pending.
[[nodiscard]] bool may_lead_alone(const Lineage& lineage) noexcept;

/// One side's input to compare: its record and what its process knows beside it.
struct Standing {
    Lineage lineage;
    /// R1: everything this node acknowledged survived (clean stop; as primary: same boot; as
    /// secondary: same process).
    bool whole = false;
    /// Something was written since `base` (the dirty map is not empty, or is unknown).
    bool changed_alone = false;
    /// The dirty map covers every difference since `base` (false after an unclean stop without an
    /// activity log).
    bool map_usable = false;
    NodeId node;
};

enum class Verdict : std::uint8_t {
    nobody_initialised,  ///< both wait; as-primary needed
    i_lead,
    peer_leads,
    split_brain,      ///< common ancestor, both wrote: `i_yield` says who loses
    unrelated,        ///< nothing in common: refuse, an administrator decides
    nobody_may_lead,  ///< both inconsistent, or both outdated: wait
};

struct Comparison {
    Verdict verdict = Verdict::nobody_may_lead;
    SyncMode mode = SyncMode::none;
    /// Only with split_brain: this side loses. Exactly one of the two sides sees true.
    bool i_yield = false;
    /// The follower (for split_brain the loser) wrote data the leader lacks: archive before
    /// overwriting.
    bool archive = false;
    /// One phrase naming the row that decided, for the log.
    std::string_view because;
};

/// Who leads by the two records alone (behaviour b.6 with R1, R8, R17, R23). Total: every pair has
/// an answer; symmetric: compare(a, b) and compare(b, a) never both say i_lead, and agree on
/// `mode`.
[[nodiscard]] Comparison compare(const Standing& mine, const Standing& peer);

}  // namespace safepair::cluster
