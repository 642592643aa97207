#include "support/catch.hpp"

#include <safepair/cluster/failure_detector.hpp>

using namespace std::chrono_literals;
using safepair::base::Duration;
using safepair::base::Instant;
using safepair::cluster::DetectorOptions;
using safepair::cluster::DetectorVerdict;
using safepair::cluster::FailureDetector;
using safepair::cluster::LinkState;

namespace {

constexpr Duration pulse = 250ms;
constexpr Duration timeout = 3s;

Instant at(Duration since_start) { return Instant(100s) + since_start; }

FailureDetector make() {
    return {DetectorOptions{timeout, pulse, 1s}, {"production", "replication"}, at(0s)};
}

/// Ticks once per pulse over (from, to]; what happened, added up.
struct Summary {
    int lost = 0;
    int found = 0;
    Instant lost_at{};
    std::vector<std::pair<std::string, LinkState>> changed;
};

void note(Summary& summary, const DetectorVerdict& verdict, Instant now) {
    summary.found += verdict.peer_found ? 1 : 0;
    if (verdict.peer_lost) {
        ++summary.lost;
        summary.lost_at = now;
    }
    summary.changed.insert(summary.changed.end(), verdict.changed.begin(), verdict.changed.end());
}

/// One tick per pulse in (from, to]; the peer is heard on `links` each time.
Summary run(FailureDetector& detector,
            Duration from,
            Duration to,
            const std::vector<std::string>& links) {
    Summary summary;
    for (Duration t = from + pulse; t <= to; t += pulse) {
        for (const auto& link : links) {
            note(summary, detector.heard(at(t), link), at(t));
        }
        note(summary, detector.tick(at(t)), at(t));
    }
    return summary;
}

}  // namespace

TEST_CASE("FailureDetector: nothing is known before the first frame or a full timeout") {
    auto detector = make();
    const auto summary = run(detector, 0s, timeout - pulse, {});
    CHECK(summary.lost == 0);
    CHECK(detector.peer_alive() == std::nullopt);
    CHECK(detector.last_heard() == std::nullopt);
    CHECK(detector.link("production") == LinkState::unknown);
}

TEST_CASE("FailureDetector: a peer that is never heard is lost once, a timeout after the start") {
    auto detector = make();
    const auto summary = run(detector, 0s, 4 * timeout, {});
    CHECK(summary.lost == 1);
    CHECK(summary.lost_at == at(timeout));
    CHECK(detector.peer_alive() == false);
    CHECK(detector.link("replication") == LinkState::down);
}

TEST_CASE("FailureDetector: the first frame finds the peer and brings its link up") {
    auto detector = make();
    const auto verdict = detector.heard(at(pulse), "production");
    CHECK(verdict.peer_found);
    REQUIRE(verdict.changed.size() == 1);
    CHECK(verdict.changed[0] == std::pair<std::string, LinkState>("production", LinkState::up));
    CHECK(detector.last_heard() == at(pulse));
    const auto again = detector.heard(at(2 * pulse), "production");
    CHECK_FALSE(again.peer_found);
    CHECK(again.changed.empty());
}

TEST_CASE("FailureDetector: the loss of one of two links changes that link and nothing else") {
    auto detector = make();
    run(detector, 0s, 1s, {"production", "replication"});
    const auto summary = run(detector, 1s, 10s, {"production"});
    CHECK(summary.lost == 0);
    CHECK(summary.found == 0);
    REQUIRE(summary.changed.size() == 1);
    CHECK(summary.changed[0] == std::pair<std::string, LinkState>("replication", LinkState::down));
    CHECK(detector.peer_alive() == true);
    CHECK(detector.link("production") == LinkState::up);
    CHECK(detector.link("replication") == LinkState::down);
}

TEST_CASE("FailureDetector: another channel keeps the peer alive while every network is silent") {
    auto detector = make();
    run(detector, 0s, 1s, {"production", "replication"});
    const auto summary = run(detector, 1s, 10s, {"data"});
    CHECK(summary.lost == 0);
    CHECK(detector.peer_alive() == true);
    CHECK(detector.link("production") == LinkState::down);
    CHECK(detector.link("replication") == LinkState::down);
    CHECK(detector.link("data") == LinkState::unknown);
}

TEST_CASE("FailureDetector: silence on all links is lost once, within timeout plus one pulse") {
    // The last frame arrives between two ticks, at each possible distance.
    for (Duration phase = 0ms; phase < pulse; phase += 10ms) {
        auto detector = make();
        const Duration last = 1s + phase;
        CHECK(run(detector, 0s, 1s, {"production", "replication"}).lost == 0);
        CHECK(detector.heard(at(last), "production").peer_lost == false);
        const auto summary = run(detector, 1s, 20s, {});
        CHECK(summary.lost == 1);
        CHECK(summary.lost_at - at(last) >= timeout);
        CHECK(summary.lost_at - at(last) < timeout + pulse);
    }
}

TEST_CASE("FailureDetector: a lost peer that is heard again is found, and can be lost again") {
    auto detector = make();
    run(detector, 0s, 1s, {"production"});
    CHECK(run(detector, 1s, 5s, {}).lost == 1);
    const auto back = run(detector, 5s, 6s, {"replication"});
    CHECK(back.found == 1);
    CHECK(detector.peer_alive() == true);
    CHECK(run(detector, 6s, 12s, {}).lost == 1);
}

TEST_CASE("FailureDetector: after its own sleep it listens for a full timeout before it blames") {
    auto detector = make();
    run(detector, 0s, 1s, {"production", "replication"});
    // Asleep far longer than the timeout: the first call back must not blame the peer.
    const auto woken = detector.tick(at(61s));
    REQUIRE(woken.overslept.has_value());
    CHECK(*woken.overslept == 60s);
    CHECK_FALSE(woken.peer_lost);
    CHECK(woken.changed.empty());
    CHECK(detector.peer_alive() == true);
    const auto summary = run(detector, 61s, 70s, {});
    CHECK(summary.lost == 1);
    CHECK(summary.lost_at == at(61s + timeout));
}

TEST_CASE("FailureDetector: a sleep ended by a frame is reported too") {
    auto detector = make();
    run(detector, 0s, 1s, {"production", "replication"});
    const auto woken = detector.heard(at(6s), "production");
    REQUIRE(woken.overslept.has_value());
    CHECK(*woken.overslept == 5s);
    CHECK_FALSE(woken.peer_lost);
    CHECK(detector.link("replication") == LinkState::up);
}

TEST_CASE("FailureDetector: a gap up to the limit is not a sleep") {
    auto detector = make();
    CHECK_FALSE(detector.tick(at(1s)).overslept.has_value());
    CHECK(detector.tick(at(2s + 1ns)).overslept == 1s + 1ns);
}

TEST_CASE("FailureDetector: a lost peer stays lost over a sleep, without a second report") {
    auto detector = make();
    CHECK(run(detector, 0s, 5s, {}).lost == 1);
    const auto woken = detector.tick(at(30s));
    CHECK(woken.overslept.has_value());
    CHECK_FALSE(woken.peer_lost);
    CHECK(run(detector, 30s, 40s, {}).lost == 0);
    CHECK(detector.peer_alive() == false);
}

TEST_CASE("FailureDetector: an earlier time than the last one counts as the last one") {
    auto detector = make();
    static_cast<void>(detector.heard(at(500ms), "production"));
    const auto verdict = detector.heard(at(400ms), "replication");
    CHECK_FALSE(verdict.overslept.has_value());
    CHECK(detector.last_heard() == at(500ms));
}
