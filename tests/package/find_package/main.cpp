// A program of somebody else: one thing of each library, by installed headers only.
#include <safepair/base/prng.hpp>
#include <safepair/cluster/failure_detector.hpp>
#include <safepair/cluster/heartbeat.hpp>
#include <safepair/hyperv/virtual_machines.hpp>
#include <safepair/replica/dirty_map.hpp>

#include <chrono>
#include <cstdio>
#include <cstring>

int main() {
    using namespace std::chrono_literals;
    safepair::cluster::FailureDetector detector(
        {3s, 250ms, 10s}, {"lan"}, safepair::base::Instant{});
    const bool lost = detector.tick(safepair::base::Instant(3s)).peer_lost;

    // Needs the library that it links privately.
    const safepair::cluster::HeartbeatKey key{};
    const bool decoded =
        safepair::cluster::decode(safepair::cluster::encode({}, key), key).has_value();

    safepair::replica::DirtyMap map;
    map.mark({}, 0, 1);

    const char* state = safepair::hyperv::to_string(safepair::hyperv::VmState::running);

    safepair::base::Prng prng(0);
    std::printf("lost %d, decoded %d, dirty bytes %llu, state %s\n",
                lost,
                decoded,
                static_cast<unsigned long long>(map.bytes()),
                state);
    const bool good = lost && decoded && !map.empty() && std::strcmp(state, "running") == 0 &&
                      prng.next() == 0x99EC5F36CB75F2B4U;
    return good ? 0 : 1;
}
