#include "module.hpp"

#include "workloads.hpp"

#include <safepair/base/system_time.hpp>

#include <asio/post.hpp>
#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <fstream>
#include <utility>

namespace safepair::agent {

namespace {

/// Nobody else can lead while this node is durably alone, so an agent that stalls gets this long
/// (R21).
constexpr base::Duration guard_alone = std::chrono::seconds(60);

/// How often what could not be prepared is tried again.
constexpr base::Duration prepare_pause = std::chrono::seconds(5);

std::uint64_t random_seed() {
    const auto bytes = base::random_bytes16();
    std::uint64_t seed = 0;
    for (std::size_t i = 0; i < sizeof(seed); ++i) {
        seed = (seed << 8U) | bytes[i];
    }
    return seed;
}

base::NodeId peer_of(const ModuleConfig& config, const base::NodeId& self) {
    return base::NodeId{config.nodes[0] == self.value ? config.nodes[1] : config.nodes[0]};
}

std::vector<std::string> heartbeat_networks(const ClusterConfig& cluster) {
    std::vector<std::string> names;
    for (const auto& network : cluster.networks) {
        if (network.heartbeat) {
            names.push_back(network.name);
        }
    }
    return names;
}

}  // namespace

Module::Module(ModuleConfig config, ModuleContext context)
    : config_(std::move(config)),
      context_(std::move(context)),
      peer_(peer_of(config_, context_.node)),
      directory_(context_.state_directory / "modules" / config_.name),
      timer_(context_.loop) {
    snapshot_.module = config_.name;
    snapshot_.kind = config_.vm ? "vm" : "service";
    snapshot_.folder = config_.folder;
    snapshot_.since = base::wall_clock_now();
}

Module::~Module() {
    end();
    if (context_.unlisten && prepared_.load()) {
        context_.unlisten(config_.name);
    }
    urgent_lane_.finish();
    service_lane_.finish();
    session_lane_.finish();
    storage_lane_.finish();
    lineage_lane_.finish();
}

void Module::prepare() {
    const auto prepared = try_prepare();
    if (prepared) {
        prepared_.store(true);
        return;
    }
    const auto text = prepared.error().message();
    bool news = false;
    {
        const std::lock_guard lock(mutex_);
        news = snapshot_.view.text != text;
        snapshot_.view.text = text;
    }
    if (news) {
        log("error", "the module cannot be used yet, this is tried again: " + text);
        if (context_.changed) {
            context_.changed();
        }
    }
}

base::Result<void> Module::try_prepare() {
    std::error_code failed;
    std::filesystem::create_directories(directory_, failed);
    if (failed) {
        return base::Error{failed, directory_.string()};
    }

    SAFEPAIR_TRY(auto workload, make_workload(config_, directory_, context_.machines));
    workload_ = std::move(workload);
    const auto running = workload_->running();
    if (!running || *running) {
        // The door died with the agent that served it, so there is nothing to adopt
        // (docs/adr/0007-guard.md).
        if (running) {
            log("warning",
                "a service left running by an earlier agent is turned off before anything else");
        }
        SAFEPAIR_CHECK(workload_->kill());
    }
    remove_addresses(config_.addresses);
    if (context_.guard != nullptr) {
        // What an earlier agent armed is proven off. Left armed it would abort a FUSE connection by
        // a number that the mount of this agent may have got.
        context_.guard->disarm(config_.name);
    }

    replica::FolderOptions options;
    options.folder = config_.folder;
    options.state_directory = directory_;
    options.module = config_.name;
    options.node = context_.node.value;
    options.durability = config_.durability;
    options.direct = config_.direct;
    options.faults = context_.faults;
    SAFEPAIR_TRY(folder_, replica::ReplicatedFolder::create(options, *this));
    SAFEPAIR_CHECK(folder_->recover());

    lineage_store_ = std::make_unique<cluster::LineageStore>(directory_ / "lineage");
    SAFEPAIR_CHECK(lineage_store_->create_if_missing());
    cluster::SavedRole saved;
    if (auto loaded = lineage_store_->load()) {
        saved.lineage = *loaded;
    } else {
        saved.lineage_damaged = true;
        log("error",
            "the lineage record is damaged, this copy counts as inconsistent: " +
                loaded.error().message());
    }
    const auto map = folder_->map_state();
    saved.map_usable = map.usable;
    saved.changed_alone = map.changed;

    cluster::RoleOptions role;
    role.node = context_.node;
    role.peer = peer_;
    role.incarnation = context_.incarnation;
    role.boot = context_.boot;
    role.timeout = config_.timeout;
    role.pulse = config_.pulse;
    role.failover = config_.failover;
    role.settings_hash = settings_hash(context_.cluster, config_);
    machine_ = std::make_unique<cluster::RoleMachine>(role, saved, random_seed());
    workload_->on_exit([this](const std::string& detail) { post(cluster::ServiceExited{detail}); });
    if (context_.listen) {
        context_.listen(config_.name, folder_->acceptor());
    }
    refresh();
    return {};
}

void Module::begin() {
    if (!prepared_.load()) {
        timer_.expires_after(prepare_pause);
        timer_.async_wait([this](const asio::error_code& error) {
            if (error || ended_) {
                return;
            }
            // On a lane: the hypervisor or the disk that is missing may keep us waiting.
            storage_lane_.post([this] {
                prepare();
                asio::post(context_.loop, [this] {
                    if (!ended_) {
                        begin();
                    }
                });
            });
        });
        return;
    }
    cluster::DetectorOptions options;
    options.timeout = config_.timeout;
    options.pulse = config_.pulse;
    options.oversleep = config_.timeout / 2;
    detector_ = std::make_unique<cluster::FailureDetector>(
        options, heartbeat_networks(context_.cluster), base::boot_time_now());
    if (config_.boot == Boot::on || (config_.boot == Boot::automatic && was_wanted())) {
        cluster::OperatorCommand start;
        start.verb = cluster::Verb::start;
        start.actor = "boot";
        command(start, [](cluster::Outcome, const std::string&) {});
    }
    on_pulse();
}

void Module::end() {
    ended_ = true;
    timer_.cancel();
}

void Module::schedule_pulse() {
    timer_.expires_after(config_.pulse);
    timer_.async_wait([this](const asio::error_code& error) {
        if (!error && !ended_) {
            on_pulse();
        }
    });
}

void Module::on_pulse() {
    const auto now = base::boot_time_now();
    if (guard_armed_.load() && context_.guard != nullptr && context_.guard->fired(config_.name)) {
        guard_armed_.store(false);
        log("error", "safe-guard stopped the service: this agent did not run for too long");
        handle(cluster::ServiceExited{"stopped by safe-guard"});
    }
    note_verdict(detector_->tick(now));
    handle(cluster::Tick{});
    // The deadline first, the heartbeat second: what the peer waits for is never later than what
    // the guard allows.
    extend_guard(now);
    context_.pulse(config_.name, status());
    schedule_pulse();
}

void Module::extend_guard(base::Instant now) {
    if (context_.guard == nullptr || !guard_armed_.load()) {
        return;
    }
    const bool alone = machine_->view().lineage.peer_outdated;
    // A refusal means that the deadline passed: the next pulse finds what the guard did.
    context_.guard->extend(config_.name,
                           now + (alone ? guard_alone : config_.timeout - guard_margin()));
}

void Module::note_verdict(const cluster::DetectorVerdict& verdict) {
    for (const auto& [name, state] : verdict.changed) {
        const bool up = state == cluster::LinkState::up;
        log(up ? "note" : "warning",
            fmt::format("heartbeat.{} {}: {} {}",
                        name,
                        up ? "up" : "down",
                        peer_.value,
                        up ? "is heard" : "is silent"));
        const std::lock_guard lock(mutex_);
        links_[name] = state;
    }
    if (verdict.overslept) {
        const auto milliseconds =
            std::chrono::duration_cast<std::chrono::milliseconds>(*verdict.overslept);
        log("warning", fmt::format("this agent was not scheduled for {} ms", milliseconds.count()));
        handle(cluster::Overslept{*verdict.overslept});
    }
    if (verdict.peer_lost) {
        handle(cluster::PeerLost{});
    }
}

void Module::heard(const std::string& channel) {
    asio::post(context_.loop, [this, channel] {
        if (!ended_ && detector_) {
            note_verdict(detector_->heard(base::boot_time_now(), channel));
        }
    });
}

void Module::peer_status(const cluster::PeerStatus& status) {
    post(cluster::PeerStatusReceived{status});
}

void Module::command(cluster::OperatorCommand command, ReplyHandler reply) {
    asio::post(context_.loop,
               [this, command = std::move(command), reply = std::move(reply)]() mutable {
                   if (!prepared_.load()) {
                       reply(cluster::Outcome::failed,
                             config_.name + " cannot be used yet: " + snapshot().view.text);
                       return;
                   }
                   command.id = next_command_++;
                   switch (command.verb) {
                       case cluster::Verb::start:
                       case cluster::Verb::as_primary:
                       case cluster::Verb::as_secondary:
                           remember_wanted(true);
                           break;
                       case cluster::Verb::stop:
                       case cluster::Verb::forcestop:
                           remember_wanted(false);
                           break;
                       case cluster::Verb::restart:
                       case cluster::Verb::swap:
                       case cluster::Verb::shutdown:
                           break;
                   }
                   replies_.emplace(command.id, std::move(reply));
                   handle(command);
               });
}

void Module::post(cluster::Event event) {
    asio::post(context_.loop, [this, event = std::move(event)] {
        if (prepared_.load() && !ended_) {
            handle(event);
        }
    });
}

void Module::handle(const cluster::Event& event) {
    const auto actions = machine_->step(base::boot_time_now(), event);
    refresh();
    for (const auto& action : actions) {
        std::visit([this](const auto& one) { perform(one); }, action);
    }
    if (!actions.empty() && context_.changed) {
        context_.changed();
    }
}

void Module::refresh() {
    const auto status = machine_->status();
    const auto& view = machine_->view();
    const auto now = base::wall_clock_now();
    const std::lock_guard lock(mutex_);
    if (view.role != snapshot_.view.role || view.readiness != snapshot_.view.readiness) {
        snapshot_.since = now;
    }
    const bool peer_changed =
        view.peer.has_value() != snapshot_.view.peer.has_value() ||
        (view.peer && (view.peer->role != snapshot_.view.peer->role ||
                       view.peer->readiness != snapshot_.view.peer->readiness));
    if (peer_changed) {
        snapshot_.peer_since = now;
    }
    snapshot_.view = view;
    status_ = status;
}

cluster::PeerStatus Module::status() const {
    const std::lock_guard lock(mutex_);
    return status_;
}

std::map<std::string, cluster::LinkState> Module::links() const {
    const std::lock_guard lock(mutex_);
    return links_;
}

ModuleSnapshot Module::snapshot() const {
    ModuleSnapshot copy;
    {
        const std::lock_guard lock(mutex_);
        copy = snapshot_;
    }
    if (prepared_.load()) {
        copy.stats = folder_->stats();
    }
    copy.service = copy.view.service_running ? "running" : "";
    return copy;
}

void Module::log(const std::string& kind, const std::string& text, const std::string& output) {
    EventEntry entry;
    entry.time = base::wall_clock_now();
    entry.module = config_.name;
    entry.node = context_.node.value;
    entry.kind = kind;
    entry.text = text;
    entry.output = output;
    context_.events.append(std::move(entry));
    if (kind == "error") {
        spdlog::error("{}: {}", config_.name, text);
    } else if (kind == "warning") {
        spdlog::warn("{}: {}", config_.name, text);
    } else {
        spdlog::info("{}: {}", config_.name, text);
    }
}

void Module::remember_wanted(bool wanted) {
    std::ofstream file(directory_ / "wanted", std::ios::trunc);
    file << (wanted ? "started\n" : "stopped\n");
}

bool Module::was_wanted() const {
    std::ifstream file(directory_ / "wanted");
    std::string word;
    file >> word;
    return word == "started";
}

void Module::session_opened(base::SessionId session) { post(cluster::SessionOpened{session}); }

void Module::session_lost(base::SessionId session, const std::string& why, bool apply_failed) {
    post(cluster::SessionLost{session, why, apply_failed});
}

void Module::resync_finished(base::SessionId session) { post(cluster::ResyncFinished{session}); }

void Module::local_store_failed(const std::string& why) { post(cluster::LocalStoreFailed{why}); }

void Module::note(const std::string& text) { log("note", text); }

void Module::peer_heard() {
    // The engine's threads go on when the decision loop hangs, so their frames prove too little
    // (R4); heartbeats and Exchange, which the loop itself sends, are what counts.
}

}  // namespace safepair::agent
