#include "arguments.hpp"

#include "text.hpp"

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <map>
#include <memory>
#include <utility>

namespace safepair::cli {

namespace {

struct VerbDescription {
    v1::Verb verb;
    const char* word;
    /// What users of other products type.
    const char* alias;
    const char* text;
    const char* examples;
};

constexpr std::array verb_descriptions{
    VerbDescription{
        v1::VERB_START,
        "start",
        "",
        "Start a module here: it leads, follows, or waits, as its data allows",
        "  safectl start vm1                  on the node whose agent is asked\n"
        "  safectl start vm1 --node node2     on node2\n"
        "  safectl start vm1 --wait=5m        return when it is Ready, or after 5 minutes\n"},
    VerbDescription{
        v1::VERB_STOP,
        "stop",
        "",
        "Stop a module on one node; a Ready SECOND takes over at once",
        "  safectl stop vm1\n"
        "  safectl stop vm1 --dry-run         show what would be asked, do nothing\n"
        "  safectl stop vm1 --force           although the other node cannot take over\n"},
    VerbDescription{v1::VERB_RESTART,
                    "restart",
                    "",
                    "Stop and start the VM or service where it runs; roles stay",
                    "  safectl restart vm1\n"},
    VerbDescription{
        v1::VERB_SWAP,
        "swap",
        "",
        "Move the service from PRIM to SECOND; the roles change places",
        "  safectl swap vm1\n"
        "  safectl swap vm1 --wait=2m         return when both nodes are Ready again\n"},
    VerbDescription{v1::VERB_AS_PRIMARY,
                    "as-primary",
                    "prim",
                    "Declare the data of one node good and lead with it (first start, disaster)",
                    "  safectl as-primary vm1 --node node1\n"
                    "  safectl as-primary vm1 --force-inconsistent    with half-synchronised data, "
                    "as a last resort\n"},
    VerbDescription{
        v1::VERB_AS_SECONDARY,
        "as-secondary",
        "second",
        "Follow the other node, which must lead",
        "  safectl as-secondary vm1 --node node2\n"
        "  safectl as-secondary vm1 --full                copy everything, trust nothing here\n"
        "  safectl as-secondary vm1 --discard-local       give up (archive) what only this node "
        "has\n"},
    VerbDescription{v1::VERB_FORCESTOP,
                    "forcestop",
                    "",
                    "End a module at once: the VM or service is killed",
                    "  safectl forcestop vm1 --node node2\n"},
};

constexpr const char* main_examples =
    "  safectl status                       all modules on both nodes\n"
    "  safectl status --watch               the same, live\n"
    "  safectl as-primary vm1               first start, on the node that has the data\n"
    "  safectl start vm1 --node node2       start it on the other node\n"
    "  safectl swap vm1                     move the service to the other node\n"
    "  safectl log vm1 -f                   what happens, and why\n"
    "  safectl status -o json | jq .        for programs\n";

const std::map<std::string, Format> formats{{"table", Format::table},
                                            {"wide", Format::wide},
                                            {"name", Format::name},
                                            {"json", Format::json},
                                            {"yaml", Format::yaml}};
const std::map<std::string, ColorWish> colors{
    {"auto", ColorWish::automatic}, {"always", ColorWish::always}, {"never", ColorWish::never}};

constexpr const char* common_group = "Options of every command";
/// Of one module. More are refused with a better sentence than the parser has.
constexpr int many_words = 1000;

/// What --wait without a value is to the parser.
constexpr const char* forever = "forever";
constexpr const char* forever_suffix = "=forever";

template <typename Value>
Value chosen_word(const std::map<std::string, Value>& choices,
                  const char* option,
                  const std::string& word) {
    if (const auto found = choices.find(word); found != choices.end()) {
        return found->second;
    }
    std::vector<std::string> names;
    for (const auto& [name, value] : choices) {
        names.push_back(name);
    }
    throw CLI::ValidationError(option, fmt::format("'{}' is none of {}", word, listed(names)));
}

/// Help that starts with examples: they are what is looked for first.
class ExamplesFirst final : public CLI::Formatter {
  public:
    std::string make_description(const CLI::App* app) const override {
        auto text = app->get_description() + "\n";
        if (!app->get_footer().empty()) {
            text += "\nExamples:\n" + app->get_footer() + "\n";
        }
        return text;
    }

    std::string make_footer(const CLI::App*) const override { return {}; }

    std::string make_option_usage(const CLI::Option* option) const override {
        const bool is_one =
            option->get_expected_max() == many_words || option->get_expected_max() == 1;
        return fmt::format("[{}{}]", make_option_name(option, true), is_one ? "" : "...");
    }
};

/// `--wait` has an optional value, which must not swallow the module behind it: only what looks
/// like a duration counts.
std::vector<std::string> with_explicit_wait(std::vector<std::string> words) {
    std::vector<std::string> result;
    for (std::size_t index = 0; index < words.size(); ++index) {
        if (words[index] == "--") {
            // The parser would end the command here. No name starts with a dash, so nothing is
            // lost.
            result.insert(
                result.end(), words.begin() + static_cast<std::ptrdiff_t>(index) + 1, words.end());
            break;
        }
        if (words[index] != "--wait") {
            result.push_back(std::move(words[index]));
        } else if (index + 1 < words.size() && parse_duration(words[index + 1])) {
            result.push_back("--wait=" + words[++index]);
        } else {
            result.push_back(std::string("--wait") + forever_suffix);
        }
    }
    return result;
}

std::string checked_duration(const std::string& text) {
    if (text == forever) {
        return {};
    }
    const auto parsed = parse_duration(text);
    return parsed ? std::string{} : parsed.error().context;
}

/// Declares the options; the bound values live as long as the parser does.
class CommandLine {
  public:
    explicit CommandLine(const std::string& default_socket)
        : app_("Safepair: control of this node and its peer.", "safectl") {
        arguments_.socket = default_socket;
        app_.formatter(std::make_shared<ExamplesFirst>());
        app_.footer(main_examples);
        app_.set_version_flag("--version", std::string("safectl ") + SAFEPAIR_VERSION);
        app_.require_subcommand(1);
        app_.get_formatter()->column_width(34);
        add_common(app_);
        for (const auto& description : verb_descriptions) {
            add_verb(description);
        }
        add_status();
        add_health();
        add_log();
        add_module_list();
        add_explain();
        add_version();
    }

    Parsed parse(std::vector<std::string> words) {
        if (words.empty()) {
            return EndedEarly{ExitCode::usage, {}, app_.help()};
        }
        const auto original = words;
        try {
            words = with_explicit_wait(std::move(words));
            // CLI11 takes the words from the back.
            std::reverse(words.begin(), words.end());
            app_.parse(std::move(words));
        } catch (const CLI::CallForHelp&) {
            return EndedEarly{ExitCode::ok, app_.help(), {}};
        } catch (const CLI::CallForAllHelp&) {
            return EndedEarly{ExitCode::ok, app_.help("", CLI::AppFormatMode::All), {}};
        } catch (const CLI::CallForVersion& version) {
            return EndedEarly{ExitCode::ok, std::string(version.what()) + "\n", {}};
        } catch (const CLI::RequiredError&) {
            return unknown_command(original);
        } catch (const CLI::ParseError& error) {
            return usage(error.what());
        }
        return finished();
    }

  private:
    void add_common(CLI::App& app) {
        app.add_option(
               "--socket",
               arguments_.socket,
               "The agent's control socket, also $SAFEPAIR_SOCKET [" + arguments_.socket + "]")
            ->type_name("PATH")
            ->check([](const std::string& path) {
                return path.empty() ? "the path of the socket is empty" : std::string{};
            })
            ->group(common_group);
        app.add_option_function<std::string>(
               "-o,--format",
               [this](const std::string& word) {
                   arguments_.format = chosen_word(formats, "--format", word);
               },
               "table, wide, name, json or yaml [table]")
            ->type_name("FORMAT")
            ->group(common_group);
        app.add_option_function<std::string>(
               "--color",
               [this](const std::string& word) {
                   arguments_.color = chosen_word(colors, "--color", word);
               },
               "auto, always or never; $NO_COLOR is respected [auto]")
            ->type_name("WHEN")
            ->group(common_group);
        app.add_flag_callback(
               "--no-color",
               [this] { arguments_.color = ColorWish::never; },
               "Same as --color never")
            ->group(common_group);
        app.add_flag_callback(
               "--no-headers", [this] { arguments_.headers = false; }, "The rows of a table only")
            ->group(common_group);
        app.add_flag("--ascii", arguments_.ascii, "No symbols beyond ASCII")->group(common_group);
    }

    CLI::App& add(const std::string& name,
                  const std::string& text,
                  const std::string& examples,
                  Command command) {
        auto& app = *app_.add_subcommand(name, text);
        app.footer(examples);
        app.callback([this, command] { arguments_.command = command; });
        add_common(app);
        return app;
    }

    void add_modules(CLI::App& app, const std::string& text) {
        app.add_option("MODULE", arguments_.modules, text)->type_name("");
    }

    void add_node(CLI::App& app, const std::string& text) {
        app.add_option("--node", arguments_.node, text)
            ->type_name("NODE")
            ->check([](const std::string& node) {
                return node.empty() ? "the node's name is empty" : std::string{};
            });
    }

    void add_verb(const VerbDescription& description) {
        auto& app = *app_.add_subcommand(description.word, description.text);
        if (*description.alias != '\0') {
            app.alias(description.alias);
        }
        app.footer(description.examples);
        app.callback([this, verb = description.verb] {
            arguments_.command = Command::verb;
            arguments_.verb = verb;
        });
        app.add_option("MODULE", arguments_.modules, "The module")
            ->type_name("")
            ->expected(0, many_words);
        const bool for_leader =
            description.verb == v1::VERB_SWAP || description.verb == v1::VERB_RESTART;
        add_node(app,
                 for_leader ? "On this node [the one that leads]"
                            : "On this node [the one whose agent is asked]");
        app.add_option("--wait",
                       wait_text_,
                       "Return when the module got there, or after a duration such as 30s; the "
                       "default on a terminal")
            ->option_text("[=DURATION]")
            ->check(checked_duration);
        app.add_flag("--no-wait",
                     no_wait_,
                     "Return with the agent's answer; the default where there is no terminal");
        app.add_flag("--dry-run", arguments_.dry_run, "Show what would be asked, do nothing");
        switch (description.verb) {
            case v1::VERB_STOP:
                app.add_flag(
                    "--force", arguments_.force, "Although the other node cannot take over");
                break;
            case v1::VERB_AS_PRIMARY:
                app.add_flag("--force-inconsistent",
                             arguments_.force_inconsistent,
                             "Although this copy is half old, half new; asks on a terminal");
                app.add_flag("-y,--yes", arguments_.yes, "Do not ask");
                break;
            case v1::VERB_AS_SECONDARY:
                app.add_flag("--full", arguments_.full, "Copy everything");
                app.add_flag("--discard-local",
                             arguments_.discard_local,
                             "Although this node has changes that the other lacks (they are "
                             "archived); asks on a terminal");
                app.add_flag("-y,--yes", arguments_.yes, "Do not ask");
                break;
            default:
                break;
        }
        add_common(app);
    }

    void add_status() {
        auto& app =
            add("status",
                "Modules, nodes, data and links, as this node sees them",
                "  safectl status\n"
                "  safectl status vm1 --watch\n"
                "  safectl status -o json | jq '.modules[] | {module, node, role, readiness}'\n",
                Command::status);
        app.alias("state");
        add_modules(app, "Only these modules");
        add_node(app, "Only the rows of this node");
        app.add_flag("-w,--watch", arguments_.watch, "Again after each change, until interrupted");
    }

    void add_health() {
        auto& app =
            add("health",
                "One line for a monitoring system; exits 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN",
                "  safectl health\n"
                "  safectl health vm1\n",
                Command::health);
        add_modules(app, "Only these modules");
        add_node(app, "Judge what runs on this node only");
    }

    void add_log() {
        auto& app =
            add("log",
                "The event log of a node: every transition with its reason and its actor",
                "  safectl log vm1 -f                 newest events, then live\n"
                "  safectl log --node node2 -n 200\n"
                "  safectl log vm1 --output           with what scripts and the VM driver printed\n"
                "  safectl log -f -o json --after 4711   resume a stream after an event's id\n",
                Command::log);
        app.alias("events");
        app.add_option("MODULE,--module", arguments_.modules, "Only events of this module")
            ->type_name("")
            ->expected(0, many_words);
        add_node(app, "The log of this node [the one whose agent is asked]");
        app.add_flag(
            "-f,--follow", arguments_.follow, "Go on with what happens, until interrupted");
        app.add_option("-n,--last",
                       arguments_.last,
                       "The newest N events, 0 for all [100, all with --after]")
            ->type_name("N");
        app.add_option("--after", arguments_.after, "Only events with a larger id")
            ->type_name("ID");
        app.add_flag("--output", arguments_.output, "Show the output of scripts and the VM driver");
    }

    void add_module_list() {
        auto& group = *app_.add_subcommand("module", "The configured modules (module list)");
        group.footer("  safectl module list\n  safectl module list -o name\n");
        group.require_subcommand(1);
        auto& app = *group.add_subcommand("list", "The configured modules");
        app.footer("  safectl module list\n  safectl module list -o name\n");
        app.callback([this] { arguments_.command = Command::module_list; });
        add_node(app, "Only modules of this node");
        add_common(app);
    }

    void add_explain() {
        auto& app = add("explain",
                        "What a word of the status table means and what to do about it",
                        "  safectl explain WAIT\n",
                        Command::explain);
        app.add_option(
               "WORD", arguments_.word, "A state, a readiness or a data word; none: list them")
            ->type_name("");
    }

    void add_version() {
        add("version",
            "Versions of safectl and of the agent",
            "  safectl version\n",
            Command::version);
    }

    [[nodiscard]] const CLI::App& chosen() const {
        const CLI::App* app = &app_;
        for (auto subcommands = app->get_subcommands(); !subcommands.empty();
             subcommands = app->get_subcommands()) {
            app = subcommands.front();
        }
        return *app;
    }

    [[nodiscard]] std::string chosen_name() const {
        std::string name;
        for (const auto* app = &chosen(); app != nullptr; app = app->get_parent()) {
            name = name.empty() ? app->get_name() : app->get_name() + " " + name;
        }
        return name;
    }

    [[nodiscard]] EndedEarly usage(const std::string& problem) const {
        const auto name = chosen_name();
        auto words = problem;
        if (const auto ours = words.find(forever_suffix); ours != std::string::npos) {
            words.erase(ours, std::string_view(forever_suffix).size());
        }
        return {ExitCode::usage, {}, fmt::format("{}: {}\nTry: {} --help\n", name, words, name)};
    }

    /// The parser only knows that a command is missing; people want to read which word is none.
    [[nodiscard]] EndedEarly unknown_command(const std::vector<std::string>& words) const {
        static const std::array with_value{"-o", "--format", "--color", "--socket"};
        for (std::size_t index = 0; index < words.size(); ++index) {
            const auto& word = words[index];
            if (std::find(with_value.begin(), with_value.end(), word) != with_value.end()) {
                ++index;
            } else if (!word.starts_with('-') && word != chosen().get_name()) {
                return usage(fmt::format("'{}' is no command", word));
            }
        }
        return usage("a command is missing");
    }

    Parsed finished() {
        const bool is_for_one =
            arguments_.command == Command::verb || arguments_.command == Command::log;
        if (is_for_one && arguments_.modules.size() > 1) {
            return usage(fmt::format("one module at a time, not {}", listed(arguments_.modules)));
        }
        if (no_wait_ && !wait_text_.empty()) {
            return usage("--wait and --no-wait contradict each other");
        }
        if (no_wait_) {
            arguments_.wait = WaitWish::no;
        }
        if (!wait_text_.empty()) {
            arguments_.wait = WaitWish::yes;
            if (wait_text_ != forever) {
                arguments_.wait_limit = *parse_duration(wait_text_);
            }
        }
        if (arguments_.format == Format::name && arguments_.watch) {
            return usage("--watch needs -o table, wide, json or yaml");
        }
        if (arguments_.format == Format::name && arguments_.command == Command::log) {
            return usage("events have no names; use -o table, wide, json or yaml");
        }
        return std::move(arguments_);
    }

    CLI::App app_;
    Arguments arguments_;
    std::string wait_text_;
    bool no_wait_ = false;
};

}  // namespace

Parsed parse_arguments(std::vector<std::string> words, const std::string& default_socket) {
    CommandLine line(default_socket);
    return line.parse(std::move(words));
}

std::string verb_word(v1::Verb verb) {
    for (const auto& description : verb_descriptions) {
        if (description.verb == verb) {
            return description.word;
        }
    }
    return "?";
}

}  // namespace safepair::cli
