#include "agent.hpp"

#include "services.hpp"
#include "wire/wire.hpp"

#include <safepair/base/system_time.hpp>
#include <safepair/hyperv/libvirt.hpp>

#include <asio/post.hpp>
#include <fmt/format.h>
#include <grpcpp/server.h>
#include <spdlog/spdlog.h>
#include <systemd/sd-daemon.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <fstream>
#include <optional>
#include <thread>
#include <utility>

#include <fcntl.h>
#include <sys/file.h>

namespace safepair::agent {

namespace {

/// How often the statuses are exchanged over gRPC when nothing changes.
constexpr base::Duration exchange_period = std::chrono::seconds(1);
/// A stop of all modules at shutdown may take as long as their own deadlines; systemd is asked for
/// more time in steps.
constexpr auto extend_step = std::chrono::seconds(20);
/// From here on a certificate's end is worth a warning.
constexpr base::WallNanoseconds expiry_warning_days = 30;
constexpr std::size_t status_line_bytes_max = 900;
constexpr base::Duration lock_patience = std::chrono::seconds(5);

base::BootId read_boot_id() {
    std::ifstream file("/proc/sys/kernel/random/boot_id");
    std::string text;
    file >> text;
    const auto bytes = base::from_hex(text);
    // Without a boot id every start counts as a new boot, which is the safe reading of R1.
    return bytes ? base::BootId{*bytes} : base::random_id<base::BootId>();
}

std::filesystem::path beside_this_executable(const char* name) {
    std::error_code ignored;
    return std::filesystem::read_symlink("/proc/self/exe", ignored).parent_path() / name;
}

}  // namespace

/// A gRPC thread waits here for the answer of a role machine. Shared with the handler, because the
/// answer may come after the deadline.
struct CommandWaiter {
    std::mutex mutex;
    std::condition_variable done;
    std::optional<v1::CommandReply> reply;  // guarded by mutex
    bool given_up = false;                  // guarded by mutex
};

Agent::Agent(AgentOptions options)
    : options_(std::move(options)),
      incarnation_(base::random_id<base::Incarnation>()),
      signals_(loop_, SIGTERM, SIGINT),
      watchdog_(loop_) {
    // Whoever is told a path may work from another directory, and the folder's mark must not change
    // with ours.
    for (auto* path : {&options_.config, &options_.identity, &options_.state, &options_.runtime}) {
        std::error_code ignored;
        const auto absolute = std::filesystem::absolute(*path, ignored);
        *path = absolute.empty() ? *path : absolute;
    }
    if (options_.guard.empty()) {
        options_.guard = beside_this_executable("safe-guard");
    }
}

Agent::~Agent() {
    // A start of the guard that runs now would be undone behind its back.
    chores_.finish();
    give_up_commands();
    for (auto& server : servers_) {
        server->Shutdown(std::chrono::system_clock::now() + std::chrono::milliseconds(200));
    }
    clients_.clear();
    transports_.clear();
    listeners_.clear();
    modules_.clear();
}

base::Result<void> Agent::load() {
    SAFEPAIR_TRY(cluster_, load_cluster(options_.config / "cluster.yaml"));
    if (!is_node(options_.node)) {
        return base::error(
            base::Errc::bad_input,
            fmt::format(
                "{}: this node is called {}, which is not among its nodes; name it with --node",
                (options_.config / "cluster.yaml").string(),
                options_.node));
    }
    SAFEPAIR_TRY(module_configs_, load_modules(options_.config / "modules", cluster_));
    SAFEPAIR_TRY(identity_, load_identity_files(options_.identity, options_.node));
    std::error_code failed;
    for (const auto& directory : {options_.state, options_.state / "modules", options_.runtime}) {
        std::filesystem::create_directories(directory, failed);
        if (failed) {
            return base::Error{failed, directory.string()};
        }
    }
    SAFEPAIR_CHECK(take_lock());
    SAFEPAIR_TRY(events_, EventLog::open(options_.state / "events.db"));
    warn_of_expiry();
    return {};
}

base::Result<void> Agent::take_lock() {
    // Before anything else is touched: an agent begins by turning off what another one left, and
    // that one may live.
    const auto file = options_.state / "agent.lock";
    lock_ = base::UniqueFd(::open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
    if (!lock_) {
        return base::error_from_errno(errno, file.string());
    }
    // One that was killed a moment ago may still be on its way out.
    const auto patience = base::boot_time_now() + lock_patience;
    while (::flock(lock_.get(), LOCK_EX | LOCK_NB) != 0) {
        if (errno != EWOULDBLOCK && errno != EINTR) {
            return base::error_from_errno(errno, "lock " + file.string());
        }
        if (base::boot_time_now() >= patience) {
            return base::error(base::Errc::busy,
                               fmt::format("{} is locked: another safe-agent runs with this state "
                                           "directory; stop it first",
                                           file.string()));
        }
        std::this_thread::sleep_for(std::chrono::milliseconds(50));
    }
    return {};
}

void Agent::warn_of_expiry() {
    const auto days = (identity_->not_after() - base::wall_clock_now()) / 1'000'000'000 / 86'400;
    if (days >= expiry_warning_days) {
        return;
    }
    EventEntry entry;
    entry.time = base::wall_clock_now();
    entry.node = options_.node;
    entry.kind = "warning";
    entry.text = fmt::format(
        "{}: ends in {} days; make new certificates for all nodes, or the nodes stop talking to "
        "each other",
        (options_.identity / "node.crt").string(),
        days);
    spdlog::warn("{}", entry.text);
    events_->append(std::move(entry));
}

base::Result<void> Agent::start_guard() {
    const auto page = options_.runtime / "guard.page";
    SAFEPAIR_TRY(guard_page_, guard::GuardPage::create(page));
    SAFEPAIR_TRY(guard_process_, guard::GuardProcess::spawn(options_.guard, page));
    return {};
}

base::Result<hyperv::VirtualMachines*> Agent::machines(const std::string& uri) {
    const std::lock_guard lock(machines_mutex_);
    auto found = machines_.find(uri);
    if (found == machines_.end()) {
        hyperv::LibvirtOptions libvirt;
        libvirt.uri = uri;
        SAFEPAIR_TRY(auto opened, hyperv::open_libvirt(libvirt));
        found = machines_.emplace(uri, std::move(opened)).first;
    }
    return found->second.get();
}

base::Result<void> Agent::start_transports() {
    for (const auto& network : cluster_.networks) {
        if (!network.replication) {
            continue;
        }
        for (const auto& node : cluster_.nodes) {
            const auto address = node.addresses.find(network.name);
            if (node.name == options_.node && address != node.addresses.end()) {
                SAFEPAIR_TRY(auto listener,
                             replica::DataListener::start(
                                 address->second, cluster_.ports.data, identity_->channel_key()));
                listeners_.push_back(std::move(listener));
            }
        }
    }
    return {};
}

ModuleContext Agent::module_context(const base::BootId& boot) {
    return ModuleContext{
        .loop = loop_,
        .events = *events_,
        .guard = guard_page_.get(),
        .cluster = cluster_,
        .node = base::NodeId{options_.node},
        .incarnation = incarnation_,
        .boot = boot,
        .channel_key = identity_->channel_key(),
        .state_directory = options_.state,
        .publish = [this](const std::string& module,
                          const cluster::PeerStatus& status) { show(module, status, true); },
        .pulse = [this](const std::string& module,
                        const cluster::PeerStatus& status) { show(module, status, false); },
        .changed = [this] { changed(); },
        .machines = [this](const std::string& uri) { return machines(uri); },
        .listen =
            [this](const std::string& module, replica::ChannelAcceptor& acceptor) {
                for (auto& listener : listeners_) {
                    listener->add(module, acceptor);
                }
            },
        .unlisten =
            [this](const std::string& module) {
                for (auto& listener : listeners_) {
                    listener->remove(module);
                }
            },
        .faults = options_.faults,
    };
}

base::Result<void> Agent::start() {
    SAFEPAIR_CHECK(load());
    SAFEPAIR_CHECK(start_guard());
    SAFEPAIR_CHECK(start_transports());

    const auto boot = read_boot_id();
    for (const auto& config : module_configs_) {
        if (std::find(config.nodes.begin(), config.nodes.end(), options_.node) ==
            config.nodes.end()) {
            continue;
        }
        auto module = std::make_unique<Module>(config, module_context(boot));
        module->prepare();
        modules_.emplace(config.name, std::move(module));
    }

    // What an earlier agent left is off now: from here on the peer may hear us.
    SAFEPAIR_CHECK(start_links());
    SAFEPAIR_CHECK(start_services());
    for (const auto& [name, module] : modules_) {
        asio::post(loop_, [one = module.get()] { one->begin(); });
    }
    return {};
}

void Agent::show(const std::string& module, const cluster::PeerStatus& status, bool now) {
    const auto* found = find(module);
    if (found == nullptr) {
        return;
    }
    const auto& peer = found->peer().value;
    if (const auto transport = transports_.find(peer); transport != transports_.end()) {
        transport->second->send(module, status);
    }
    const auto time = base::boot_time_now();
    auto& last = last_exchange_[peer];
    if (now || time - last >= exchange_period) {
        last = time;
        const auto statuses = statuses_for(peer);
        for (auto& client : clients_[peer]) {
            client->poke(statuses);
        }
    }
}

v1::PeerStatuses Agent::statuses_for(const std::string& peer) const {
    v1::PeerStatuses statuses;
    statuses.set_node(options_.node);
    for (const auto& [name, module] : modules_) {
        if (module->peer().value != peer || !module->prepared()) {
            continue;
        }
        const auto bytes = cluster::encode_status(module->status());
        auto& entry = *statuses.add_modules();
        entry.set_module(name);
        entry.set_status(bytes.data(), bytes.size());
    }
    return statuses;
}

void Agent::take(const std::string& from,
                 const std::string& channel,
                 const v1::PeerStatuses& statuses) {
    for (const auto& entry : statuses.modules()) {
        auto* module = find(entry.module());
        if (module == nullptr || module->peer().value != from) {
            continue;
        }
        const auto status = cluster::decode_status(std::as_bytes(std::span(entry.status())));
        if (!status || status->node.value != from) {
            spdlog::warn("{} sent an unreadable status of {}", from, entry.module());
            continue;
        }
        module->heard(channel);
        module->peer_status(*status);
    }
}

v1::PeerStatuses Agent::exchange(const std::string& from, const v1::PeerStatuses& statuses) {
    take(from, "peer-service", statuses);
    // Deliberately without statuses: an answer comes from a server thread, which goes on when our
    // decision loop hangs, and must not count as a sign of life (R4). Our own statuses reach the
    // peer by our own Exchange.
    v1::PeerStatuses answer;
    answer.set_node(options_.node);
    return answer;
}

Module* Agent::find(const std::string& name) const {
    const auto found = modules_.find(name);
    return found == modules_.end() ? nullptr : found->second.get();
}

bool Agent::is_node(const std::string& name) const {
    return std::any_of(cluster_.nodes.begin(), cluster_.nodes.end(), [&](const auto& node) {
        return node.name == name;
    });
}

v1::Peer::Stub* Agent::peer_stub(const std::string& node) const {
    const auto found = clients_.find(node);
    if (found == clients_.end() || found->second.empty()) {
        return nullptr;
    }
    for (const auto& client : found->second) {
        if (client->answering()) {
            return &client->stub();
        }
    }
    return &found->second.front()->stub();
}

void Agent::changed() {
    {
        const std::lock_guard lock(change_mutex_);
        ++version_;
    }
    change_.notify_all();
}

std::uint64_t Agent::wait_for_change(std::uint64_t seen, std::chrono::milliseconds timeout) const {
    std::unique_lock lock(change_mutex_);
    change_.wait_for(lock, timeout, [&] { return version_ > seen; });
    return version_;
}

v1::StatusReply Agent::status(const v1::StatusRequest& request) const {
    v1::StatusReply reply;
    reply.set_cluster(cluster_.name);
    reply.set_node(options_.node);
    for (const auto& node : cluster_.nodes) {
        reply.add_nodes(node.name);
    }
    reply.set_time(base::wall_clock_now());
    reply.set_witness("none");
    const auto wanted = [&](const std::string& name) {
        return request.modules().empty() ||
               std::find(request.modules().begin(), request.modules().end(), name) !=
                   request.modules().end();
    };
    for (const auto& [name, module] : modules_) {
        if (!wanted(name)) {
            continue;
        }
        const auto snapshot = module->snapshot();
        auto mine = wire::local_row(snapshot, options_.node, module->peer().value);
        auto theirs = wire::peer_row(snapshot, options_.node, module->peer().value);
        const bool mine_first = module->config().nodes[0] == options_.node;
        *reply.add_modules() = mine_first ? mine : theirs;
        *reply.add_modules() = mine_first ? theirs : mine;
        for (const auto& [network, state] : module->links()) {
            auto& link = *reply.add_links();
            link.set_network(network);
            link.set_peer(module->peer().value);
            link.set_state(state == cluster::LinkState::up     ? "up"
                           : state == cluster::LinkState::down ? "down"
                                                               : "unknown");
            if (const auto transport = transports_.find(module->peer().value);
                transport != transports_.end()) {
                const auto counters = transport->second->counters(network);
                link.set_sent(counters.sent);
                link.set_received(counters.received);
                link.set_forged(counters.forged);
                link.set_replayed(counters.replayed);
            }
        }
    }
    return reply;
}

v1::ListModulesReply Agent::modules() const {
    v1::ListModulesReply reply;
    for (const auto& config : module_configs_) {
        auto& module = *reply.add_modules();
        module.set_name(config.name);
        module.add_nodes(config.nodes[0]);
        module.add_nodes(config.nodes[1]);
        module.set_kind(config.vm ? "vm" : "service");
        module.set_folder(config.folder.string());
        module.set_boot(config.boot == Boot::on ? "on" : config.boot == Boot::off ? "off" : "auto");
        module.set_file(config.file.string());
    }
    return reply;
}

base::Result<v1::CommandReply> Agent::command(v1::CommandRequest request,
                                              std::chrono::system_clock::time_point deadline,
                                              bool may_relay) {
    auto* module = find(request.module());
    if (module == nullptr) {
        return base::error(base::Errc::not_found,
                           "module " + request.module() + " is not configured on this node");
    }
    if (!request.node().empty() && !is_node(request.node())) {
        return base::error(base::Errc::not_found,
                           "node " + request.node() + " is not in the cluster");
    }
    if (request.node().empty()) {
        // swap and restart concern the leader wherever it is; everything else the node that was
        // asked.
        const auto view = module->snapshot().view;
        const auto leads = [](cluster::Role role) {
            return role == cluster::Role::alone || role == cluster::Role::prim;
        };
        const bool for_leader =
            request.verb() == v1::VERB_SWAP || request.verb() == v1::VERB_RESTART;
        const bool peer_leads =
            view.peer_heard && view.peer && leads(view.peer->role) && !leads(view.role);
        request.set_node(for_leader && peer_leads ? module->peer().value : options_.node);
    }
    if (request.node() != options_.node) {
        if (!may_relay) {
            return base::error(base::Errc::bad_input,
                               "this node cannot relay to " + request.node());
        }
        return relay(request, deadline);
    }

    SAFEPAIR_TRY(auto verb, wire::to_command(request));
    auto waiter = std::make_shared<CommandWaiter>();
    {
        const std::lock_guard lock(commands_mutex_);
        if (ended_) {
            return base::error(base::Errc::cancelled,
                               "safe-agent on " + options_.node + " is being stopped");
        }
        waiters_.insert(waiter.get());
    }
    module->command(verb, [waiter](cluster::Outcome outcome, const std::string& message) {
        v1::CommandReply reply;
        reply.set_outcome(wire::to_proto(outcome));
        reply.set_message(message);
        {
            const std::lock_guard lock(waiter->mutex);
            waiter->reply = std::move(reply);
        }
        waiter->done.notify_all();
    });
    {
        std::unique_lock lock(waiter->mutex);
        waiter->done.wait_until(
            lock, deadline, [&] { return waiter->reply.has_value() || waiter->given_up; });
    }
    {
        const std::lock_guard lock(commands_mutex_);
        waiters_.erase(waiter.get());
    }
    const std::lock_guard lock(waiter->mutex);
    if (waiter->given_up) {
        return base::error(base::Errc::cancelled,
                           "safe-agent on " + options_.node + " is being stopped");
    }
    if (!waiter->reply) {
        return base::error(
            base::Errc::timed_out,
            "the command is still being carried out; see safectl status " + request.module());
    }
    auto reply = *waiter->reply;
    *reply.mutable_status() =
        wire::local_row(module->snapshot(), options_.node, module->peer().value);
    return reply;
}

base::Result<v1::CommandReply> Agent::relay(const v1::CommandRequest& request,
                                            std::chrono::system_clock::time_point deadline) {
    auto* stub = peer_stub(request.node());
    if (stub == nullptr) {
        return base::error(base::Errc::bad_input, "this node cannot relay to " + request.node());
    }
    grpc::ClientContext context;
    context.set_deadline(deadline);
    {
        const std::lock_guard lock(commands_mutex_);
        if (ended_) {
            return base::error(base::Errc::cancelled,
                               "safe-agent on " + options_.node + " is being stopped");
        }
        relays_.insert(&context);
    }
    v1::CommandReply reply;
    const auto status = stub->Command(&context, request, &reply);
    {
        const std::lock_guard lock(commands_mutex_);
        relays_.erase(&context);
    }
    if (status.ok()) {
        return reply;
    }
    // What the other node itself refused keeps its meaning; only silence is silence.
    switch (status.error_code()) {
        case grpc::StatusCode::NOT_FOUND:
            return base::error(base::Errc::not_found,
                               request.node() + ": " + status.error_message());
        case grpc::StatusCode::INVALID_ARGUMENT:
            return base::error(base::Errc::bad_input,
                               request.node() + ": " + status.error_message());
        case grpc::StatusCode::DEADLINE_EXCEEDED:
            return base::error(base::Errc::timed_out,
                               fmt::format("no answer from {} yet; see safectl status {}",
                                           request.node(),
                                           request.module()));
        default:
            return base::error(base::Errc::peer_unreachable,
                               fmt::format("{} did not answer ({}); run the command there",
                                           request.node(),
                                           status.error_message()));
    }
}

void Agent::give_up_commands() {
    const std::lock_guard lock(commands_mutex_);
    ended_ = true;
    for (auto* waiter : waiters_) {
        {
            const std::lock_guard waiter_lock(waiter->mutex);
            waiter->given_up = !waiter->reply.has_value();
        }
        waiter->done.notify_all();
    }
    for (auto* context : relays_) {
        context->TryCancel();
    }
}

void Agent::check_guard() {
    if (guard_starting_ || (guard_process_ && guard_process_->alive())) {
        return;
    }
    guard_starting_ = true;
    if (guard_process_) {
        spdlog::error("safe-guard is gone; it is started again");
    }
    // Before the new one is asked for: letting the old one go tells whoever watches the page to
    // end.
    guard_process_.reset();
    chores_.post([this] {
        auto spawned = guard::GuardProcess::spawn(options_.guard, options_.runtime / "guard.page");
        if (!spawned) {
            spdlog::error("safe-guard cannot be started: {}", spawned.error().message());
        }
        auto process = std::make_shared<std::unique_ptr<guard::GuardProcess>>();
        if (spawned) {
            *process = std::move(*spawned);
        }
        asio::post(loop_, [this, process] {
            guard_process_ = std::move(*process);
            guard_starting_ = false;
        });
    });
}

std::string Agent::status_line() const {
    std::string line;
    for (const auto& [name, module] : modules_) {
        const auto view = module->snapshot().view;
        line += fmt::format("{}{} {} {}",
                            line.empty() ? "" : ", ",
                            name,
                            cluster::to_string(view.role),
                            cluster::to_string(view.readiness));
    }
    return printable(line.empty() ? "no modules" : line, status_line_bytes_max);
}

void Agent::pet_watchdog() {
    // From the decision loop itself: when it hangs, systemd restarts us and the guard stops what we
    // ran.
    sd_notify(0, "WATCHDOG=1");
    if (stopping_) {
        sd_notifyf(0,
                   "EXTEND_TIMEOUT_USEC=%lld",
                   static_cast<long long>(std::chrono::microseconds(extend_step).count()));
    }
    check_guard();
    if (auto line = status_line(); !stopping_ && line != shown_status_) {
        shown_status_ = std::move(line);
        sd_notify(0, ("STATUS=" + shown_status_).c_str());
    }
    watchdog_.expires_after(std::chrono::seconds(1));
    watchdog_.async_wait([this](const asio::error_code& error) {
        if (!error) {
            pet_watchdog();
        }
    });
}

void Agent::shut_down() {
    if (stopping_) {
        return;
    }
    stopping_ = true;
    spdlog::info("stopping {} modules", modules_.size());
    sd_notify(0, "STOPPING=1\nSTATUS=stopping modules");
    auto left = std::make_shared<std::size_t>(modules_.size());
    const auto one_done = [this, left] {
        if (*left == 0 || --*left == 0) {
            loop_.stop();
        }
    };
    if (modules_.empty()) {
        loop_.stop();
    }
    for (auto& [name, module] : modules_) {
        cluster::OperatorCommand stop;
        stop.verb = cluster::Verb::shutdown;
        stop.actor = "SYSTEM";
        module->command(
            stop, [one_done, name = name](cluster::Outcome outcome, const std::string& message) {
                if (outcome != cluster::Outcome::done) {
                    spdlog::warn("{}: {}", name, message);
                }
                one_done();
            });
    }
}

void Agent::run() {
    signals_.async_wait([this](const asio::error_code& error, int) {
        if (!error) {
            shut_down();
        }
    });
    const auto work = asio::make_work_guard(loop_);
    sd_notify(0, "READY=1");
    spdlog::info(
        "{} serves {} modules of cluster {}", options_.node, modules_.size(), cluster_.name);
    pet_watchdog();
    loop_.run();
    give_up_commands();
    for (auto& [name, module] : modules_) {
        module->end();
    }
}

}  // namespace safepair::agent
