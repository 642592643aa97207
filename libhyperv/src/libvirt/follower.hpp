#pragma once

#include "../service/wake.hpp"

#include <safepair/base/result.hpp>

#include <atomic>
#include <filesystem>
#include <functional>
#include <mutex>
#include <string>
#include <thread>

namespace safepair::hyperv {

struct FollowerOptions {
    /// The configuration as the hypervisor has it now.
    std::function<base::Result<std::string>()> fetch;
    /// Where it is kept for the other node.
    std::filesystem::path target;
    /// What is known to lie there.
    std::string content;
    /// The hypervisor's own file of it; empty when there is none to watch.
    std::filesystem::path source;
};

/// Keeps the configuration in the replicated folder equal to the registered one, on a thread of its
/// own: a write into a frozen folder waits, and must hold up nobody else. Not every change has an
/// event (`virsh setmem --config` has none), so the hypervisor's own file is watched as well, and
/// looked at now and then.
class Follower {
  public:
    explicit Follower(FollowerOptions options);
    /// Waits for a write that is under way.
    ~Follower();
    Follower(const Follower&) = delete;
    Follower& operator=(const Follower&) = delete;

    /// Look at once.
    void poke() const noexcept { wake_.raise(); }

    /// Nothing is written any more, except what is being written at this moment. Does not wait.
    void disown() noexcept;
    /// Ends following with a last look. Nothing is written afterwards.
    [[nodiscard]] base::Result<void> finish();

    /// Whether the destructor would not wait.
    [[nodiscard]] bool ended() const noexcept { return ended_.load(); }

  private:
    void run();
    base::Result<void> look();
    void join();

    const FollowerOptions options_;
    const Wake wake_;
    base::UniqueFd inotify_;
    std::atomic<bool> ours_{true};
    std::atomic<bool> ending_{false};
    std::atomic<bool> ended_{false};
    /// What lies in the folder; belongs to the thread until it is joined.
    std::string content_;
    std::thread thread_;
};

}  // namespace safepair::hyperv
