#include "io/peer_incarnations.hpp"

#include <safepair/cluster/limits.hpp>

#include <algorithm>

namespace safepair::cluster {

PeerIncarnations::Freshness PeerIncarnations::judge(const Arrival& arrival) {
    if (arrival.incarnation.is_nil()) {
        return Freshness::replayed;
    }
    if (arrival.incarnation != current_) {
        if (std::ranges::find(replaced_, arrival.incarnation) != replaced_.end()) {
            return Freshness::replayed;
        }
        if (!current_.is_nil() && !arrival.echo_proven) {
            return Freshness::unproven;
        }
        adopt(arrival.incarnation);
    }
    auto& last = counters_[arrival.network];
    if (arrival.counter <= last) {
        return Freshness::replayed;
    }
    last = arrival.counter;
    return Freshness::fresh;
}

void PeerIncarnations::adopt(const Incarnation& incarnation) {
    if (!current_.is_nil()) {
        replaced_.push_back(current_);
        if (replaced_.size() > limits::replaced_incarnations_max) {
            replaced_.pop_front();
        }
    }
    current_ = incarnation;
    std::ranges::fill(counters_, 0);
}

}  // namespace safepair::cluster
