#include "lane.hpp"

#include "support/catch.hpp"

#include <atomic>
#include <future>
#include <vector>

using safepair::agent::Lane;

TEST_CASE("A lane runs its jobs one after the other, in order") {
    std::vector<int> order;
    {
        Lane lane;
        for (int i = 0; i < 100; ++i) {
            lane.post([&order, i] { order.push_back(i); });
        }
    }
    REQUIRE(order.size() == 100);
    CHECK(std::is_sorted(order.begin(), order.end()));
}

TEST_CASE("Who waits for a ticket goes on when that job and those before it have run") {
    Lane lane;
    std::atomic<int> done{0};
    std::promise<void> gate;
    lane.post([&, opened = gate.get_future().share()] {
        opened.wait();
        ++done;
    });
    const auto ticket = lane.last_ticket();
    lane.post([&] { ++done; });
    CHECK(ticket == 1);
    CHECK(done == 0);
    gate.set_value();
    lane.wait_for(ticket);
    CHECK(done >= 1);
    lane.wait_for(0);
}

TEST_CASE("A job that is posted by a job runs, also while the lane is finished") {
    bool second = false;
    {
        Lane lane;
        lane.post([&] { lane.post([&] { second = true; }); });
    }
    CHECK(second);
}
