#pragma once

#include <safepair/hyperv/virtual_machines.hpp>

#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace safepair::hyperv {

/// Hands events to whoever watches their VM. Subscribe and unsubscribe on any thread; publish on
/// one.
class EventHub {
  public:
    EventHub();
    ~EventHub();
    EventHub(const EventHub&) = delete;
    EventHub& operator=(const EventHub&) = delete;

    [[nodiscard]] std::unique_ptr<VmWatch> subscribe(std::string name,
                                                     std::function<void(const VmEvent&)> handler);
    void publish(const VmEvent& event);
    /// Names that somebody watches, each once.
    [[nodiscard]] std::vector<std::string> names() const;

  private:
    class State;
    class Subscription;
    /// Shared with the subscriptions, which may outlive the hub.
    std::shared_ptr<State> state_;
};

}  // namespace safepair::hyperv
