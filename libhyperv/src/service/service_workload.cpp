// A service: one executable starts it, one stops it, and whatever they leave running lives in one
// ProcessHome.
#include "process.hpp"
#include "process_home.hpp"
#include "started_mark.hpp"
#include "wake.hpp"

#include <safepair/base/system_time.hpp>
#include <safepair/hyperv/workload.hpp>

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>

#include <poll.h>
#include <unistd.h>

namespace safepair::hyperv {

namespace {

/// SIGKILL acts at once; longer takes only what waits in the kernel.
constexpr base::Duration kill_limit = std::chrono::seconds(30);
/// What a stop executable that succeeded leaves running may finish in this time.
constexpr base::Duration linger_limit = std::chrono::seconds(10);
/// The last word of a service whose processes are not ours to kill.
constexpr base::Duration force_limit = std::chrono::seconds(30);

enum class Phase : std::uint8_t { off, starting, running, stopping };

const char* to_string(Phase phase) noexcept {
    switch (phase) {
        case Phase::off:
            return "off";
        case Phase::starting:
            return "starting";
        case Phase::running:
            return "running";
        case Phase::stopping:
            return "stopping";
    }
    return "?";
}

/// How a command of the service went.
struct Outcome {
    enum class Kind : std::uint8_t { succeeded, failed, timed_out, cut_short } kind = Kind::failed;
    std::string text;
    std::string output;
    /// Of what it left running; open while somebody may still write.
    base::UniqueFd output_end;
};

std::string with_output(const std::string& text, const std::string& output) {
    return output.empty() ? text : text + "\n" + output;
}

bool valid_name(const std::string& name) {
    const auto allowed = [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
               c == '-' || c == '_' || c == '.';
    };
    return !name.empty() && name.size() <= 128 && name.front() != '.' &&
           std::all_of(name.begin(), name.end(), allowed);
}

std::unique_ptr<ProcessHome> make_home(const ServiceWorkloadOptions& options) {
    const auto mount =
        options.cgroup_parent.empty() ? std::filesystem::path() : cgroup2_mount_point();
    if (!mount.empty() && valid_name(options.name)) {
        auto home = make_cgroup_home(mount / options.cgroup_parent / options.name);
        if (home->create()) {
            return home;
        }
    }
    return make_marked_home(options.name);
}

class ServiceWorkload final : public Workload {
  public:
    explicit ServiceWorkload(ServiceWorkloadOptions options)
        : options_(std::move(options)),
          home_(make_home(options_)),
          mark_(valid_name(options_.name) ? options_.state_directory : std::filesystem::path(),
                options_.name),
          started_(mark_.present()) {
        phase_ = started_ ? Phase::running : Phase::off;
        monitor_ = std::thread([this] { monitor(); });
    }

    ~ServiceWorkload() override {
        {
            const std::lock_guard lock(mutex_);
            ending_ = true;
        }
        monitor_wake_.raise();
        monitor_.join();
        home_->remove();
    }

    ServiceWorkload(const ServiceWorkload&) = delete;
    ServiceWorkload& operator=(const ServiceWorkload&) = delete;

    base::Result<std::string> start() override;
    base::Result<std::string> stop() override;
    base::Result<void> kill() override;

    base::Result<void> pause() override {
        set_paused(true);
        return home_->freeze();
    }

    base::Result<void> resume() override {
        set_paused(false);
        return home_->thaw();
    }

    base::Result<bool> running() override {
        {
            const std::lock_guard lock(mutex_);
            if (started_ && !left_processes_) {
                return true;
            }
        }
        return home_->populated();
    }

    std::string describe() override {
        const std::lock_guard lock(mutex_);
        return paused_ && phase_ != Phase::off ? "paused" : to_string(phase_);
    }

    GuardTarget guard_target() override {
        GuardTarget target;
        target.cgroup = home_->cgroup();
        if (target.cgroup.empty()) {
            const auto processes = home_->processes();
            target.process = processes.empty() ? 0 : processes.front();
        }
        return target;
    }

    std::vector<Finding> preflight() override;

    void on_exit(std::function<void(const std::string& detail)> handler) override {
        const std::lock_guard lock(mutex_);
        handler_ = std::move(handler);
    }

  private:
    base::Result<void> check() const;
    Outcome run(std::vector<std::string> argv,
                const char* argument,
                base::Duration deadline,
                std::optional<std::uint64_t> generation);
    Outcome await(Child child,
                  const std::string& what,
                  base::Duration deadline,
                  bool may_be_cut_short);
    bool wait_until_empty(base::Duration limit);
    base::Result<std::string> finish_stop(std::string text);
    base::Result<std::string> stop_by_signal();
    void monitor();
    void report_exit();
    bool was_killed_since(std::uint64_t generation);
    std::uint64_t enter(Phase phase);
    void settle_off();
    bool settle_running(bool left_processes, std::uint64_t generation);

    void set_paused(bool paused) {
        const std::lock_guard lock(mutex_);
        paused_ = paused;
    }

    const ServiceWorkloadOptions options_;
    const std::unique_ptr<ProcessHome> home_;
    const StartedMark mark_;
    const Wake monitor_wake_;
    const Wake cut_short_;

    /// Held while a process is born, so that after a kill none appears that the kill did not see.
    /// Before mutex_.
    std::mutex birth_mutex_;

    std::mutex mutex_;
    // Guarded by mutex_.
    std::function<void(const std::string&)> handler_;
    Phase phase_ = Phase::off;
    bool paused_ = false;
    bool started_ = false;
    bool left_processes_ = false;
    bool ending_ = false;
    /// Kills so far: who began before the last one was cut short by it.
    std::uint64_t generation_ = 0;
    base::UniqueFd output_end_;

    std::thread monitor_;
};

base::Result<void> ServiceWorkload::check() const {
    if (!valid_name(options_.name)) {
        return base::error(
            base::Errc::bad_input,
            fmt::format("service name '{}': use letters, digits, '-', '_' and '.'", options_.name));
    }
    if (options_.start.empty()) {
        return base::error(
            base::Errc::bad_input,
            fmt::format("service {}: no start executable is configured", options_.name));
    }
    return {};
}

std::uint64_t ServiceWorkload::enter(Phase phase) {
    const std::lock_guard lock(mutex_);
    // From here on an end of its processes is our doing.
    phase_ = phase;
    return generation_;
}

void ServiceWorkload::settle_off() {
    mark_.clear();
    {
        const std::lock_guard lock(mutex_);
        phase_ = Phase::off;
        started_ = false;
        left_processes_ = false;
        paused_ = false;
        output_end_.reset();
    }
    monitor_wake_.raise();
}

/// False, and nothing changes, when it was killed in the meantime.
bool ServiceWorkload::settle_running(bool left_processes, std::uint64_t generation) {
    {
        const std::lock_guard lock(mutex_);
        if (generation_ != generation) {
            return false;
        }
        phase_ = Phase::running;
        started_ = true;
        left_processes_ = left_processes;
    }
    if (!left_processes) {
        mark_.set();
    }
    monitor_wake_.raise();
    return true;
}

bool ServiceWorkload::was_killed_since(std::uint64_t generation) {
    const std::lock_guard lock(mutex_);
    return generation_ != generation;
}

Outcome ServiceWorkload::run(std::vector<std::string> argv,
                             const char* argument,
                             base::Duration deadline,
                             std::optional<std::uint64_t> generation) {
    const auto what = fmt::format("{} {}", argv.empty() ? std::string() : argv.front(), argument);
    argv.emplace_back(argument);
    SpawnOptions spawning;
    spawning.argv = std::move(argv);
    spawning.environment = home_->environment();
    spawning.environment.push_back("FOLDER=" + options_.folder.string());

    std::unique_lock birth(birth_mutex_);
    if (generation && was_killed_since(*generation)) {
        return {Outcome::Kind::cut_short, what + ": not begun", {}, {}};
    }
    for (const auto& ready : {home_->create(), home_->thaw()}) {
        if (!ready) {
            return {Outcome::Kind::failed, ready.error().message(), {}, {}};
        }
    }
    auto birthplace = home_->birthplace();
    if (!birthplace) {
        return {Outcome::Kind::failed, birthplace.error().message(), {}, {}};
    }
    spawning.cgroup = birthplace->get();
    auto child = spawn(spawning);
    birth.unlock();
    if (!child) {
        return {Outcome::Kind::failed, child.error().message(), {}, {}};
    }
    return await(std::move(*child), what, deadline, generation.has_value());
}

Outcome ServiceWorkload::await(Child child,
                               const std::string& what,
                               base::Duration deadline,
                               bool may_be_cut_short) {
    CapturedOutput output;
    const auto end = base::boot_time_now() + deadline;
    bool output_open = true;
    Outcome outcome;
    for (;;) {
        const auto left = end - base::boot_time_now();
        std::array<pollfd, 3> entries{pollfd{child.pidfd.get(), POLLIN, 0},
                                      pollfd{output_open ? child.output.get() : -1, POLLIN, 0},
                                      pollfd{may_be_cut_short ? cut_short_.fd() : -1, POLLIN, 0}};
        ::poll(entries.data(),
               entries.size(),
               poll_milliseconds(std::max(left, base::Duration::zero())));
        output_open = output_open && drain(child.output, output);
        if (entries[0].revents != 0) {
            const auto ending = reap(child);
            output_open = output_open && drain(child.output, output);
            const bool cut = entries[2].revents != 0;
            outcome.kind = cut                ? Outcome::Kind::cut_short
                           : ending.succeeded ? Outcome::Kind::succeeded
                                              : Outcome::Kind::failed;
            outcome.text = cut ? what + ": stopped" : what + ": " + ending.text;
            break;
        }
        const bool cut = entries[2].revents != 0;
        if (cut || left <= base::Duration::zero()) {
            // The whole session of the command: what it waits for must not go on without it.
            ::kill(-child.pid, SIGKILL);
            static_cast<void>(reap(child));
            static_cast<void>(drain(child.output, output));
            outcome.kind = cut ? Outcome::Kind::cut_short : Outcome::Kind::timed_out;
            outcome.text =
                cut ? what + ": stopped"
                    : fmt::format(
                          "{}: not finished after {} s, killed",
                          what,
                          std::chrono::duration_cast<std::chrono::seconds>(deadline).count());
            break;
        }
    }
    outcome.output = output.text();
    outcome.output_end = output_open ? std::move(child.output) : base::UniqueFd();
    return outcome;
}

base::Result<std::string> ServiceWorkload::start() {
    SAFEPAIR_CHECK(check());
    if (home_->populated()) {
        return base::error(
            base::Errc::busy,
            fmt::format(
                "service {}: process {} of an earlier start still runs; it must be killed first",
                options_.name,
                home_->processes().empty() ? 0 : home_->processes().front()));
    }
    const auto generation = enter(Phase::starting);
    auto outcome = run(options_.start, "start", options_.start_deadline, generation);
    if (outcome.kind == Outcome::Kind::succeeded) {
        const bool left = home_->populated();
        {
            const std::lock_guard lock(mutex_);
            output_end_ = left ? std::move(outcome.output_end) : base::UniqueFd();
        }
        if (settle_running(left, generation)) {
            return with_output(outcome.text, outcome.output);
        }
    }
    if (was_killed_since(generation)) {
        outcome.kind = Outcome::Kind::cut_short;
        outcome.text += ", cut short by a kill";
    }
    const auto killed = home_->kill(kill_limit);
    settle_off();
    auto text =
        fmt::format("service {}: {}", options_.name, with_output(outcome.text, outcome.output));
    if (!killed) {
        text += "\n" + killed.error().message();
    }
    return base::error(outcome.kind == Outcome::Kind::timed_out   ? base::Errc::timed_out
                       : outcome.kind == Outcome::Kind::cut_short ? base::Errc::cancelled
                                                                  : base::Errc::refused,
                       text);
}

bool ServiceWorkload::wait_until_empty(base::Duration limit) {
    const auto end = base::boot_time_now() + limit;
    const auto watch = home_->watch();
    while (watch->populated()) {
        const auto left = end - base::boot_time_now();
        auto entries = watch->entries();
        entries.push_back({cut_short_.fd(), POLLIN, 0});
        if (left <= base::Duration::zero() ||
            ::poll(entries.data(), entries.size(), poll_milliseconds(left)) == 0 ||
            entries.back().revents != 0) {
            return !watch->populated();
        }
    }
    return true;
}

base::Result<std::string> ServiceWorkload::finish_stop(std::string text) {
    if (home_->populated()) {
        text += "\nwhat was left running is killed";
    }
    if (auto killed = home_->kill(kill_limit); !killed) {
        return killed.error().within("service " + options_.name + ": " + text);
    }
    settle_off();
    return text;
}

base::Result<std::string> ServiceWorkload::stop_by_signal() {
    static_cast<void>(home_->thaw());
    home_->terminate();
    if (wait_until_empty(options_.stop_deadline)) {
        return finish_stop("no stop executable is configured: its processes ended after SIGTERM");
    }
    return finish_stop(
        "no stop executable is configured, and its processes did not end after SIGTERM");
}

base::Result<std::string> ServiceWorkload::stop() {
    SAFEPAIR_CHECK(check());
    set_paused(false);
    static_cast<void>(home_->thaw());
    const auto generation = enter(Phase::stopping);
    if (options_.stop.empty()) {
        return stop_by_signal();
    }
    auto outcome = run(options_.stop, "stop", options_.stop_deadline, generation);
    auto text = with_output(outcome.text, outcome.output);
    if (outcome.kind == Outcome::Kind::succeeded) {
        static_cast<void>(wait_until_empty(std::min(linger_limit, options_.stop_deadline)));
        return finish_stop(std::move(text));
    }
    if (outcome.kind != Outcome::Kind::cut_short) {
        const auto forced = run(options_.stop, "force", options_.stop_deadline, generation);
        text += "\n" + with_output(forced.text, forced.output);
        bool left = false;
        {
            const std::lock_guard lock(mutex_);
            left = started_;
        }
        // Nothing of it is ours to kill when neither executable left a process here: then only its
        // word counts.
        if (forced.kind != Outcome::Kind::succeeded && forced.kind != Outcome::Kind::cut_short &&
            left && !home_->populated()) {
            static_cast<void>(settle_running(false, generation));
            return base::error(
                base::Errc::refused,
                fmt::format(
                    "service {} does not stop, also not by force: {}", options_.name, text));
        }
    }
    return finish_stop(std::move(text));
}

base::Result<void> ServiceWorkload::kill() {
    bool foreign = false;
    {
        // No process is being born now, and none is afterwards by whoever began before.
        const std::scoped_lock birth(birth_mutex_);
        const std::lock_guard lock(mutex_);
        ++generation_;
        foreign = started_ && !left_processes_;
        phase_ = Phase::stopping;
    }
    cut_short_.raise();
    const auto killed = home_->kill(kill_limit);
    cut_short_.clear();
    SAFEPAIR_CHECK(killed);
    if (foreign && !options_.stop.empty()) {
        const auto forced = run(
            options_.stop, "force", std::min(force_limit, options_.stop_deadline), std::nullopt);
        SAFEPAIR_CHECK(home_->kill(kill_limit));
        if (forced.kind != Outcome::Kind::succeeded) {
            return base::error(base::Errc::refused,
                               fmt::format("service {}: its processes are not ours, and: {}",
                                           options_.name,
                                           with_output(forced.text, forced.output)));
        }
    }
    settle_off();
    return {};
}

std::vector<Finding> ServiceWorkload::preflight() {
    std::vector<Finding> findings;
    if (auto checked = check(); !checked) {
        findings.push_back({Severity::error,
                            "configuration",
                            checked.error().message(),
                            "correct the module's configuration"});
    }
    for (const auto* argv : {&options_.start, &options_.stop}) {
        if (argv->empty() || argv->front().find('/') == std::string::npos) {
            continue;
        }
        if (::access(argv->front().c_str(), X_OK) != 0) {
            findings.push_back(
                {Severity::error,
                 "executable-missing",
                 fmt::format("{} cannot be executed here", argv->front()),
                 "install it on both nodes, at the same path and executable (chmod +x)"});
        }
    }
    if (home_->cgroup().empty()) {
        findings.push_back({Severity::warning,
                            "no-cgroup",
                            "cgroup v2 is not writable here: processes are found by their "
                            "environment, which a process "
                            "can change",
                            "run the agent as root on a system with cgroup v2 mounted"});
    }
    return findings;
}

void ServiceWorkload::report_exit() {
    std::function<void(const std::string&)> handler;
    {
        const std::lock_guard lock(mutex_);
        if (!left_processes_ || phase_ != Phase::running) {
            return;
        }
        phase_ = Phase::off;
        started_ = false;
        left_processes_ = false;
        handler = handler_;
    }
    mark_.clear();
    if (handler) {
        handler("the last process of the service ended");
    }
}

void ServiceWorkload::monitor() {
    const auto watch = home_->watch();
    base::UniqueFd output;
    for (;;) {
        bool watching = false;
        {
            const std::lock_guard lock(mutex_);
            if (ending_) {
                return;
            }
            if (output_end_) {
                output = std::move(output_end_);
            }
            watching = left_processes_ && phase_ == Phase::running;
        }
        if (watching && !watch->populated()) {
            report_exit();
            continue;
        }
        auto entries = watching ? watch->entries() : std::vector<pollfd>();
        entries.push_back({monitor_wake_.fd(), POLLIN, 0});
        entries.push_back({output.get(), POLLIN, 0});
        ::poll(entries.data(), entries.size(), -1);
        monitor_wake_.clear();
        // Nobody reads it any more, but a full pipe would stop the service, and a closed one kill
        // it.
        CapturedOutput discarded(0, 0);
        if (output && !drain(output, discarded)) {
            output.reset();
        }
    }
}

}  // namespace

std::unique_ptr<Workload> make_service_workload(ServiceWorkloadOptions options) {
    return std::make_unique<ServiceWorkload>(std::move(options));
}

}  // namespace safepair::hyperv
