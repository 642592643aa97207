#include <safepair/cluster/failure_detector.hpp>

#include <algorithm>
#include <utility>

namespace safepair::cluster {

FailureDetector::FailureDetector(DetectorOptions options,
                                 std::vector<std::string> links,
                                 base::Instant now)
    : options_(options), last_call_(now), listening_since_(now) {
    for (auto& name : links) {
        links_.emplace(std::move(name), Link{now, LinkState::unknown});
    }
}

DetectorVerdict FailureDetector::heard(base::Instant now, const std::string& link) {
    DetectorVerdict verdict = note_gap(now);
    const base::Instant at = last_call_;
    listening_since_ = at;
    last_heard_ = at;
    const auto found = links_.find(link);
    if (found != links_.end()) {
        found->second.silent_since = at;
        if (found->second.state != LinkState::up) {
            found->second.state = LinkState::up;
            verdict.changed.emplace_back(link, LinkState::up);
        }
    }
    if (alive_ != std::optional(true)) {
        alive_ = true;
        verdict.peer_found = true;
    }
    judge(at, verdict);
    return verdict;
}

DetectorVerdict FailureDetector::tick(base::Instant now) {
    DetectorVerdict verdict = note_gap(now);
    judge(last_call_, verdict);
    return verdict;
}

LinkState FailureDetector::link(const std::string& name) const {
    const auto found = links_.find(name);
    return found == links_.end() ? LinkState::unknown : found->second.state;
}

DetectorVerdict FailureDetector::note_gap(base::Instant now) {
    DetectorVerdict verdict;
    // Two threads may read the clock in one order and call in the other; time never runs backwards
    // here.
    now = std::max(now, last_call_);
    const base::Duration gap = now - last_call_;
    last_call_ = now;
    if (gap > options_.oversleep) {
        verdict.overslept = gap;
        // What the peer sent meanwhile may still lie in a queue, or was lost because nobody emptied
        // it.
        listening_since_ = now;
        for (auto& [name, link] : links_) {
            link.silent_since = now;
        }
    }
    return verdict;
}

void FailureDetector::judge(base::Instant now, DetectorVerdict& verdict) {
    for (auto& [name, link] : links_) {
        if (link.state != LinkState::down && now - link.silent_since >= options_.timeout) {
            link.state = LinkState::down;
            verdict.changed.emplace_back(name, LinkState::down);
        }
    }
    if (alive_ != std::optional(false) && now - listening_since_ >= options_.timeout) {
        alive_ = false;
        verdict.peer_lost = true;
    }
}

}  // namespace safepair::cluster
