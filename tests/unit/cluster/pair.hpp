#pragma once

#include "unit/cluster/pair_data.hpp"

#include <safepair/base/prng.hpp>
#include <safepair/cluster/failure_detector.hpp>
#include <safepair/cluster/role_machine.hpp>

#include <array>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <queue>
#include <stdexcept>
#include <string>
#include <tuple>
#include <vector>

/// Two real role machines in virtual time: networks that cut and delay, records that survive, a
/// replicated folder, a guest that writes. Single-threaded and repeatable: everything comes from
/// the seed. After every step the promises of behaviour b.7 are checked; a broken one throws Broken
/// with the last lines of the story.
namespace safepair::cluster::pairs {

using base::Duration;
using base::Instant;

/// A promise does not hold. what() ends with the story so far.
class Broken : public std::runtime_error {
  public:
    using std::runtime_error::runtime_error;
};

enum class Lane : std::uint8_t { lineage, session, storage, service, urgent };
inline constexpr std::size_t lane_count = 5;

enum class Effect : std::uint8_t { save, open, close, start, stop, kill, quiesce, finish, archive };
inline constexpr std::size_t effect_count = 9;

enum class Guest : std::uint8_t { off, starting, running, dying };

enum class Power : std::uint8_t { agent_only, whole_system };

struct PairOptions {
    std::uint64_t seed = 1;
    Duration timeout = std::chrono::seconds(3);
    Duration pulse = std::chrono::milliseconds(250);
    bool failover = true;
    /// The shell tells the machine about the dirty map.
    bool reports_map = true;
    /// Effects take random times; what is asleep wakes in any order.
    bool random_delays = false;
    /// One effect in so many fails; 0: only those asked for.
    unsigned failure_one_in = 0;
    Duration write_interval = std::chrono::milliseconds(100);
};

/// Where a job of a node comes from. Jobs of one source keep their order, also over a sleep of the
/// process.
enum class Source : std::uint8_t {
    lineage,
    session,
    storage,
    service,
    urgent,
    folder,
    operators,
    others
};

struct Waiting {
    Source source = Source::others;
    std::function<void()> job;
};

struct Node {
    NodeId name;
    Incarnation incarnation;
    BootId boot;
    std::uint64_t settings_hash = 7;
    bool up = false;
    bool powered = true;
    unsigned life = 0;
    Instant asleep_until{};
    std::unique_ptr<RoleMachine> machine;
    std::unique_ptr<FailureDetector> detector;
    std::deque<Waiting> inbox;

    // the disk
    Lineage record;
    bool record_damaged = false;
    std::deque<Lineage> writing;

    // effects
    std::array<Instant, lane_count> free_at{};
    std::array<unsigned, effect_count> fail_next{};
    std::array<Duration, effect_count> slow{};
    std::string open_failure = "storage-error";
    MapChanged map_told{true, false};

    // the service
    Guest guest = Guest::off;
    bool guest_paused = false;
    /// Since its last start.
    bool kill_asked = false;
    unsigned guest_life = 0;
    /// Killing it while it starts misses it.
    bool kill_misses_start = false;
    bool guard_armed = false;
    bool guard_fired = false;
    Instant guard_deadline{};

    // what the checks remember
    std::vector<Transition> log;
    Role shown_role = Role::stop;
    Readiness shown_readiness = Readiness::not_ready;
    bool eligible = false;
    std::uint64_t eligible_since_version = 0;
    bool took_over_fairly = false;
    /// It began to take over, and has not heard since that it is too late.
    bool may_try_again = false;
    /// The channel is gone and the machine has not been told yet.
    unsigned losses_untold = 0;
    /// The line this node leads with right, of both lines of a split brain.
    GenerationId fair_line;
    std::map<std::string, std::deque<Instant>> asked;
    std::map<std::string, Instant> failed_at;
    std::map<std::string, std::size_t> times;
    std::deque<Instant> published;
};

/// `order(Verb::stop)` and then the fields that matter.
[[nodiscard]] OperatorCommand order(Verb verb);

class Pair : private DataWorld {
  public:
    explicit Pair(PairOptions options = {});
    ~Pair() override;

    // Time.
    [[nodiscard]] Instant now() const override { return now_; }

    void run(Duration length);
    /// False when `limit` passed first.
    [[nodiscard]] bool run_until(const std::function<bool()>& reached, Duration limit);

    // The operator.
    std::uint64_t command(Side side, OperatorCommand order);
    std::uint64_t command(Side side, Verb verb);
    [[nodiscard]] const Reply* reply(std::uint64_t command) const;
    /// Gives the command and waits for its reply, at most a minute.
    Reply ask(Side side, OperatorCommand order);
    Reply ask(Side side, Verb verb);

    // Faults.
    void crash(Side side, Power power = Power::agent_only);
    /// The agent is started again; it does nothing but look until it is told to start.
    void boot(Side side);
    void sleep(Side side, Duration length);
    void cut_all();
    void cut_from(Side from);
    void cut_network(std::size_t network, bool cut = true);
    void heal();
    /// Nothing passes the data channel, everything else does.
    void block_data(bool blocked);
    void set_delay(Duration delay);
    void set_loss(unsigned percent);
    void fail_next(Side side, Effect effect, unsigned times = 1);
    void slow_down(Side side, Effect effect, Duration by);
    void guest_exits(Side side, const std::string& why);

    void stop_writing(bool stopped) { writing_stopped_ = stopped; }

    void damage_record(Side side);
    /// No more faults from here on.
    void calm();

    void set_failures(unsigned one_in) { options_.failure_one_in = one_in; }

    // What can be seen.
    [[nodiscard]] Node& node(Side side) { return nodes_[index(side)]; }

    [[nodiscard]] const Node& node(Side side) const { return nodes_[index(side)]; }

    [[nodiscard]] PairData& data() { return data_; }

    [[nodiscard]] const RoleView& view(Side side) const { return node(side).machine->view(); }

    [[nodiscard]] bool is(Side side, Role role, Readiness readiness) const;
    [[nodiscard]] bool comes_to(Side side,
                                Role role,
                                Readiness readiness,
                                Duration limit = std::chrono::seconds(30));
    [[nodiscard]] bool settles(Duration limit = std::chrono::seconds(30));

    [[nodiscard]] Reason reason(Side side) const { return view(side).reason; }

    [[nodiscard]] const Lineage& record(Side side) const { return node(side).record; }

    [[nodiscard]] Door door(Side side) const { return data_.copy(side).door; }

    /// "PRIM Ready", or "down".
    [[nodiscard]] std::string state(Side side) const;

    [[nodiscard]] bool serves(Side side) const {
        return node(side).guest == Guest::running && !node(side).guest_paused;
    }

    /// One PRIM Ready with a running service, one SECOND Ready.
    [[nodiscard]] bool settled() const;
    [[nodiscard]] std::optional<Side> leader() const;
    /// True when a transition with this reason into this role was logged.
    [[nodiscard]] bool went(Side side, Role to, Reason reason) const;
    /// How often `action` was asked for so far: "open as leader", "close", "start", "archive" ...
    [[nodiscard]] std::size_t times(Side side, const std::string& action) const;
    [[nodiscard]] std::string story(std::size_t lines = 80) const;

    void note(const std::string& line);

    // Short cuts of many stories.
    void boot_both();
    /// Both agents up, `primary` declared, both started, in sync.
    void settle(Side primary = Side::a);

  private:
    struct Job {
        Instant at;
        std::uint64_t number = 0;
        std::function<void()> run;

        friend bool operator<(const Job& one, const Job& two) {
            return std::tie(one.at, one.number) > std::tie(two.at, two.number);
        }
    };

    struct Path {
        bool cut = false;
    };

    // DataWorld
    void post(Side side, Event event) override;
    void schedule(Duration delay, std::function<void()> job) override;
    [[nodiscard]] bool data_flows(Side from) const override;
    [[nodiscard]] bool runs(Side side) const override;
    [[nodiscard]] bool record_says_alone(Side side) const override;
    [[nodiscard]] bool record_says_consistent(Side side) const override;
    [[nodiscard]] bool record_says_primary(Side side) const override;
    void broken(const std::string& promise) override;

    // pair.cpp
    bool step();
    void pulse(Side side, unsigned life);
    void background();
    void send_status(Side side);
    void arrive(Side side, std::size_t network, const PeerStatus& status);
    void note_verdict(Side side, const DetectorVerdict& verdict);
    /// Runs `job` on the node: now, or when it wakes; never in another life.
    void on_node(Side side,
                 unsigned life,
                 std::function<void()> job,
                 Source source = Source::others);
    void wake(Side side, unsigned life);
    void handle(Side side, const Event& event);
    void extend_guard(Side side);
    [[nodiscard]] bool whole_path(Side from) const;

    // pair_effects.cpp
    void perform(Side side, const SaveLineage& action);
    void perform(Side side, const PublishStatus& action);
    void perform(Side side, const OpenStorage& action);
    void perform(Side side, const CloseStorage& action);
    void perform(Side side, const AcceptSession& action);
    void perform(Side side, const ConnectSession& action);
    void perform(Side side, const DropSession& action);
    void perform(Side side, const ReleaseHeld& action);
    void perform(Side side, const FreezeStorage& action);
    void perform(Side side, const ThawStorage& action);
    void perform(Side side, const FailHeld& action);
    void perform(Side side, const Quiesce& action);
    void perform(Side side, const VerifyApplied& action);
    void perform(Side side, const FinishResync& action);
    void perform(Side side, const ArchiveLocal& action);
    void perform(Side side, const StartService& action);
    void perform(Side side, const StopService& action);
    void perform(Side side, const KillService& action);
    void perform(Side side, const PauseService& action);
    void perform(Side side, const ResumeService& action);
    void perform(Side side, const Reply& action);
    void perform(Side side, const Transition& action);
    /// `effect` done on `lane` after `length`; nullopt: an effect that never fails and is never
    /// slow.
    void on_lane(Side side,
                 Lane lane,
                 std::optional<Effect> effect,
                 Duration length,
                 std::function<void()> done,
                 std::function<void()> failed = {});
    [[nodiscard]] Duration length_of(Side side, std::optional<Effect> effect, Duration usual);
    [[nodiscard]] bool fails(Side side, Effect effect);
    void poll_quiesce(Side side, unsigned life, std::uint64_t id, unsigned tries);
    void tell_map(Side side, bool always);
    void stop_guest(Side side);
    void begin_kill(Side side);
    void guard_tick(Side side);

    // pair_checks.cpp
    void check(Side side);
    void check_services();
    void check_transition(Side side, const Transition& transition);
    void check_service_start(Side side);
    void record_saved(Side side);
    void heard_status(Side side, const PeerStatus& status);
    void asked_for(Side side, const std::string& what, bool backs_off);
    void failed_at(Side side, const std::string& what);

    PairOptions options_;
    base::Prng prng_;
    Instant now_{};
    std::priority_queue<Job> jobs_;
    std::uint64_t next_job_ = 1;
    std::array<Node, 2> nodes_;
    PairData data_;
    /// By network, then by sender.
    std::array<std::array<Path, 2>, 2> paths_{};
    bool data_blocked_ = false;
    bool writing_stopped_ = false;
    unsigned loss_percent_ = 0;
    Duration delay_ = std::chrono::milliseconds(2);
    std::uint64_t next_command_ = 1;
    std::map<std::uint64_t, Reply> replies_;
    std::deque<std::string> lines_;
    std::optional<Instant> both_serve_since_;
    Instant last_isolated_{};
    Instant forced_until_{};
};

}  // namespace safepair::cluster::pairs
