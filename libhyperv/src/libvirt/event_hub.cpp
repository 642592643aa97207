#include "event_hub.hpp"

#include <condition_variable>
#include <map>
#include <mutex>
#include <set>
#include <thread>
#include <utility>

namespace safepair::hyperv {

class EventHub::State {
  public:
    struct Entry {
        std::string name;
        std::function<void(const VmEvent&)> handler;
    };

    std::uint64_t add(Entry entry) {
        const std::lock_guard lock(mutex_);
        entries_.emplace(++last_, std::make_shared<Entry>(std::move(entry)));
        return last_;
    }

    void remove(std::uint64_t id) {
        std::unique_lock lock(mutex_);
        entries_.erase(id);
        // A handler may end its own subscription.
        if (publisher_ != std::this_thread::get_id()) {
            idle_.wait(lock, [&] { return running_ != id; });
        }
    }

    void publish(const VmEvent& event) {
        std::uint64_t at = 0;
        for (;;) {
            std::shared_ptr<Entry> entry;
            {
                std::unique_lock lock(mutex_);
                running_ = 0;
                idle_.notify_all();
                auto next = entries_.upper_bound(at);
                while (next != entries_.end() && next->second->name != event.name) {
                    ++next;
                }
                if (next == entries_.end()) {
                    publisher_ = {};
                    return;
                }
                at = next->first;
                entry = next->second;
                running_ = at;
                publisher_ = std::this_thread::get_id();
            }
            entry->handler(event);
        }
    }

    std::vector<std::string> names() const {
        const std::lock_guard lock(mutex_);
        std::set<std::string> names;
        for (const auto& [id, entry] : entries_) {
            names.insert(entry->name);
        }
        return {names.begin(), names.end()};
    }

  private:
    mutable std::mutex mutex_;
    std::condition_variable idle_;
    // Guarded by mutex_. The entries are shared with a publish that is calling one of them.
    std::map<std::uint64_t, std::shared_ptr<Entry>> entries_;
    std::uint64_t last_ = 0;
    std::uint64_t running_ = 0;
    std::thread::id publisher_;
};

class EventHub::Subscription final : public VmWatch {
  public:
    Subscription(std::shared_ptr<State> state, std::uint64_t id)
        : state_(std::move(state)), id_(id) {}

    ~Subscription() override { state_->remove(id_); }

    Subscription(const Subscription&) = delete;
    Subscription& operator=(const Subscription&) = delete;

  private:
    const std::shared_ptr<State> state_;
    const std::uint64_t id_;
};

EventHub::EventHub() : state_(std::make_shared<State>()) {}

EventHub::~EventHub() = default;

std::unique_ptr<VmWatch> EventHub::subscribe(std::string name,
                                             std::function<void(const VmEvent&)> handler) {
    const auto id = state_->add({std::move(name), std::move(handler)});
    return std::make_unique<Subscription>(state_, id);
}

void EventHub::publish(const VmEvent& event) { state_->publish(event); }

std::vector<std::string> EventHub::names() const { return state_->names(); }

}  // namespace safepair::hyperv
