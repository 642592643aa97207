// A program of somebody else that carries the source tree inside its own.
#include <safepair/cluster/failure_detector.hpp>

#include <chrono>
#include <cstdio>

int main() {
    using namespace std::chrono_literals;
    safepair::cluster::FailureDetector detector(
        {3s, 250ms, 10s}, {"lan"}, safepair::base::Instant{});
    const bool found = detector.heard(safepair::base::Instant(1s), "lan").peer_found;
    const bool lost = detector.tick(safepair::base::Instant(4s)).peer_lost;
    std::printf("found %d, lost %d\n", found, lost);
    return found && lost ? 0 : 1;
}
