#pragma once

#include <safepair/base/ids.hpp>

#include <cstddef>
#include <cstdint>
#include <deque>
#include <vector>

/// Replay protection of heartbeats. Counters grow per incarnation and network, so a repeated
/// datagram of the incarnation we know is seen at once. A datagram of an incarnation we do not know
/// is either a restarted peer or an old recording; only the former can echo a time that this
/// process sent, so a *change* of incarnation needs that proof. The first incarnation of all is
/// taken as it is: there is nothing yet that it could push aside for good.
namespace safepair::cluster {

using base::Incarnation;

class PeerIncarnations {
  public:
    enum class Freshness : std::uint8_t {
        fresh,
        replayed,
        /// An incarnation that has not shown yet that it lives now; to be echoed, and otherwise
        /// ignored.
        unproven,
    };

    struct Arrival {
        Incarnation incarnation;
        std::uint64_t counter = 0;
        std::size_t network = 0;
        /// Its echo is a time that this process sent.
        bool echo_proven = false;
    };

    explicit PeerIncarnations(std::size_t network_count) : counters_(network_count, 0) {}

    [[nodiscard]] Freshness judge(const Arrival& arrival);

  private:
    void adopt(const Incarnation& incarnation);

    Incarnation current_;
    /// Highest counter of `current_` per network.
    std::vector<std::uint64_t> counters_;
    /// Incarnations that were current before, newest last.
    std::deque<Incarnation> replaced_;
};

}  // namespace safepair::cluster
