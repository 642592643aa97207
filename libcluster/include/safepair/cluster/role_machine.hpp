#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <safepair/base/time.hpp>
#include <safepair/cluster/action.hpp>
#include <safepair/cluster/event.hpp>
#include <safepair/cluster/status.hpp>

namespace safepair::cluster {

struct RoleOptions {
    NodeId node;
    NodeId peer;
    Incarnation incarnation;
    BootId boot;
    /// The heartbeat timeout of the module (design section 4).
    base::Duration timeout = std::chrono::seconds(3);
    base::Duration pulse = std::chrono::milliseconds(250);
    /// false: a SECOND never takes over by itself (behaviour S5).
    bool failover = true;
    std::uint64_t settings_hash = 0;
};

/// What the shell found when the agent started: the machine always begins in STOP. The shell has already turned off a
/// service that an earlier agent left running (R4; the door died with that agent, so there is nothing to adopt).
struct SavedRole {
    Lineage lineage;
    /// The lineage file was unreadable: treat as inconsistent (R13).
    bool lineage_damaged = false;
    /// The dirty map on disk is complete (clean stop).
    bool map_usable = false;
    /// The map holds something.
    bool changed_alone = false;
};

/// What status and console show.
struct RoleView {
    Role role = Role::stop;
    Readiness readiness = Readiness::not_ready;
    Lineage lineage;
    Reason reason = Reason::none;
    std::string text;
    base::Instant since{};
    bool uptodate = false;
    bool degraded = false;
    bool service_running = false;
    /// The record says that the peer is behind, and goes on saying so with every save asked for: nobody else can lead with
    /// right, so the guard may be patient (R21). When it turns false, the guard's deadline is shortened before the actions
    /// of that step are carried out.
    bool surely_alone = false;
    bool peer_heard = false;
    std::optional<PeerStatus> peer;
};

/// Who leads this module, as a pure value (behaviour b.2, b.3, b.6; protocol R1 to R25 where they concern roles).
/// step() runs to completion and never blocks; the same object runs in the agent and in the simulator.
class RoleMachine {
  public:
    /// `seed` draws new generations and sessions.
    RoleMachine(RoleOptions options, SavedRole saved, std::uint64_t seed);
    ~RoleMachine();
    RoleMachine(RoleMachine&&) noexcept;
    RoleMachine& operator=(RoleMachine&&) noexcept;

    /// One event at one time; what to do about it, in order.
    [[nodiscard]] std::vector<Action> step(base::Instant now, const Event& event);

    [[nodiscard]] const RoleView& view() const noexcept;
    /// What to put into heartbeats now.
    [[nodiscard]] PeerStatus status() const;

  private:
    struct State;
    std::unique_ptr<State> state_;
};

}  // namespace safepair::cluster
