#include "support/catch.hpp"
#include "unit/cluster/pair.hpp"

using namespace safepair::cluster;
using namespace safepair::cluster::pairs;
using namespace std::chrono_literals;

TEST_CASE("RoleMachine: as_primary_then_second_full_copy") {
    Pair pair;
    pair.settle();
    WARN(pair.story());
}
