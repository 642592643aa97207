#include "support/catch.hpp"

#include <safepair/base/bounded_queue.hpp>

#include <atomic>
#include <memory>
#include <thread>
#include <vector>

using safepair::base::BoundedQueue;

TEST_CASE("BoundedQueue: gives back in order and refuses beyond its capacity") {
    BoundedQueue<int> queue(2);
    CHECK(queue.try_push(1));
    CHECK(queue.try_push(2));
    CHECK_FALSE(queue.try_push(3));
    CHECK(queue.size() == 2);
    CHECK(queue.pop() == 1);
    CHECK(queue.try_push(4));
    CHECK(queue.pop() == 2);
    CHECK(queue.pop() == 4);
    CHECK(queue.size() == 0);
}

TEST_CASE("BoundedQueue: after close it refuses, drains what is left, then ends") {
    BoundedQueue<int> queue(4);
    REQUIRE(queue.push(1));
    REQUIRE(queue.push(2));
    queue.close();
    CHECK_FALSE(queue.push(3));
    CHECK_FALSE(queue.try_push(3));
    CHECK(queue.pop() == 1);
    CHECK(queue.pop() == 2);
    CHECK(queue.pop() == std::nullopt);
    CHECK(queue.pop() == std::nullopt);
}

TEST_CASE("BoundedQueue: a full queue lets its writer wait until there is room") {
    BoundedQueue<int> queue(1);
    REQUIRE(queue.push(0));
    std::thread writer([&queue] {
        for (int i = 1; i <= 1000; ++i) {
            queue.push(i);
        }
        queue.close();
    });
    std::vector<int> seen;
    while (auto item = queue.pop()) {
        CHECK(queue.size() <= 1);
        seen.push_back(*item);
    }
    writer.join();
    REQUIRE(seen.size() == 1001);
    for (std::size_t i = 0; i < seen.size(); ++i) {
        REQUIRE(seen[i] == static_cast<int>(i));
    }
}

TEST_CASE("BoundedQueue: close wakes those who wait on either side") {
    BoundedQueue<int> full(1);
    REQUIRE(full.push(1));
    BoundedQueue<int> empty(1);
    std::atomic<bool> refused = false;
    std::atomic<bool> ended = false;
    std::thread writer([&] { refused = !full.push(2); });
    std::thread reader([&] { ended = !empty.pop().has_value(); });
    full.close();
    empty.close();
    writer.join();
    reader.join();
    CHECK(refused);
    CHECK(ended);
    CHECK(full.pop() == 1);
    CHECK(full.pop() == std::nullopt);
}

TEST_CASE("BoundedQueue: several writers and readers lose and double nothing") {
    constexpr int writers = 3;
    constexpr int items_each = 2000;
    BoundedQueue<int> queue(8);
    std::vector<std::atomic<int>> seen(writers * items_each);
    std::vector<std::thread> producing;
    for (int w = 0; w < writers; ++w) {
        producing.emplace_back([&queue, w] {
            for (int i = 0; i < items_each; ++i) {
                queue.push(w * items_each + i);
            }
        });
    }
    std::vector<std::thread> consuming;
    for (int r = 0; r < 2; ++r) {
        consuming.emplace_back([&] {
            while (auto item = queue.pop()) {
                ++seen[static_cast<std::size_t>(*item)];
            }
        });
    }
    for (auto& thread : producing) {
        thread.join();
    }
    queue.close();
    for (auto& thread : consuming) {
        thread.join();
    }
    for (const auto& count : seen) {
        REQUIRE(count == 1);
    }
}

TEST_CASE("BoundedQueue: carries what can only be moved") {
    BoundedQueue<std::unique_ptr<int>> queue(1);
    REQUIRE(queue.push(std::make_unique<int>(7)));
    const auto item = queue.pop();
    REQUIRE(item.has_value());
    CHECK(**item == 7);
}
