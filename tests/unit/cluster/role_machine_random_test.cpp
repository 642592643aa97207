#include "support/catch.hpp"
#include "unit/cluster/pair.hpp"

#include <cstdlib>
#include <iostream>
#include <string>

using namespace safepair::cluster;
using namespace safepair::cluster::pairs;
using namespace std::chrono_literals;
namespace base = safepair::base;

namespace {

/// A minute of commands and faults from one seed, then peace: the pair has to find back by itself.
class Chaos {
  public:
    explicit Chaos(std::uint64_t seed) : dice_(seed * 7919 + 1), pair_(options(seed)) {}

    void run() {
        pair_.boot_both();
        pair_.ask(Side::a, Verb::as_primary);
        pair_.command(Side::b, Verb::start);
        if (!dice_.chance(1, 8)) {
            static_cast<void>(pair_.run_until([this] { return pair_.settled(); }, 30s));
        }
        pair_.set_failures(failures_);
        for (const auto who : both_sides) {
            pair_.node(who).open_failure = dice_.chance(1, 2) ? "folder-busy" : "storage-error";
        }
        const auto end = pair_.now() + 20s + std::chrono::seconds(dice_.below(40));
        while (pair_.now() < end) {
            trouble();
            pair_.run(std::chrono::milliseconds(50 + dice_.below(dice_.chance(1, 3) ? 5000 : 900)));
        }
        pair_.note("-- peace");
        pair_.calm();
        pair_.run(6s);
        converge();
    }

    [[nodiscard]] const Pair& pair() const { return pair_; }

  private:
    PairOptions options(std::uint64_t seed) {
        PairOptions chosen;
        chosen.seed = seed;
        chosen.random_delays = dice_.chance(3, 4);
        chosen.reports_map = dice_.chance(2, 3);
        chosen.failover = !dice_.chance(1, 8);
        failures_ = dice_.chance(1, 2) ? 0 : 20 + static_cast<unsigned>(dice_.below(100));
        return chosen;
    }

    Side side() { return dice_.chance(1, 2) ? Side::a : Side::b; }

    void trouble() {
        const auto who = side();
        switch (dice_.below(22)) {
            case 0:
                pair_.cut_all();
                break;
            case 1:
                pair_.cut_from(who);
                break;
            case 2:
                pair_.cut_network(dice_.below(2));
                break;
            case 3:
            case 4:
            case 5:
                pair_.heal();
                break;
            case 6:
                pair_.block_data(true);
                break;
            case 7:
                pair_.block_data(false);
                break;
            case 8:
                pair_.data().break_channel();
                break;
            case 9:
                pair_.crash(who, Power::agent_only);
                break;
            case 10:
                pair_.crash(who, Power::whole_system);
                break;
            case 11:
            case 12:
            case 13:
                come_back(who);
                break;
            case 14:
                pair_.sleep(who, std::chrono::milliseconds(500 + dice_.below(9000)));
                break;
            case 15:
                pair_.set_loss(static_cast<unsigned>(dice_.below(60)));
                break;
            case 16:
                pair_.guest_exits(who, "crashed");
                break;
            case 17:
                storage_trouble(who);
                break;
            case 18:
                pair_.slow_down(who,
                                static_cast<Effect>(dice_.below(effect_count)),
                                std::chrono::milliseconds(dice_.below(4000)));
                break;
            default:
                order(who);
                break;
        }
    }

    void storage_trouble(Side who) {
        if (!pair_.node(who).up) {
            return;
        }
        if (dice_.chance(1, 2)) {
            pair_.data().copy(who).apply_fails = pair_.data().copy(who).door == Door::follower;
        } else if (pair_.data().copy(who).door == Door::leader) {
            pair_.data().fail_store(who);
        }
    }

    void come_back(Side who) {
        if (pair_.node(who).up) {
            return;
        }
        pair_.boot(who);
        if (dice_.chance(3, 4)) {
            pair_.command(who, Verb::start);
        }
    }

    void order(Side who) {
        if (!pair_.node(who).up) {
            return;
        }
        OperatorCommand order;
        order.force = dice_.chance(1, 3);
        static constexpr std::array verbs{Verb::start,
                                          Verb::start,
                                          Verb::start,
                                          Verb::stop,
                                          Verb::stop,
                                          Verb::restart,
                                          Verb::swap,
                                          Verb::swap,
                                          Verb::swap,
                                          Verb::forcestop,
                                          Verb::as_primary,
                                          Verb::as_secondary};
        order.verb = verbs[dice_.below(verbs.size())];
        order.discard_local = dice_.chance(1, 4);
        order.force_inconsistent = dice_.chance(1, 8);
        order.full = dice_.chance(1, 4);
        pair_.command(who, order);
    }

    bool there() { return pair_.settled() && pair_.data().equal(); }

    /// What an operator does who follows the advice in the status table.
    void repair(Side who) {
        if (!pair_.node(who).up) {
            pair_.boot(who);
            pair_.run(1s);
        }
        const auto& view = pair_.view(who);
        if (view.role == Role::stop) {
            pair_.command(who, Verb::start);
        } else if (view.reason == Reason::lineage_failed) {
            pair_.command(who, Verb::forcestop);
        } else if (view.role == Role::wait && view.reason == Reason::storage_failed) {
            pair_.command(who, Verb::start);
        } else if (view.role == Role::wait && view.reason == Reason::unrelated_data) {
            pair_.ask(who, Verb::stop);
            OperatorCommand choice;
            choice.verb = pair_.leader() ? Verb::as_secondary : Verb::as_primary;
            choice.discard_local = true;
            pair_.ask(who, choice);
        }
    }

    void converge() {
        for (unsigned round = 0; round < 8; ++round) {
            for (const auto who : both_sides) {
                repair(who);
            }
            if (pair_.run_until([this] { return there(); }, 20s)) {
                pair_.run(2s);
                pair_.stop_writing(true);
                pair_.run(2s);
                if (there()) {
                    return;
                }
            }
        }
        throw Broken(pair_.story() + "P5: the pair does not come back");
    }

    base::Prng dice_;
    unsigned failures_ = 0;
    Pair pair_;
};

std::uint64_t from_environment(const char* name, std::uint64_t usual) {
    const char* text = std::getenv(name);
    return text == nullptr ? usual : std::stoull(text);
}

}  // namespace

TEST_CASE(
    "RoleMachine: any minute of commands and faults is followed by one PRIM and one SECOND with "
    "equal data") {
    const auto first = from_environment("SAFEPAIR_SEED", 1);
    const auto count = from_environment("SAFEPAIR_SEEDS", 200);
    for (auto seed = first; seed < first + count; ++seed) {
        CAPTURE(seed);
        try {
            Chaos(seed).run();
        } catch (const Broken& broken) {
            FAIL("seed " << seed << ": " << broken.what());
        }
    }
}
