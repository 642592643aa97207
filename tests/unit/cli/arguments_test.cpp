#include "arguments.hpp"

#include "support/catch.hpp"

namespace {

using namespace safepair;
using namespace safepair::cli;

constexpr const char* socket_path = "/run/test.sock";

Arguments accepted(const std::vector<std::string>& words) {
    const auto parsed = parse_arguments(words, socket_path);
    const auto* ended = std::get_if<EndedEarly>(&parsed);
    INFO((ended == nullptr ? std::string{} : ended->err + ended->out));
    REQUIRE(ended == nullptr);
    return std::get<Arguments>(parsed);
}

EndedEarly ended(const std::vector<std::string>& words) {
    const auto parsed = parse_arguments(words, socket_path);
    REQUIRE(std::holds_alternative<EndedEarly>(parsed));
    return std::get<EndedEarly>(parsed);
}

}  // namespace

TEST_CASE("Arguments: every verb is known by its word and sent as its own") {
    struct Row {
        const char* word;
        v1::Verb verb;
    };

    for (const auto& row : {Row{"start", v1::VERB_START},
                            Row{"stop", v1::VERB_STOP},
                            Row{"restart", v1::VERB_RESTART},
                            Row{"swap", v1::VERB_SWAP},
                            Row{"as-primary", v1::VERB_AS_PRIMARY},
                            Row{"prim", v1::VERB_AS_PRIMARY},
                            Row{"as-secondary", v1::VERB_AS_SECONDARY},
                            Row{"second", v1::VERB_AS_SECONDARY},
                            Row{"forcestop", v1::VERB_FORCESTOP}}) {
        DYNAMIC_SECTION(row.word) {
            const auto arguments = accepted({row.word, "vm1", "--node", "node2", "--dry-run"});
            CHECK(arguments.command == Command::verb);
            CHECK(arguments.verb == row.verb);
            CHECK(arguments.modules == std::vector<std::string>{"vm1"});
            CHECK(arguments.node == "node2");
            CHECK(arguments.dry_run);
            CHECK(arguments.wait == WaitWish::automatic);
            CHECK_FALSE(arguments.force);
        }
    }
}

TEST_CASE("Arguments: options that overrule the agent belong to one verb each") {
    CHECK(accepted({"stop", "vm1", "--force"}).force);
    CHECK(accepted({"as-primary", "vm1", "--force-inconsistent", "--yes"}).force_inconsistent);
    CHECK(accepted({"as-primary", "vm1", "--force-inconsistent", "-y"}).yes);
    const auto follower = accepted({"as-secondary", "vm1", "--full", "--discard-local"});
    CHECK(follower.full);
    CHECK(follower.discard_local);
    for (const auto& words : {std::vector<std::string>{"start", "vm1", "--force"},
                              {"swap", "vm1", "--force"},
                              {"stop", "vm1", "--full"},
                              {"as-primary", "vm1", "--discard-local"},
                              {"as-secondary", "vm1", "--force-inconsistent"}}) {
        CHECK(ended(words).code == ExitCode::usage);
    }
}

TEST_CASE("Arguments: --wait takes a duration, and leaves the module behind it alone") {
    struct Row {
        std::vector<std::string> words;
        WaitWish wait;
        int milliseconds;  // -1: no limit
        const char* because;
    };

    const std::vector<Row> rows{
        {{"start", "vm1"}, WaitWish::automatic, -1, "nothing was asked"},
        {{"start", "vm1", "--wait"}, WaitWish::yes, -1, "for ever"},
        {{"start", "--wait", "vm1"}, WaitWish::yes, -1, "vm1 is no duration"},
        {{"start", "vm1", "--wait=30s"}, WaitWish::yes, 30'000, "attached"},
        {{"start", "--wait", "1m30s", "vm1"}, WaitWish::yes, 90'000, "detached"},
        {{"start", "vm1", "--wait=500ms"}, WaitWish::yes, 500, "short"},
        {{"start", "vm1", "--no-wait"}, WaitWish::no, -1, "refused"},
    };
    for (const auto& row : rows) {
        DYNAMIC_SECTION(row.because) {
            const auto arguments = accepted(row.words);
            CHECK(arguments.wait == row.wait);
            CHECK(arguments.modules == std::vector<std::string>{"vm1"});
            CHECK(arguments.wait_limit.has_value() == (row.milliseconds >= 0));
            if (arguments.wait_limit) {
                CHECK(arguments.wait_limit->count() == row.milliseconds);
            }
        }
    }
}

TEST_CASE("Arguments: reading commands have their options") {
    const auto status = accepted({"status", "vm1", "web", "-w", "-o", "json"});
    CHECK(status.command == Command::status);
    CHECK(status.modules == std::vector<std::string>{"vm1", "web"});
    CHECK(status.watch);
    CHECK(status.format == Format::json);
    CHECK(status.socket == socket_path);

    const auto log =
        accepted({"log", "-f", "-n", "5", "--module", "vm1", "--after", "4711", "--output"});
    CHECK(log.command == Command::log);
    CHECK(log.follow);
    CHECK(log.output);
    CHECK(log.last == 5U);
    CHECK(log.after == 4711U);
    CHECK(log.modules == std::vector<std::string>{"vm1"});
    CHECK(accepted({"events", "vm1"}).command == Command::log);

    CHECK(accepted({"health"}).command == Command::health);
    CHECK(accepted({"module", "list", "-o", "name"}).command == Command::module_list);
    CHECK(accepted({"version"}).command == Command::version);
    CHECK(accepted({"explain", "WAIT"}).word == "WAIT");
}

TEST_CASE("Arguments: common options stand before or behind the command") {
    for (const auto& words :
         {std::vector<std::string>{"--socket",
                                   "/s",
                                   "-o",
                                   "yaml",
                                   "--color",
                                   "never",
                                   "--no-headers",
                                   "--ascii",
                                   "status"},
          {"status", "--socket", "/s", "--format=yaml", "--no-color", "--no-headers", "--ascii"}}) {
        const auto arguments = accepted(words);
        CHECK(arguments.command == Command::status);
        CHECK(arguments.socket == "/s");
        CHECK(arguments.format == Format::yaml);
        CHECK(arguments.color == ColorWish::never);
        CHECK_FALSE(arguments.headers);
        CHECK(arguments.ascii);
    }
    CHECK(accepted({"status", "--no-color"}).color == ColorWish::never);
    CHECK(accepted({"status", "--color", "always"}).color == ColorWish::always);
}

TEST_CASE("Arguments: usage errors exit 64 and say what is wrong and where to look") {
    struct Row {
        std::vector<std::string> words;
        const char* says;
    };

    const std::vector<Row> rows{
        {{}, "Examples:"},
        {{"frob"}, "'frob' is no command"},
        {{"-o", "json", "frob"}, "'frob' is no command"},
        {{"-o", "json"}, "a command is missing"},
        {{"module"}, "safectl module: a command is missing"},
        {{"module", "frob"}, "'frob' is no command"},
        {{"module", "list", "--frob"}, "Try: safectl module list --help"},
        {{"status", "-o", "xml"}, "'xml' is none of json, name, table, wide and yaml"},
        {{"status", "--color", "red"}, "'red' is none of always, auto and never"},
        {{"status", "--wait"}, "not expected: --wait\n"},
        {{"status", "--watch", "-o", "name"}, "--watch needs"},
        {{"status", "--node", ""}, "the node's name is empty"},
        {{"log", "-o", "name"}, "events have no names"},
        {{"log", "-n", "many"}, "--last"},
        {{"log", "a", "b"}, "one module at a time, not a and b"},
        {{"start", "vm1", "--node"}, "--node"},
        {{"start", "vm1", "--wait=30"}, "'30' is no duration"},
        {{"start", "vm1", "--wait", "--no-wait"}, "contradict"},
        {{"start", "--module", "vm1"}, "--module"},
        {{"stop", "vm1", "web"}, "one module at a time, not vm1 and web"},
        {{"restart", "vm1", "--frob"}, "Try: safectl restart --help"},
        {{"swap", "vm1", "node1"}, "one module at a time"},
        {{"as-primary", "vm1", "-f"}, "-f"},
        {{"as-secondary", "vm1", "--ful"}, "--ful"},
        {{"forcestop", "vm1", "--force"}, "--force"},
        {{"health", "--watch"}, "--watch"},
        {{"version", "vm1"}, "vm1"},
        {{"explain", "WAIT", "STOP"}, "STOP"},
    };
    for (const auto& row : rows) {
        DYNAMIC_SECTION(row.says << " " << row.words.size()) {
            const auto result = ended(row.words);
            CHECK(result.code == ExitCode::usage);
            CHECK(result.out.empty());
            CHECK_THAT(result.err, Catch::Contains(row.says));
        }
    }
}

TEST_CASE("Arguments: help goes to stdout, exits 0, and starts with examples") {
    for (const auto* word : {"start",
                             "stop",
                             "restart",
                             "swap",
                             "as-primary",
                             "as-secondary",
                             "forcestop",
                             "status",
                             "health",
                             "log",
                             "explain",
                             "version"}) {
        DYNAMIC_SECTION(word) {
            const auto help = ended({word, "--help"});
            CHECK(help.code == ExitCode::ok);
            CHECK(help.err.empty());
            const auto examples = help.out.find("Examples:\n  safectl " + std::string(word));
            REQUIRE(examples != std::string::npos);
            CHECK(examples < help.out.find("Usage: safectl " + std::string(word)));
        }
    }
    CHECK_THAT(ended({"--help"}).out, Catch::Contains("safectl status --watch"));
    CHECK_THAT(ended({"module", "list", "--help"}).out,
               Catch::Contains("Usage: safectl module list"));
    CHECK(ended({"--version"}).out == std::string("safectl ") + SAFEPAIR_VERSION + "\n");
}

TEST_CASE("Arguments: nothing behind -- is an option") {
    const auto arguments = accepted({"stop", "--", "vm1"});
    CHECK(arguments.modules == std::vector<std::string>{"vm1"});
    CHECK(ended({"stop", "vm1", "--", "--wait"}).code == ExitCode::usage);
}
