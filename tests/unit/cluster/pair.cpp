#include "unit/cluster/pair.hpp"

#include <algorithm>
#include <cstdio>
#include <utility>

namespace safepair::cluster::pairs {

namespace {

constexpr Duration background_interval = std::chrono::milliseconds(100);
// As in the agent.
constexpr Duration guard_margin = std::chrono::milliseconds(500);
constexpr Duration guard_alone = std::chrono::seconds(60);
constexpr std::size_t lines_kept = 4000;
constexpr std::array network_names{"production", "replication"};

template <typename Id>
Id make_id(base::Prng& prng) {
    Id id;
    for (auto& byte : id.bytes) {
        byte = static_cast<std::uint8_t>(prng.below(256));
    }
    return id;
}

}  // namespace

OperatorCommand order(Verb verb) {
    OperatorCommand made;
    made.verb = verb;
    return made;
}

Pair::Pair(PairOptions options)
    : options_(options),
      prng_(options.seed),
      now_(std::chrono::seconds(1000)),
      data_(*this, options.seed + 1) {
    for (const auto side : both_sides) {
        auto& mine = node(side);
        mine.name = NodeId{side == Side::a ? "node1" : "node2"};
        mine.boot = make_id<BootId>(prng_);
    }
    schedule(background_interval, [this] { background(); });
}

Pair::~Pair() = default;

void Pair::note(const std::string& line) {
    char stamp[32];
    const auto milliseconds =
        std::chrono::duration_cast<std::chrono::milliseconds>(now_.time_since_epoch()).count();
    static_cast<void>(std::snprintf(
        stamp, sizeof(stamp), "%9.3f ", static_cast<double>(milliseconds) / 1000.0 - 1000.0));
    lines_.push_back(stamp + line);
    if (lines_.size() > lines_kept) {
        lines_.pop_front();
    }
}

std::string Pair::story(std::size_t lines) const {
    std::string text;
    for (std::size_t i = lines_.size() - std::min(lines, lines_.size()); i < lines_.size(); ++i) {
        text += lines_[i] + "\n";
    }
    for (const auto side : both_sides) {
        text += node(side).name.value + ": " + state(side);
        if (node(side).machine) {
            text += " (" + std::string(to_string(view(side).reason)) + ": " + view(side).text + ")";
        }
        text += "\n";
    }
    return text;
}

void Pair::broken(const std::string& promise) { throw Broken(story() + promise); }

// Time

void Pair::schedule(Duration delay, std::function<void()> job) {
    jobs_.push(Job{now_ + delay, next_job_++, std::move(job)});
}

bool Pair::step() {
    // The top of a priority_queue is constant, but the job is ours to take: it is popped at once.
    auto job = std::move(const_cast<Job&>(jobs_.top()));
    jobs_.pop();
    now_ = std::max(now_, job.at);
    job.run();
    return !jobs_.empty();
}

void Pair::run(Duration length) {
    const auto end = now_ + length;
    while (!jobs_.empty() && jobs_.top().at <= end) {
        step();
    }
    now_ = end;
}

bool Pair::run_until(const std::function<bool()>& reached, Duration limit) {
    const auto end = now_ + limit;
    while (!reached()) {
        if (jobs_.empty() || jobs_.top().at > end) {
            now_ = end;
            return false;
        }
        step();
    }
    return true;
}

void Pair::on_node(Side side, unsigned life, std::function<void()> job, Source source) {
    auto& mine = node(side);
    if (!mine.up || mine.life != life) {
        return;
    }
    if (now_ < mine.asleep_until) {
        mine.inbox.push_back(Waiting{source, std::move(job)});
        return;
    }
    job();
}

void Pair::post(Side side, Event event) {
    node(side).losses_untold += std::holds_alternative<SessionLost>(event) ? 1 : 0;
    schedule({}, [this, side, life = node(side).life, event = std::move(event)] {
        on_node(
            side, life, [this, side, event] { handle(side, event); }, Source::folder);
    });
}

void Pair::background() {
    for (const auto side : both_sides) {
        guard_tick(side);
        const bool may_write = serves(side) && runs(side) &&
                               data_.copy(side).door == Door::leader && !writing_stopped_;
        if (may_write && data_.unanswered(side) < 8 && prng_.chance(2, 3)) {
            data_.write(side, prng_.below(block_count));
        }
    }
    data_.tick();
    check_services();
    schedule(options_.random_delays ? background_interval : options_.write_interval,
             [this] { background(); });
}

// Networks

bool Pair::runs(Side side) const { return node(side).up && now_ >= node(side).asleep_until; }

bool Pair::data_flows(Side from) const {
    return node(from).powered && node(other(from)).powered && !data_blocked_ &&
           !paths_[1][index(from)].cut;
}

bool Pair::record_says_alone(Side side) const { return may_lead_alone(node(side).record); }

bool Pair::record_says_consistent(Side side) const { return node(side).record.consistent; }

bool Pair::record_says_primary(Side side) const {
    return node(side).record.last_role == LastRole::primary;
}

bool Pair::whole_path(Side from) const {
    return loss_percent_ < 50 && (!paths_[0][index(from)].cut || !paths_[1][index(from)].cut);
}

void Pair::cut_all() {
    note("-- networks cut");
    for (auto& network : paths_) {
        network = {Path{true}, Path{true}};
    }
}

void Pair::cut_from(Side from) {
    note("-- nothing sent by " + node(from).name.value + " arrives");
    for (auto& network : paths_) {
        network[index(from)].cut = true;
    }
}

void Pair::cut_network(std::size_t network, bool cut) {
    note(std::string("-- network ") + network_names[network] + (cut ? " cut" : " back"));
    paths_[network] = {Path{cut}, Path{cut}};
}

void Pair::heal() {
    note("-- networks healed");
    paths_ = {};
    data_blocked_ = false;
    loss_percent_ = 0;
}

void Pair::block_data(bool blocked) {
    note(blocked ? "-- data channel blocked" : "-- data channel free");
    data_blocked_ = blocked;
}

void Pair::set_delay(Duration delay) {
    delay_ = delay;
    data_.delay = delay;
}

void Pair::set_loss(unsigned percent) { loss_percent_ = percent; }

void Pair::send_status(Side side) {
    const auto& mine = node(side);
    const auto status = mine.machine->status();
    for (std::size_t network = 0; network < paths_.size(); ++network) {
        if (paths_[network][index(side)].cut || prng_.below(100) < loss_percent_) {
            continue;
        }
        auto delay = delay_;
        if (options_.random_delays) {
            delay += std::chrono::microseconds(prng_.below(prng_.chance(1, 50) ? 900'000 : 15'000));
        }
        const auto to = other(side);
        schedule(delay, [this, side, to, network, status, life = node(to).life] {
            if (!paths_[network][index(side)].cut) {
                on_node(to, life, [this, to, network, status] { arrive(to, network, status); });
            }
        });
    }
}

void Pair::arrive(Side side, std::size_t network, const PeerStatus& status) {
    note_verdict(side, node(side).detector->heard(now_, network_names[network]));
    heard_status(side, status);
    handle(side, PeerStatusReceived{status});
}

void Pair::note_verdict(Side side, const DetectorVerdict& verdict) {
    if (verdict.overslept) {
        handle(side, Overslept{*verdict.overslept});
    }
    if (verdict.peer_lost) {
        handle(side, PeerLost{});
    }
}

// The agent

void Pair::pulse(Side side, unsigned life) {
    on_node(side, life, [this, side, life] {
        auto& mine = node(side);
        if (std::exchange(mine.guard_fired, false)) {
            handle(side, ServiceExited{"stopped by safe-guard"});
        }
        note_verdict(side, mine.detector->tick(now_));
        if (options_.reports_map) {
            tell_map(side, false);
        }
        handle(side, Tick{});
        extend_guard(side);
        send_status(side);
        schedule(options_.pulse, [this, side, life] { pulse(side, life); });
    });
}

void Pair::extend_guard(Side side) {
    const auto patience = view(side).surely_alone ? guard_alone : options_.timeout - guard_margin;
    node(side).guard_deadline = now_ + patience;
}

void Pair::handle(Side side, const Event& event) {
    auto& mine = node(side);
    const auto life = mine.life;
    if (std::holds_alternative<SessionLost>(event) && mine.losses_untold > 0) {
        --mine.losses_untold;
    }
    const auto actions = mine.machine->step(now_, event);
    if (!view(side).surely_alone) {
        mine.guard_deadline = std::min(mine.guard_deadline, now_ + options_.timeout - guard_margin);
    }
    for (const auto& action : actions) {
        if (mine.life == life) {
            std::visit([this, side](const auto& one) { perform(side, one); }, action);
        }
    }
    check(side);
}

void Pair::boot(Side side) {
    auto& mine = node(side);
    note("-- " + mine.name.value + ": agent starts");
    mine.powered = true;
    mine.up = true;
    mine.asleep_until = {};
    mine.incarnation = make_id<Incarnation>(prng_);
    // R4: what an earlier agent left running is turned off before anything else.
    stop_guest(side);
    mine.guard_armed = false;
    mine.guard_fired = false;
    SavedRole saved;
    saved.lineage = mine.record;
    saved.lineage_damaged = mine.record_damaged;
    mine.map_told = data_.copy(side).map_state();
    saved.map_usable = mine.map_told.usable;
    saved.changed_alone = mine.map_told.changed;
    RoleOptions role;
    role.node = mine.name;
    role.peer = node(other(side)).name;
    role.incarnation = mine.incarnation;
    role.boot = mine.boot;
    role.timeout = options_.timeout;
    role.pulse = options_.pulse;
    role.failover = options_.failover;
    role.settings_hash = mine.settings_hash;
    mine.machine = std::make_unique<RoleMachine>(role, saved, prng_.next());
    mine.losses_untold = 0;
    mine.free_at = {};
    mine.shown_role = Role::stop;
    mine.shown_readiness = Readiness::not_ready;
    DetectorOptions detector;
    detector.timeout = options_.timeout;
    detector.pulse = options_.pulse;
    detector.oversleep = options_.timeout / 2;
    mine.detector = std::make_unique<FailureDetector>(
        detector, std::vector<std::string>{network_names[0], network_names[1]}, now_);
    schedule(std::chrono::milliseconds(prng_.below(250)),
             [this, side, life = mine.life] { pulse(side, life); });
}

void Pair::crash(Side side, Power power) {
    auto& mine = node(side);
    if (!mine.up) {
        return;
    }
    note("-- " + mine.name.value +
         (power == Power::whole_system ? ": power lost" : ": agent killed"));
    // What was being written may be there or not.
    const auto written = prng_.below(mine.writing.size() + 1);
    if (written > 0) {
        mine.record = mine.writing[written - 1];
        mine.record_damaged = false;
        record_saved(side);
    }
    ++mine.life;
    mine.up = false;
    mine.machine.reset();
    mine.inbox.clear();
    mine.writing.clear();
    data_.crash(side, power == Power::whole_system);
    mine.eligible = false;
    mine.took_over_fairly = false;
    mine.may_try_again = false;
    if (power == Power::whole_system) {
        mine.powered = false;
        mine.boot = make_id<BootId>(prng_);
        stop_guest(side);
        mine.guard_armed = false;
    }
}

void Pair::sleep(Side side, Duration length) {
    auto& mine = node(side);
    if (!runs(side)) {
        return;
    }
    note("-- " + mine.name.value + ": agent sleeps");
    mine.asleep_until = now_ + length;
    schedule(length, [this, side, life = mine.life] { wake(side, life); });
}

void Pair::wake(Side side, unsigned life) {
    auto& woken = node(side);
    if (woken.life != life) {
        return;
    }
    note("-- " + woken.name.value + ": agent wakes");
    auto waiting = std::exchange(woken.inbox, {});
    if (options_.random_delays) {
        std::map<Source, std::deque<std::function<void()>>> in_order;
        for (auto& one : waiting) {
            in_order[one.source].push_back(std::move(one.job));
        }
        for (std::size_t i = waiting.size(); i > 1; --i) {
            std::swap(waiting[i - 1].source, waiting[prng_.below(i)].source);
        }
        for (auto& one : waiting) {
            one.job = std::move(in_order[one.source].front());
            in_order[one.source].pop_front();
        }
    }
    for (auto& one : waiting) {
        on_node(side, life, std::move(one.job), one.source);
    }
}

// The operator

std::uint64_t Pair::command(Side side, OperatorCommand order) {
    order.id = next_command_++;
    if (order.actor.empty()) {
        order.actor = "root@" + node(side).name.value;
    }
    static constexpr std::array names{
        "start", "stop", "restart", "swap", "as-primary", "as-secondary", "forcestop", "shutdown"};
    note("-- " + node(side).name.value + ": safectl " +
         names[static_cast<std::size_t>(order.verb)]);
    node(side).failed_at.clear();
    on_node(
        side, node(side).life, [this, side, order] { handle(side, order); }, Source::operators);
    return order.id;
}

std::uint64_t Pair::command(Side side, Verb verb) { return command(side, order(verb)); }

const Reply* Pair::reply(std::uint64_t command) const {
    const auto found = replies_.find(command);
    return found == replies_.end() ? nullptr : &found->second;
}

Reply Pair::ask(Side side, OperatorCommand order) {
    const auto id = command(side, std::move(order));
    if (!run_until([this, id] { return reply(id) != nullptr; }, std::chrono::minutes(1))) {
        broken("a command was never answered");
    }
    return *reply(id);
}

Reply Pair::ask(Side side, Verb verb) { return ask(side, order(verb)); }

void Pair::fail_next(Side side, Effect effect, unsigned times) {
    node(side).fail_next[static_cast<std::size_t>(effect)] = times;
}

void Pair::slow_down(Side side, Effect effect, Duration by) {
    node(side).slow[static_cast<std::size_t>(effect)] = by;
}

void Pair::damage_record(Side side) { node(side).record_damaged = true; }

void Pair::calm() {
    heal();
    set_failures(0);
    set_delay(std::chrono::milliseconds(2));
    for (auto& mine : nodes_) {
        mine.fail_next = {};
        mine.slow = {};
        mine.kill_misses_start = false;
    }
}

// What can be seen

bool Pair::is(Side side, Role role, Readiness readiness) const {
    return node(side).up && view(side).role == role && view(side).readiness == readiness;
}

std::string Pair::state(Side side) const {
    if (!node(side).up) {
        return "down";
    }
    return std::string(to_string(view(side).role)) + " " + to_string(view(side).readiness);
}

std::optional<Side> Pair::leader() const {
    for (const auto side : both_sides) {
        if (node(side).up && (view(side).role == Role::prim || view(side).role == Role::alone)) {
            return side;
        }
    }
    return std::nullopt;
}

bool Pair::comes_to(Side side, Role role, Readiness readiness, Duration limit) {
    return run_until([this, side, role, readiness] { return is(side, role, readiness); }, limit);
}

bool Pair::settles(Duration limit) {
    return run_until([this] { return settled(); }, limit);
}

std::size_t Pair::times(Side side, const std::string& action) const {
    const auto found = node(side).times.find(action);
    return found == node(side).times.end() ? 0 : found->second;
}

bool Pair::settled() const {
    return std::ranges::any_of(both_sides, [this](Side side) {
        return is(side, Role::prim, Readiness::ready) &&
               is(other(side), Role::second, Readiness::ready) && serves(side) &&
               node(other(side)).guest == Guest::off;
    });
}

bool Pair::went(Side side, Role to, Reason reason) const {
    return std::ranges::any_of(node(side).log, [to, reason](const Transition& transition) {
        return transition.to == to && transition.reason == reason;
    });
}

void Pair::boot_both() {
    boot(Side::a);
    boot(Side::b);
    run(std::chrono::seconds(1));
}

void Pair::settle(Side primary) {
    boot_both();
    if (ask(primary, Verb::as_primary).outcome != Outcome::done ||
        ask(other(primary), Verb::start).outcome != Outcome::done ||
        !run_until([this] { return settled(); }, std::chrono::seconds(30))) {
        broken("the pair did not come up");
    }
    run(std::chrono::seconds(1));
}

}  // namespace safepair::cluster::pairs
