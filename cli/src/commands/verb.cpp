// start, stop, restart, swap, as-primary, as-secondary, forcestop: ask, show how it goes, say how
// it ended.
#include "commands/commands.hpp"
#include "output.hpp"
#include "progress_line.hpp"
#include "rows.hpp"
#include "status_view.hpp"
#include "text.hpp"
#include "wait_target.hpp"

#include <fmt/format.h>

#include <array>
#include <csignal>
#include <cstdlib>
#include <istream>
#include <ostream>
#include <thread>
#include <utility>

#include <pwd.h>
#include <unistd.h>

namespace safepair::cli {

namespace {

/// Who asks, for the audit. sudo hides the person behind root.
std::string actor_name() {
    const auto* user = getpwuid(geteuid());
    const std::string name = user == nullptr ? std::to_string(geteuid()) : user->pw_name;
    const char* behind = std::getenv("SUDO_USER");
    return behind == nullptr || *behind == '\0' ? name : fmt::format("{} ({})", behind, name);
}

extern "C" void say_that_it_goes_on(int) {
    static constexpr char text[] =
        "\nsafectl: interrupted; the agent goes on with the command. See: safectl status\n";
    // Nothing can be done about an error here.
    [[maybe_unused]] const auto written = write(STDERR_FILENO, text, sizeof(text) - 1);
    _exit(130);
}

/// Ctrl-C ends the waiting, not the command, and the operator should know.
class InterruptNotice {
  public:
    explicit InterruptNotice(bool wanted) : is_installed_(wanted) {
        if (is_installed_) {
            before_ = std::signal(SIGINT, say_that_it_goes_on);
        }
    }

    ~InterruptNotice() {
        if (is_installed_) {
            std::signal(SIGINT, before_);
        }
    }

    InterruptNotice(const InterruptNotice&) = delete;
    InterruptNotice& operator=(const InterruptNotice&) = delete;

  private:
    bool is_installed_;
    void (*before_)(int) = SIG_DFL;
};

/// Shows the module's states while another call is under way.
class LiveProgress {
  public:
    LiveProgress(const Client& client, const std::string& module, ProgressLine& line)
        : thread_([this, &client, &module, &line] {
              v1::StatusRequest request;
              request.add_modules(module);
              // It only decorates: the command itself reports what goes wrong.
              static_cast<void>(
                  client.watch(request, {}, cancellation_, [&line](const v1::StatusReply& reply) {
                      line.show(reply);
                      return true;
                  }));
          }) {}

    ~LiveProgress() {
        cancellation_.cancel();
        thread_.join();
    }

    LiveProgress(const LiveProgress&) = delete;
    LiveProgress& operator=(const LiveProgress&) = delete;

  private:
    Cancellation cancellation_;
    std::thread thread_;
};

/// One verb on its way from the command line to its end.
class VerbRun {
  public:
    VerbRun(const Arguments& arguments, Console& console, const Client& client)
        : arguments_(arguments),
          console_(console),
          client_(client),
          module_(arguments.modules.front()),
          verb_(verb_word(arguments.verb)),
          line_(console, module_) {
        waits_ =
            arguments.wait == WaitWish::yes || (arguments.wait == WaitWish::automatic &&
                                                console.out_is_terminal && console.err_is_terminal);
        if (waits_ && arguments.wait_limit) {
            waits_ = arguments.wait_limit->count() > 0;
            deadline_ = waits_ ? deadline_in(*arguments.wait_limit) : Deadline{};
        }
    }

    ExitCode run() {
        v1::StatusRequest request;
        request.add_modules(module_);
        auto before = client_.status(request);
        if (!before) {
            return report(console_, with_known_names(client_, before.error()));
        }
        if (const auto checked = check_node(*before, arguments_.node); !checked) {
            return report(console_, checked.error());
        }
        last_ = std::move(*before);
        node_ = expected_node();
        if (arguments_.dry_run) {
            return dry_run();
        }
        if (!confirmed()) {
            console_.err << "safectl: nothing was done\n";
            return ExitCode::error;
        }
        return carry_out();
    }

  private:
    /// Where the agent will carry it out: it sends swap and restart to the leader.
    [[nodiscard]] std::string expected_node() const {
        if (!arguments_.node.empty()) {
            return arguments_.node;
        }
        const bool for_leader =
            arguments_.verb == v1::VERB_SWAP || arguments_.verb == v1::VERB_RESTART;
        const auto* own = find_row(last_, module_, last_.node());
        for (const auto& row : last_.modules()) {
            if (for_leader && row.heard() && leads(row) && (own == nullptr || !leads(*own))) {
                return row.node();
            }
        }
        return last_.node();
    }

    [[nodiscard]] std::string peer_of_node() const {
        for (const auto& row : last_.modules()) {
            if (row.node() != node_) {
                return row.node();
            }
        }
        return "the other node";
    }

    [[nodiscard]] std::string options_words() const {
        std::string text;
        text += arguments_.force ? " --force" : "";
        text += arguments_.force_inconsistent ? " --force-inconsistent" : "";
        text += arguments_.full ? " --full" : "";
        text += arguments_.discard_local ? " --discard-local" : "";
        return text;
    }

    ExitCode dry_run() {
        const auto target = target_words(arguments_.verb, node_, peer_of_node());
        if (is_structured(arguments_.format)) {
            Json record;
            record["dry_run"] = true;
            record["verb"] = verb_;
            record["module"] = module_;
            record["node"] = node_;
            record["force"] = arguments_.force;
            record["force_inconsistent"] = arguments_.force_inconsistent;
            record["full"] = arguments_.full;
            record["discard_local"] = arguments_.discard_local;
            record["target"] = target;
            record["current"] = Json::array();
            for (const auto& row : last_.modules()) {
                record["current"].push_back(to_json(row));
            }
            console_.out << render(record, arguments_.format);
            return ExitCode::ok;
        }
        console_.out << fmt::format(
                            "Would ask {} to: {} {}{}\n", node_, verb_, module_, options_words())
                     << fmt::format("Now:      {}\n", states_of(last_, module_, true))
                     << fmt::format("Aims at:  {}\n", target) << "Nothing was done.\n";
        return ExitCode::ok;
    }

    /// Asks before data is given up, on a terminal only: a script has said what it wants by the
    /// option.
    [[nodiscard]] bool confirmed() {
        if (arguments_.yes || !console_.in_is_terminal || !console_.err_is_terminal) {
            return true;
        }
        const auto* row = find_row(last_, module_, node_);
        if (arguments_.force_inconsistent && (row == nullptr || row->data() == "inconsistent")) {
            console_.err << fmt::format(
                "The copy of {0} on {1} was stopped during a resynchronisation: it is half old, "
                "half new.\n"
                "Leading with it gives up what {2} has, and the files may be damaged. The next "
                "resynchronisation\n"
                "copies everything from {1} to {2}. If {2} can be started, start it instead.\n",
                module_,
                node_,
                peer_of_node());
            return typed_name();
        }
        if (arguments_.discard_local) {
            console_.err << fmt::format(
                "What only {1} has of {0} is moved to the archive and overwritten with the copy of "
                "{2}.\n"
                "{1} now: {3}, data {4}.\n",
                module_,
                node_,
                peer_of_node(),
                row == nullptr ? "not heard" : state_words(*row),
                row == nullptr ? "unknown" : data_words(*row));
            return typed_name();
        }
        return true;
    }

    [[nodiscard]] bool typed_name() {
        console_.err << fmt::format("Type the module's name ({}) to go on: ", module_)
                     << std::flush;
        std::string line;
        return static_cast<bool>(std::getline(console_.in, line)) && line == module_;
    }

    ExitCode carry_out() {
        const InterruptNotice notice(console_.err_is_terminal);
        v1::CommandRequest request;
        request.set_module(module_);
        request.set_node(arguments_.node);
        request.set_verb(arguments_.verb);
        request.set_actor(actor_name());
        request.set_force(arguments_.force);
        request.set_force_inconsistent(arguments_.force_inconsistent);
        request.set_full(arguments_.full);
        request.set_discard_local(arguments_.discard_local);
        auto answered = ask(request);
        if (!answered) {
            return failed_call(answered.error());
        }
        reply_ = std::move(*answered);
        if (!reply_.status().node().empty()) {
            node_ = reply_.status().node();
        }
        const auto code = exit_code_of(reply_.outcome());
        if (code != ExitCode::ok) {
            return ended(code, with_module(reply_.message(), module_));
        }
        return waits_ ? wait_for_target() : ended(ExitCode::ok, answered_words());
    }

    base::Result<v1::CommandReply> ask(const v1::CommandRequest& request) {
        if (!waits_) {
            return client_.command(request, deadline_);
        }
        const LiveProgress progress(client_, module_, line_);
        return client_.command(request, deadline_);
    }

    ExitCode failed_call(const base::Error& error) {
        line_.clear();
        if (error.code == base::Errc::timed_out) {
            return ended(ExitCode::timed_out, timeout_words());
        }
        return report(
            console_,
            with_known_names(client_, error).within(fmt::format("{} {}", verb_, module_)));
    }

    [[nodiscard]] std::string timeout_words() const {
        const auto limit =
            arguments_.wait_limit
                ? " within " + format_duration(std::chrono::duration_cast<std::chrono::seconds>(
                                   *arguments_.wait_limit))
                : std::string{};
        return fmt::format(
            "not reached{}: {}. The agent goes on; watch it: safectl status {} --watch",
            limit,
            target_words(arguments_.verb, node_, peer_of_node()),
            module_);
    }

    [[nodiscard]] std::string answered_words() const {
        const auto said = with_module(reply_.message(), module_);
        const auto now = reply_.has_status() ? state_words(reply_.status()) : std::string{};
        return now.empty() ? said : fmt::format("{} ({})", said.empty() ? "done" : said, now);
    }

    ExitCode wait_for_target() {
        v1::StatusRequest request;
        request.add_modules(module_);
        auto progress = Progress::pending;
        Cancellation cancellation;
        const auto watched =
            client_.watch(request, deadline_, cancellation, [&](const v1::StatusReply& reply) {
                last_ = reply;
                progress = progress_of(arguments_.verb, module_, node_, reply);
                if (progress == Progress::pending) {
                    line_.show(reply);
                }
                return progress == Progress::pending;
            });
        if (!watched) {
            return failed_call(watched.error());
        }
        if (const auto* row = find_row(last_, module_, node_); row != nullptr) {
            *reply_.mutable_status() = *row;
        }
        const auto now = states_of(last_, module_, false);
        const auto said = with_module(reply_.message(), module_);
        switch (progress) {
            case Progress::reached:
                return ended(ExitCode::ok,
                             fmt::format("{}: {}", said.empty() ? "done" : said, now));
            case Progress::blocked:
                return ended(ExitCode::try_again, what_next(reply_.status(), last_.node()));
            case Progress::missed:
            case Progress::pending:
                break;
        }
        return ended(ExitCode::error,
                     fmt::format("{} instead of {}: {}",
                                 now,
                                 target_words(arguments_.verb, node_, peer_of_node()),
                                 what_next(reply_.status(), last_.node())));
    }

    /// The last word: data for programs on stdout in any case, for people a success on stdout and
    /// trouble on stderr.
    ExitCode ended(ExitCode code, const std::string& words) {
        line_.clear();
        if (is_structured(arguments_.format)) {
            Json record;
            record["verb"] = verb_;
            record["module"] = module_;
            record["node"] = node_;
            record["outcome"] = outcome_word(code);
            record["message"] = printable(words);
            record["exit_code"] = static_cast<int>(code);
            record["status"] = reply_.has_status() ? to_json(reply_.status()) : Json(nullptr);
            console_.out << render(record, arguments_.format);
        } else if (code == ExitCode::ok) {
            console_.out << fmt::format("{} on {}: {}\n", module_, node_, printable(words));
        }
        if (code != ExitCode::ok) {
            console_.err << fmt::format("safectl: {} {} on {}: {}\n",
                                        verb_,
                                        module_,
                                        node_,
                                        printable(words))
                         << std::flush;
        }
        return code;
    }

    [[nodiscard]] std::string outcome_word(ExitCode code) const {
        switch (code) {
            case ExitCode::ok:
                return "done";
            case ExitCode::unsafe:
                return "unsafe";
            case ExitCode::try_again:
                return "waits";
            case ExitCode::timed_out:
                return "timed-out";
            default:
                return reply_.outcome() == v1::CommandReply::OUTCOME_REFUSED ? "refused" : "failed";
        }
    }

    const Arguments& arguments_;
    Console& console_;
    const Client& client_;
    std::string module_;
    std::string verb_;
    std::string node_;
    bool waits_ = false;
    Deadline deadline_;
    ProgressLine line_;
    v1::StatusReply last_;
    v1::CommandReply reply_;
};

ExitCode ask_for_module(const Arguments& arguments, Console& console) {
    const auto verb = verb_word(arguments.verb);
    std::string known;
    if (const auto client = Client::connect(arguments.socket)) {
        known = known_modules(*client);
    }
    console.err << fmt::format("safectl {0}: which module? safectl {0} MODULE{1}{2}\n",
                               verb,
                               known.empty() ? "" : ". ",
                               known);
    return ExitCode::usage;
}

}  // namespace

ExitCode run_verb(const Arguments& arguments, Console& console) {
    if (arguments.modules.empty()) {
        return ask_for_module(arguments, console);
    }
    const auto client = Client::connect(arguments.socket);
    if (!client) {
        return report(console, client.error());
    }
    return VerbRun(arguments, console, *client).run();
}

}  // namespace safepair::cli
