#include "../../../libhyperv/src/libvirt/event_hub.hpp"

#include "support/catch.hpp"

#include <future>
#include <memory>
#include <string>
#include <thread>
#include <vector>

using namespace safepair;
using hyperv::EventHub;
using hyperv::VmEvent;

TEST_CASE("EventHub hands an event to everybody who watches its VM, and to nobody else") {
    EventHub hub;
    std::vector<std::string> seen;
    const auto a =
        hub.subscribe("a", [&](const VmEvent& event) { seen.push_back("1 " + event.detail); });
    const auto b =
        hub.subscribe("b", [&](const VmEvent& event) { seen.push_back("2 " + event.detail); });
    auto again =
        hub.subscribe("a", [&](const VmEvent& event) { seen.push_back("3 " + event.detail); });
    hub.publish({VmEvent::Kind::stopped, "a", "x"});
    again.reset();
    hub.publish({VmEvent::Kind::stopped, "a", "y"});
    CHECK(seen == std::vector<std::string>{"1 x", "3 x", "1 y"});
    CHECK(hub.names() == std::vector<std::string>{"a", "b"});
}

TEST_CASE("EventHub lets a handler end its own subscription") {
    EventHub hub;
    int calls = 0;
    std::unique_ptr<hyperv::VmWatch> watch;
    watch = hub.subscribe("a", [&](const VmEvent&) {
        ++calls;
        watch.reset();
    });
    hub.publish({VmEvent::Kind::started, "a", ""});
    hub.publish({VmEvent::Kind::started, "a", ""});
    CHECK(calls == 1);
}

TEST_CASE("EventHub does not end a subscription while its handler runs") {
    EventHub hub;
    std::promise<void> entered;
    std::promise<void> may_go;
    bool finished = false;
    auto watch = hub.subscribe("a", [&](const VmEvent&) {
        entered.set_value();
        may_go.get_future().wait();
        finished = true;
    });
    std::thread publisher([&] { hub.publish({VmEvent::Kind::started, "a", ""}); });
    entered.get_future().wait();
    std::thread releaser([&] { may_go.set_value(); });
    watch.reset();
    CHECK(finished);
    publisher.join();
    releaser.join();
}

TEST_CASE("A subscription may outlive its EventHub") {
    auto hub = std::make_unique<EventHub>();
    const auto watch = hub->subscribe("a", [](const VmEvent&) {});
    hub.reset();
    CHECK(watch != nullptr);
}
