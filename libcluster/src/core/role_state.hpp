#pragma once

#include <safepair/base/assert.hpp>
#include <safepair/base/prng.hpp>
#include <safepair/cluster/limits.hpp>
#include <safepair/cluster/role_machine.hpp>

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

/// The inside of the role machine. One header, because its parts (commands, waiting, leading,
/// following, leaving, yielding) are one value; each part has its own source file.
namespace safepair::cluster {

/// What the machine is in the middle of. The visible Role says less: a node that opens its storage
/// in order to lead is already ALONE.
enum class Phase : std::uint8_t {
    stopped,
    waiting,       ///< decides at every event who leads
    opening,       ///< on the way to leading: record, storage, service
    leading,       ///< serves
    joining,       ///< on the way to following: archive, record, storage
    following,     ///< accepts, or has, a data channel
    verifying,     ///< follower: was asked to take over, looks whether it has everything
    handing_over,  ///< leader: leaving with a ready follower (R17)
    yielding,      ///< kills the service, closes the door, then waits (R14)
    stopping,      ///< on the way to STOP
    frozen,        ///< its record cannot be written: acknowledges nothing until an operator ends it
};

/// Whether the other node is there.
enum class Presence : std::uint8_t {
    listening,  ///< not yet known
    heard,
    absent,
};

/// How leadership begins.
struct LeadPlan {
    StartCause cause = StartCause::start;
    Reason reason = Reason::none;
    std::string text;
    /// The line of data changes although peer_outdated is already recorded.
    bool rotate = false;
    /// as-primary: this copy is declared good.
    bool declared = false;
    /// as-primary of a half-synchronised copy.
    bool declared_inconsistent = false;
    LastRole alone_from = LastRole::primary;
    /// Given by a hand-over; otherwise the next one is taken.
    std::optional<Term> term;
};

/// A follower's side of one resync or replication session.
struct Follow {
    SessionId session;
    SyncMode mode = SyncMode::checksum;
    Incarnation leader_incarnation;
    Term term;
    bool accepting = false;
    bool opened = false;
    /// R8 is durable on this side: this copy may take over.
    bool in_sync = false;
    bool finishing = false;
    bool ready = false;
    bool excluded = false;
    /// The leader's record says that it went on without this copy.
    bool left_behind = false;
    bool apply_failed = false;
    base::Instant next_session_at{};
    base::Duration pause = limits::retry_pause_min;
};

/// A leader's side of one session.
struct Link {
    SessionId session;
    Incarnation follower_incarnation;
    bool opened = false;
    /// peer_outdated=false is on its way or durable for this session.
    bool finished = false;
    bool finish_sent = false;
    /// The dirty map started afresh: the recorded base no longer belongs to it.
    bool map_cleared = false;
    bool ready = false;
};

/// A leader asleep for too long: held and paused until somebody confirms that it still leads (R18).
struct Suspension {
    /// The peer must have heard of this version of our status.
    std::uint64_t version = 0;
};

struct Leave {
    Verb verb = Verb::stop;
    /// Nobody asked: the service would not stay up.
    bool forced_by_failures = false;
    bool link_lost = false;
    Term former_term;
};

/// What as-secondary allows beyond an ordinary start.
struct FollowWish {
    bool full = false;
    bool discard_local = false;
};

struct RoleMachine::State {
    using Done = std::function<void()>;
    using Failed = std::function<void(const std::string& reason, const std::string& why)>;

    enum class Effect : std::uint8_t {
        save,
        open_leader,
        open_follower,
        close,
        start,
        stop,
        kill,
        quiesce,
        verify,
        finish_resync,
        archive,
    };

    struct Pending {
        Effect effect = Effect::save;
        std::uint64_t epoch = 0;
        Done done;
        Failed failed;
        Lineage lineage;
    };

    struct Timer {
        base::Instant at{};
        std::uint64_t epoch = 0;
        Done fire;
    };

    State(RoleOptions given, SavedRole saved, std::uint64_t seed);

    // role_machine.cpp: the loop.
    std::vector<Action> step(base::Instant time, const Event& event);
    void decide_until_quiet();
    void decide();
    void fire_timers();
    [[nodiscard]] PeerStatus status() const;
    void refresh_view();
    void publish_changes();

    // role_machine_effects.cpp: actions with results.
    template <typename A>
    void emit(A action) {
        actions.emplace_back(std::move(action));
    }

    std::uint64_t expect(Effect effect, Done done, Failed failed);
    void save(const std::function<void(Lineage&)>& change, Done done, Failed failed = {});
    void open_storage(StorageRole wanted, Done done, Failed failed);
    void close_storage(bool clean, Done done, Failed failed);
    void start_service(StartCause cause, Done done, Failed failed);
    void stop_service(Done done, Failed failed);
    /// Tries until the service is dead.
    void kill_service(Done done);
    /// The same when the role is over, whatever is held.
    void kill_for_good(Done done);
    void fail_held_later();
    void later(base::Duration pause, Done fire);
    void cancel_everything();
    void succeeded(std::uint64_t id);
    void failed(std::uint64_t id, const std::string& reason, const std::string& why);
    void note_result(std::uint64_t id, const Pending& result, bool success);
    void start_resolved(bool current, bool success);
    [[nodiscard]] Lineage newest_save_in_flight() const;
    [[nodiscard]] bool surely_alone() const;
    [[nodiscard]] bool in_flight(Effect effect) const;
    void settle_record();
    /// The record cannot be written: whoever leads freezes, everybody else waits.
    void lineage_broken(const std::string& why);

    // Overloads for every event, role_machine.cpp.
    void on(const Tick& event);
    void on(const OperatorCommand& event);
    void on(const PeerStatusReceived& event);
    [[nodiscard]] bool lives(const PeerStatus& news);
    void on(const PeerLost& event);
    void on(const Overslept& event);
    void on(const LineageSaved& event);
    void on(const LineageSaveFailed& event);
    void on(const StorageOpened& event);
    void on(const StorageClosed& event);
    void on(const StorageFailed& event);
    void on(const ServiceStarted& event);
    void on(const ServiceStopped& event);
    void on(const ServiceFailed& event);
    void on(const ServiceExited& event);
    void on(const SessionOpened& event);
    void on(const SessionLost& event);
    void on(const ResyncFinished& event);
    void on(const MapCleared& event);
    void on(const Quiesced& event);
    void on(const QuiesceFailed& event);
    void on(const AppliedVerified& event);
    void on(const ArchiveFinished& event);
    void on(const ArchiveFailed& event);
    void on(const LocalStoreFailed& event);
    void on(const MapChanged& event);

    // Facts.
    [[nodiscard]] Presence presence() const;
    [[nodiscard]] bool peer_leads() const;
    [[nodiscard]] Standing mine() const;
    [[nodiscard]] Standing theirs() const;
    [[nodiscard]] bool echoed(std::uint64_t wanted) const;
    [[nodiscard]] Term next_term() const;

    [[nodiscard]] std::string peer_name() const { return options.peer.value; }

    [[nodiscard]] std::string node_name() const { return options.node.value; }

    template <typename Id>
    Id draw();

    void become(Role to, Readiness to_readiness, Reason why, std::string words);
    void finish_command(Outcome outcome, std::string message);
    void reply(const OperatorCommand& to, Outcome outcome, std::string message);

    // role_machine_commands.cpp
    void command_start(const OperatorCommand& order);
    void command_stop(const OperatorCommand& order);
    void command_restart(const OperatorCommand& order);
    void command_swap(const OperatorCommand& order);
    void command_as_primary(const OperatorCommand& order);
    void command_as_secondary(const OperatorCommand& order);
    void command_forcestop(const OperatorCommand& order);
    [[nodiscard]] bool busy_with_command(const OperatorCommand& order);
    void accept_command(const OperatorCommand& order);
    void look_at_deferred();
    void stop_waiting();
    void stop_following();
    void stop_leading_alone();
    void hurry_stop();
    void close_and_stop(bool clean, Reason why, std::string words);
    void stopped(bool clean, Reason why, std::string words);
    void force_stop();

    // role_machine_waiting.cpp
    void decide_waiting();
    void decide_with_peer();
    void decide_with_leading_peer(const Comparison& verdict);
    [[nodiscard]] bool parted_from_peer(const Comparison& verdict) const;
    void decide_with_idle_peer(const Comparison& verdict);
    void decide_absent();
    void claim(Reason why, std::string words);
    void wait(Readiness how, Reason why, std::string words);
    void wait_for_operator(Reason why, std::string words);
    void block(Reason why, std::string words);
    void enter_waiting(Reason why, std::string words, bool sticky);
    [[nodiscard]] std::string not_up_to_date_text() const;
    void lead(LeadPlan plan);
    void lead_open(LeadPlan plan);
    void lead_save(LeadPlan plan);
    void lead_start(const LeadPlan& plan);
    void lead_failed(const LeadPlan& plan, const std::string& reason, const std::string& why);
    void service_did_not_start(const std::string& why);

    // role_machine_leading.cpp
    void watch_follower();
    [[nodiscard]] bool rival();
    [[nodiscard]] bool overtaken();
    void watch_link();
    void maybe_connect();
    void lose_link(Reason why, std::string words);
    void go_alone_when_proven();
    [[nodiscard]] bool peer_cannot_lead() const;
    void released();
    void resync_finished();
    void look_at_resync_finish();
    void map_is_cleared(SessionId session);
    void drop_link();
    void refresh_leading(Reason why, std::string words);
    void suspend(base::Duration length);
    void look_at_suspension();
    void resume();
    void service_exited(const std::string& why);
    void restart_in_place(const std::string& why);
    void start_in_place();
    [[nodiscard]] bool follower_is_eligible() const;
    void local_store_failed(const std::string& why);

    // role_machine_following.cpp
    void join(const Comparison& verdict);
    void join_save(SyncMode mode);
    void accept_session();
    void watch_leader();
    void watch_leader_in_place();
    void watch_resync();
    void leader_gone();
    /// The leader is heard and leads no more, or lives again.
    void leader_left();
    [[nodiscard]] bool nobody_serves_there() const;
    void finish_sync();
    void exclude_myself();
    void promise_when_asked();
    void decline_handover();
    void resync_again();
    void session_lost_while_following(const SessionLost& event);
    void fall_back(Reason why, std::string words, bool sticky);
    [[nodiscard]] bool may_take_over() const;
    void take_over(Reason why, std::string words);

    // role_machine_handover.cpp
    void begin_leave(Leave plan);
    void leave_quiesce();
    void lose_link_while_leaving(const std::string& why);
    void leave_ask();
    void watch_taker();
    void taken();
    void not_taken(bool go_on_stopping, const std::string& why);
    void leave_without_taker(const std::string& why);
    void resume_after_leave(Outcome outcome, const std::string& message);
    void consider_handover();
    void refuse_handover();
    void accept_handover();
    void watch_while_verifying();

    // role_machine_yielding.cpp
    void yield(Reason why, std::string words);
    void begin_yielding(Reason why, std::string words);
    void yield_close();
    void yielded();

    RoleOptions options;
    base::Prng prng;
    base::Instant now{};
    std::vector<Action> actions;

    /// What is on the disk, and what will be once everything asked for is.
    Lineage durable;
    Lineage queued;
    /// Id of the save that made `durable` so.
    std::uint64_t durable_save = 0;
    /// The last save failed: this may be on the disk instead.
    std::optional<Lineage> doubtful;
    base::Instant doubt_until{};
    base::Duration doubt_pause = limits::retry_pause_min;
    bool whole = false;
    bool map_usable = false;
    bool changed_alone = false;
    bool map_reported = false;
    bool map_survives_close = false;

    Role role = Role::stop;
    Readiness readiness = Readiness::not_ready;
    Reason reason = Reason::none;
    std::string text;
    base::Instant since{};
    Phase phase = Phase::stopped;
    RoleView view;

    std::uint64_t next_id = 1;
    /// Continuations of an earlier epoch are dropped; what they say about the world is still noted.
    std::uint64_t epoch = 1;
    std::map<std::uint64_t, Pending> pending;
    std::vector<Timer> timers;
    std::uint64_t quiesced_sequence = 0;
    bool applied_complete = false;

    /// What the last effects made of the world.
    std::optional<StorageRole> storage;
    bool storage_touched = false;
    bool service_up = false;
    bool start_in_flight = false;
    unsigned starts_succeeded = 0;
    Done after_start;

    // The other node.
    std::optional<PeerStatus> peer;
    bool heard = false;
    bool lost = false;
    bool listening_started = false;
    base::Instant listening_since{};
    std::vector<Incarnation> replaced;
    base::Instant peer_heard_at{};
    /// Another life of the peer, not yet known to be the present one.
    Incarnation candidate;
    std::uint64_t candidate_version = 0;

    std::optional<OperatorCommand> command;
    std::optional<OperatorCommand> deferred;
    FollowWish wish;
    bool leaving = false;
    bool hurried = false;

    // waiting
    bool claims = false;
    std::uint64_t claim_version = 0;
    base::Instant claim_since{};
    Reason sticky_reason = Reason::none;
    std::string sticky_text;
    Reason blocked_reason = Reason::none;
    std::string blocked_text;
    base::Instant blocked_until{};
    base::Duration blocked_pause = limits::retry_pause_min;
    bool storage_broken = false;
    /// A take-over that an effect prevented; tried again as long as nothing was heard of the peer
    /// since.
    std::optional<LeadPlan> takeover;

    // leading
    std::optional<Link> link;
    SessionId synced_session;
    SessionId lost_session;
    /// A session that the follower may still believe it finished (R7).
    SessionId proof_session;
    bool holding = false;
    bool alone_saving = false;
    bool base_superseded = false;
    Reason holding_reason = Reason::none;
    std::string holding_text;
    bool service_ready = false;
    std::optional<Suspension> suspension;
    base::Instant next_connect_at{};
    base::Duration connect_pause = limits::retry_pause_min;
    unsigned service_failures = 0;
    base::Instant service_since{};
    /// It ended before its start was reported.
    std::optional<std::string> exited_early;

    // following
    std::optional<Follow> follow;

    // leaving with a follower
    std::optional<Leave> leave;
    std::optional<Handover> handover;
    std::optional<HandoverAnswer> handover_answer;
    /// Follower: id of the hand-over that is being taken.
    std::optional<std::uint64_t> taking;

    // yielding
    bool stop_after_yield = false;
    bool yield_marks_outdated = false;
    bool yield_sticky = false;
    /// What follows is the wait that block() began.
    bool yield_blocked = false;
    Reason yield_reason = Reason::none;
    std::string yield_text;

    std::uint64_t version = 1;
    PeerStatus published;
};

template <typename Id>
Id RoleMachine::State::draw() {
    Id id;
    for (std::size_t half = 0; half < 2; ++half) {
        auto bits = prng.next();
        for (std::size_t i = 0; i < 8; ++i, bits >>= 8U) {
            id.bytes[half * 8 + i] = static_cast<std::uint8_t>(bits & 0xFFU);
        }
    }
    return id;
}

}  // namespace safepair::cluster
