// The whole program against an agent in the same process, over a Unix socket.
#include "safectl.hpp"

#include "cli_support.hpp"
#include "support/catch.hpp"

#include <sys/stat.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

namespace {

using namespace safepair;
using namespace safepair::cli::tests;
using nlohmann::json;

v1::StatusReply pair_reply(v1::Role here,
                           v1::Readiness here_ready,
                           v1::Role there,
                           v1::Readiness there_ready) {
    return reply_of(
        {row("vm1", "node1", here, here_ready), row("vm1", "node2", there, there_ready)});
}

v1::StatusReply in_sync() {
    return pair_reply(v1::ROLE_PRIM, v1::READINESS_READY, v1::ROLE_SECOND, v1::READINESS_READY);
}

v1::StatusReply taken_over() {
    return pair_reply(v1::ROLE_STOP, v1::READINESS_NOT_READY, v1::ROLE_ALONE, v1::READINESS_READY);
}

v1::CommandReply answer(v1::CommandReply::Outcome outcome,
                        const std::string& message,
                        const v1::StatusReply& status) {
    v1::CommandReply reply;
    reply.set_outcome(outcome);
    reply.set_message(message);
    *reply.mutable_status() = status.modules(0);
    return reply;
}

}  // namespace

TEST_CASE("safectl: status prints the agent's table and exits 0") {
    FakeAgent agent;
    agent.status = syncing_reply();
    const auto ran = agent.run({"status"});
    CHECK(ran.code == 0);
    CHECK(ran.err.empty());
    CHECK_THAT(ran.out,
               Catch::StartsWith("CLUSTER prod   2 nodes") && Catch::Contains("syncing 42 %"));
    CHECK(json::parse(agent.run({"status", "-o", "json"}).out)["modules"].size() == 2);
    CHECK(agent.run({"status", "-o", "name"}).out == "vm1\n");
    const auto one = agent.run({"status", "vm1", "--node", "node2", "-o", "json"});
    CHECK(json::parse(one.out)["modules"].size() == 1);
}

TEST_CASE("safectl: without an agent every command exits 69 and says what to do") {
    fix_environment();
    const safepair::tests::ScratchDirectory scratch;
    const auto socket = (scratch / "none.sock").string();
    for (const auto* command : {"status", "log", "version"}) {
        DYNAMIC_SECTION(command) {
            const auto ran = run_safectl({command, "--socket", socket});
            CHECK(ran.code == 69);
            CHECK_THAT(ran.err,
                       Catch::Contains(socket + " does not exist") &&
                           Catch::Contains("systemctl status safe-agent") &&
                           Catch::Contains("--socket"));
        }
    }
    CHECK(run_safectl({"start", "vm1", "--socket", socket}).code == 69);
    CHECK(run_safectl({"module", "list", "--socket", socket}).code == 69);
}

TEST_CASE("safectl: a socket that a stopped agent left behind is told from a missing one") {
    fix_environment();
    const safepair::tests::ScratchDirectory scratch;
    const auto socket = (scratch / "s").string();
    {
        FakeAgent agent;
        // The server unlinks its own socket, a hard link to it stays.
        REQUIRE(link(agent.socket().c_str(), socket.c_str()) == 0);
    }
    const auto ran = run_safectl({"status", "--socket", socket});
    CHECK(ran.code == 69);
    CHECK_THAT(ran.err, Catch::Contains("no agent listens at"));
}

TEST_CASE("safectl: a socket that is not for this user exits 77") {
    FakeAgent agent;
    REQUIRE(chmod(agent.socket().c_str(), 0) == 0);
    // Permissions do not bind the superuser.
    constexpr uid_t nobody = 65'534;
    const bool is_superuser = geteuid() == 0;
    if (is_superuser) {
        REQUIRE(seteuid(nobody) == 0);
    }
    const auto ran = agent.run({"status"});
    if (is_superuser) {
        REQUIRE(seteuid(0) == 0);
    }
    CHECK(ran.code == 77);
    CHECK_THAT(ran.err, Catch::Contains("no permission") && Catch::Contains("sudo"));
}

TEST_CASE("safectl: a path that no socket can have is a usage error") {
    fix_environment();
    const auto ran = run_safectl({"status", "--socket", "/" + std::string(200, 'x')});
    CHECK(ran.code == 64);
    CHECK_THAT(ran.err, Catch::Contains("the system allows 107"));
}

TEST_CASE("safectl: an unknown module or node exits 1 and names those that exist") {
    FakeAgent agent;
    agent.status = in_sync();
    agent.module_list = two_modules();
    for (const auto& words :
         {std::vector<std::string>{"status", "vm2"}, {"stop", "vm2"}, {"log", "vm2"}}) {
        const auto ran = agent.run(words);
        CHECK(ran.code == 1);
        CHECK_THAT(ran.err,
                   Catch::Contains("vm2 is not configured") &&
                       Catch::Contains("Configured: vm1 (node1, node2), web (node1, node2)"));
    }
    for (const auto& words : {std::vector<std::string>{"status", "--node", "node9"},
                              {"stop", "vm1", "--node", "node9"}}) {
        const auto ran = agent.run(words);
        CHECK(ran.code == 1);
        CHECK_THAT(
            ran.err,
            Catch::Contains("node node9 is not in cluster prod. Its nodes: node1 and node2"));
    }
    CHECK(agent.commands == 0);
}

TEST_CASE("safectl: a verb without a module is a usage error that lists the modules") {
    FakeAgent agent;
    agent.module_list = two_modules();
    const auto ran = agent.run({"stop"});
    CHECK(ran.code == 64);
    CHECK(ran.err ==
          "safectl stop: which module? safectl stop MODULE. Configured: vm1 (node1, node2), web "
          "(node1, node2)\n");
    CHECK(agent.commands == 0);
}

TEST_CASE("safectl: a verb sends what was asked and by whom") {
    FakeAgent agent;
    agent.status = in_sync();
    agent.command_reply = answer(v1::CommandReply::OUTCOME_DONE, "stopped", taken_over());
    setenv("SUDO_USER", "alice", 1);
    const auto ran = agent.run({"stop", "vm1", "--node", "node1", "--force"});
    unsetenv("SUDO_USER");
    CHECK(ran.code == 0);
    CHECK(ran.out == "vm1 on node1: stopped (STOP NotReady)\n");
    CHECK(ran.err.empty());
    CHECK(agent.asked.module() == "vm1");
    CHECK(agent.asked.node() == "node1");
    CHECK(agent.asked.verb() == v1::VERB_STOP);
    CHECK(agent.asked.force());
    CHECK_FALSE(agent.asked.force_inconsistent());
    CHECK_THAT(agent.asked.actor(), Catch::StartsWith("alice ("));
}

TEST_CASE("safectl: an answer other than done has its exit code and its reason on stderr") {
    struct Row {
        v1::CommandReply::Outcome outcome;
        int code;
        const char* word;
    };

    for (const auto& one : {Row{v1::CommandReply::OUTCOME_REFUSED, 1, "refused"},
                            Row{v1::CommandReply::OUTCOME_UNSAFE, 107, "unsafe"},
                            Row{v1::CommandReply::OUTCOME_FAILED, 1, "failed"},
                            Row{v1::CommandReply::OUTCOME_WAITS, 75, "waits"}}) {
        DYNAMIC_SECTION(one.word) {
            FakeAgent agent;
            agent.status = in_sync();
            agent.command_reply =
                answer(one.outcome, "because; try safectl stop MODULE --force", agent.status);
            // Waiting changes nothing: it is over.
            for (const auto* wait : {"--wait", "--no-wait"}) {
                const auto ran = agent.run({"stop", "vm1", wait});
                CHECK(ran.code == one.code);
                CHECK(ran.out.empty());
                CHECK_THAT(
                    ran.err,
                    Catch::EndsWith(
                        "safectl: stop vm1 on node1: because; try safectl stop vm1 --force\n"));
            }
            const auto ran = agent.run({"stop", "vm1", "-o", "json"});
            const auto record = json::parse(ran.out);
            CHECK(record["outcome"] == one.word);
            CHECK(record["exit_code"] == one.code);
            CHECK(record["status"]["role"] == "PRIM");
        }
    }
}

TEST_CASE("safectl: --wait returns when the module got there") {
    FakeAgent agent;
    agent.status = in_sync();
    agent.command_reply = answer(v1::CommandReply::OUTCOME_DONE, "handed over", in_sync());
    agent.watched = {
        in_sync(),
        pair_reply(
            v1::ROLE_SECOND, v1::READINESS_TRANSIENT, v1::ROLE_PRIM, v1::READINESS_TRANSIENT),
        pair_reply(v1::ROLE_SECOND, v1::READINESS_READY, v1::ROLE_PRIM, v1::READINESS_READY)};
    const auto ran = agent.run({"swap", "vm1", "--wait"});
    CHECK(ran.code == 0);
    CHECK(ran.out == "vm1 on node1: handed over: SECOND Ready on node1, PRIM Ready on node2\n");
    CHECK_THAT(ran.err,
               Catch::Contains("vm1: SECOND Transient on node1, PRIM Transient on node2\n"));
}

TEST_CASE("safectl: on a terminal it waits by itself and draws one line of progress") {
    FakeAgent agent;
    agent.status = in_sync();
    agent.command_reply = answer(v1::CommandReply::OUTCOME_DONE, "stopped", taken_over());
    agent.watched = {in_sync(), taken_over()};
    setenv("NO_COLOR", "1", 1);
    const auto ran = agent.run({"stop", "vm1"}, {true, ""});
    unsetenv("NO_COLOR");
    CHECK(ran.code == 0);
    CHECK(ran.out == "vm1 on node1: stopped: STOP NotReady on node1, ALONE Ready on node2\n");
    CHECK_THAT(ran.err,
               Catch::Contains("\r\033[K↻ vm1: PRIM Ready on node1, SECOND Ready on node2") &&
                   Catch::EndsWith("\r\033[K"));
    CHECK_THAT(ran.err, !Catch::Contains("\033[3"));
}

TEST_CASE("safectl: --wait reports what the module waits for and exits 75") {
    FakeAgent agent;
    agent.status =
        pair_reply(v1::ROLE_STOP, v1::READINESS_NOT_READY, v1::ROLE_STOP, v1::READINESS_NOT_READY);
    agent.command_reply = answer(v1::CommandReply::OUTCOME_DONE, "starts", agent.status);
    auto blocked =
        pair_reply(v1::ROLE_WAIT, v1::READINESS_NOT_READY, v1::ROLE_STOP, v1::READINESS_NOT_READY);
    blocked.mutable_modules(0)->set_text(
        "waits for node2. Start it there, or: safectl stop MODULE --node node1");
    agent.watched = {blocked};
    const auto ran = agent.run({"start", "vm1", "--wait"});
    CHECK(ran.code == 75);
    CHECK_THAT(ran.err,
               Catch::EndsWith("safectl: start vm1 on node1: waits for node2. Start it there, or: "
                               "safectl stop vm1 --node node1\n"));
}

TEST_CASE("safectl: --wait that ends elsewhere exits 1") {
    FakeAgent agent;
    agent.status = in_sync();
    agent.command_reply = answer(v1::CommandReply::OUTCOME_DONE, "starts", agent.status);
    agent.watched = {taken_over()};
    const auto ran = agent.run({"restart", "vm1", "--wait"});
    CHECK(ran.code == 1);
    CHECK_THAT(ran.err,
               Catch::Contains("STOP NotReady on node1, ALONE Ready on node2 instead of the "
                               "service restarted on node1"));
}

TEST_CASE("safectl: --wait with a limit exits 124 when the module is not there by then") {
    FakeAgent agent;
    agent.status = in_sync();
    agent.command_reply = answer(v1::CommandReply::OUTCOME_DONE, "handed over", agent.status);
    agent.watched = {in_sync()};
    const auto ran = agent.run({"swap", "vm1", "--wait=300ms", "-o", "json"});
    CHECK(ran.code == 124);
    CHECK(json::parse(ran.out)["outcome"] == "timed-out");
    CHECK_THAT(ran.err,
               Catch::Contains("PRIM Ready on node2, SECOND Ready on node1") &&
                   Catch::Contains("safectl status vm1 --watch"));
}

TEST_CASE("safectl: an agent that goes while it is waited for exits 69") {
    FakeAgent agent;
    agent.status = in_sync();
    agent.command_reply = answer(v1::CommandReply::OUTCOME_DONE, "handed over", agent.status);
    agent.watched = {in_sync()};
    agent.watch_ends = true;
    const auto ran = agent.run({"swap", "vm1", "--wait"});
    CHECK(ran.code == 69);
    CHECK_THAT(ran.err, Catch::Contains("swap vm1: the agent ended the status stream"));
}

TEST_CASE("safectl: errors of the call itself have their own exit codes") {
    struct Row {
        grpc::StatusCode code;
        int exit_code;
    };

    for (const auto& one : {Row{grpc::StatusCode::UNAVAILABLE, 69},
                            Row{grpc::StatusCode::DEADLINE_EXCEEDED, 124},
                            Row{grpc::StatusCode::NOT_FOUND, 1},
                            Row{grpc::StatusCode::FAILED_PRECONDITION, 1},
                            Row{grpc::StatusCode::PERMISSION_DENIED, 77},
                            Row{grpc::StatusCode::ALREADY_EXISTS, 108},
                            Row{grpc::StatusCode::RESOURCE_EXHAUSTED, 75},
                            Row{grpc::StatusCode::UNIMPLEMENTED, 1},
                            Row{grpc::StatusCode::INTERNAL, 1}}) {
        DYNAMIC_SECTION("gRPC status " << one.code) {
            FakeAgent agent;
            agent.status = in_sync();
            agent.command_status = {one.code, "node2 did not answer"};
            const auto ran = agent.run({"start", "vm1"});
            CHECK(ran.code == one.exit_code);
            CHECK(ran.out.empty());
            CHECK_THAT(ran.err, Catch::StartsWith("safectl: start vm1"));
        }
    }
}

TEST_CASE("safectl: --dry-run says what it would ask and asks nothing") {
    FakeAgent agent;
    agent.status =
        pair_reply(v1::ROLE_SECOND, v1::READINESS_READY, v1::ROLE_PRIM, v1::READINESS_READY);
    const auto ran = agent.run({"swap", "vm1", "--dry-run"});
    CHECK(ran.code == 0);
    CHECK(ran.out ==
          "Would ask node2 to: swap vm1\n"
          "Now:      SECOND Ready on node1, PRIM Ready on node2\n"
          "Aims at:  PRIM Ready on node1, SECOND Ready on node2\n"
          "Nothing was done.\n");
    const auto record =
        json::parse(agent.run({"as-secondary", "vm1", "--full", "--dry-run", "-o", "json"}).out);
    CHECK(record["node"] == "node1");
    CHECK(record["full"] == true);
    CHECK(record["current"].size() == 2);
    CHECK(agent.commands == 0);
}

TEST_CASE("safectl: giving up data is confirmed by name on a terminal, and only there") {
    FakeAgent agent;
    agent.status = taken_over();
    agent.status.mutable_modules(0)->set_data("inconsistent");
    agent.command_reply = answer(v1::CommandReply::OUTCOME_DONE, "declared primary", agent.status);
    for (const auto* typed : {"", "yes\n", "vm\n"}) {
        const auto ran =
            agent.run({"as-primary", "vm1", "--force-inconsistent", "--no-wait"}, {true, typed});
        CHECK(ran.code == 1);
        CHECK_THAT(ran.err,
                   Catch::Contains("half old, half new") && Catch::EndsWith("nothing was done\n"));
        CHECK(agent.run({"as-secondary", "vm1", "--discard-local", "--no-wait"}, {true, typed})
                  .code == 1);
    }
    CHECK(agent.commands == 0);
    CHECK(agent.run({"as-primary", "vm1", "--force-inconsistent", "--no-wait"}, {true, "vm1\n"})
              .code == 0);
    CHECK(agent.asked.force_inconsistent());
    CHECK(agent.run({"as-primary", "vm1", "--force-inconsistent", "--no-wait", "--yes"}, {true, ""})
              .code == 0);
    CHECK(agent.run({"as-primary", "vm1", "--force-inconsistent"}).code == 0);
    CHECK(agent.commands == 3);
}

TEST_CASE("safectl: status --watch prints a change once, and each as an object for programs") {
    FakeAgent agent;
    auto later = in_sync();
    later.set_time(noon + second);
    agent.watched = {in_sync(), later, taken_over()};
    agent.watch_ends = true;
    const auto ran = agent.run({"status", "--watch", "-o", "json"});
    // The agent ended it.
    CHECK(ran.code == 69);
    CHECK(std::count(ran.out.begin(), ran.out.end(), '\n') == 2);
    const auto lines = ran.out.find('\n');
    CHECK(json::parse(ran.out.substr(0, lines))["modules"][0]["role"] == "PRIM");
    CHECK(json::parse(ran.out.substr(lines))["modules"][0]["role"] == "STOP");
    const auto table = agent.run({"status", "-w", "--no-headers"});
    CHECK_THAT(table.out, Catch::Contains("\n\nvm1  node1  STOP"));
}

TEST_CASE("safectl: health answers like a monitoring plugin") {
    FakeAgent agent;
    agent.status = in_sync();
    agent.status.mutable_modules(0)->set_service("running");
    auto ran = agent.run({"health"});
    CHECK(ran.code == 0);
    CHECK(ran.out == "OK - vm1: PRIM Ready on node1, SECOND Ready on node2\n");
    agent.status = syncing_reply();
    CHECK(agent.run({"health", "vm1"}).code == 1);
    agent.status =
        pair_reply(v1::ROLE_WAIT, v1::READINESS_NOT_READY, v1::ROLE_STOP, v1::READINESS_NOT_READY);
    ran = agent.run({"health", "-o", "json"});
    CHECK(ran.code == 2);
    CHECK(json::parse(ran.out)["status"] == "CRITICAL");
    agent.stop();
    ran = agent.run({"health"});
    CHECK(ran.code == 3);
    CHECK_THAT(ran.out, Catch::StartsWith("UNKNOWN - no agent"));
    CHECK(ran.err.empty());
}

TEST_CASE("safectl: log asks for the newest events and streams one object per line") {
    FakeAgent agent;
    for (const auto id : {41U, 42U}) {
        v1::EventRecord record;
        record.set_id(id);
        record.set_time(noon);
        record.set_module("vm1");
        record.set_node("node2");
        record.set_kind("note");
        record.set_text("n");
        agent.log.push_back(record);
    }
    auto ran = agent.run({"log", "vm1", "--node", "node2", "-o", "json"});
    CHECK(ran.code == 0);
    CHECK(json::parse(ran.out.substr(0, ran.out.find('\n')))["id"] == 41);
    CHECK(std::count(ran.out.begin(), ran.out.end(), '\n') == 2);
    CHECK(agent.log_asked.module() == "vm1");
    CHECK(agent.log_asked.node() == "node2");
    CHECK(agent.log_asked.last() == 100);
    CHECK_FALSE(agent.log_asked.follow());
    ran = agent.run({"log", "-f", "--after", "41"});
    CHECK(agent.log_asked.after() == 41);
    CHECK(agent.log_asked.last() == 0);
    CHECK(agent.log_asked.follow());
    static_cast<void>(agent.run({"log", "-n", "7", "--after", "41"}));
    CHECK(agent.log_asked.last() == 7);
    agent.log.clear();
    agent.module_list = two_modules();
    ran = agent.run({"log", "vm1"});
    CHECK(ran.code == 0);
    CHECK(ran.err == "No events.\n");
}

TEST_CASE("safectl: module list and version") {
    FakeAgent agent;
    agent.module_list = two_modules();
    CHECK("\n" + agent.run({"module", "list"}).out == R"(
MODULE  KIND     NODES        BOOT  FOLDER    FILE
vm1     vm       node1,node2  on    /srv/vm1  /etc/safepair/modules/vm1.yaml
web     service  node1,node2  on    /srv/web  /etc/safepair/modules/web.yaml
)");
    CHECK(agent.run({"module", "list", "-o", "name"}).out == "vm1\nweb\n");
    CHECK(agent.run({"module", "list", "--node", "node3", "-o", "json"}).out ==
          "{\n  \"modules\": []\n}\n");
    CHECK(json::parse(agent.run({"module", "list", "-o", "json"}).out)["modules"][1]["kind"] ==
          "service");
    CHECK(agent.run({"version"}).out == std::string("safectl     ") + SAFEPAIR_VERSION +
                                            "\nsafe-agent  0.1.0   node node1, wire 1 to 2\n");
    CHECK(json::parse(agent.run({"version", "-o", "json"}).out)["agent"]["wire_max"] == 2);
    agent.module_list.Clear();
    const auto none = agent.run({"module", "list"});
    CHECK(none.code == 0);
    CHECK_THAT(none.err, Catch::Contains("No module is configured: describe one in"));
}

TEST_CASE("safectl: explain knows the words of the table") {
    fix_environment();
    CHECK_THAT(run_safectl({"explain", "wait"}).out, Catch::StartsWith("WAIT: "));
    CHECK_THAT(run_safectl({"explain"}).out,
               Catch::Contains("SECOND: ") && Catch::Contains("inconsistent: "));
    CHECK(json::parse(run_safectl({"explain", "PRIM", "-o", "json"}).out).contains("PRIM"));
    const auto unknown = run_safectl({"explain", "frob"});
    CHECK(unknown.code == 64);
    CHECK_THAT(unknown.err, Catch::Contains("'frob' is no word"));
}

TEST_CASE("safectl: the environment names the socket, an option overrules it") {
    FakeAgent agent;
    agent.status = in_sync();
    setenv("SAFEPAIR_SOCKET", agent.socket().c_str(), 1);
    CHECK(run_safectl({"status"}).code == 0);
    CHECK(run_safectl({"status", "--socket", "/nonexistent.sock"}).code == 69);
    unsetenv("SAFEPAIR_SOCKET");
}

TEST_CASE("safectl: colour only on a terminal, unless asked for or forbidden") {
    FakeAgent agent;
    agent.status = in_sync();
    const auto has_color = [&](std::vector<std::string> words, bool terminal) {
        words.insert(words.begin(), "status");
        return agent.run(words, {terminal, ""}).out.find("\033[") != std::string::npos;
    };
    CHECK(has_color({}, true));
    CHECK_FALSE(has_color({}, false));
    CHECK_FALSE(has_color({"--color", "never"}, true));
    CHECK_FALSE(has_color({"--no-color"}, true));
    CHECK(has_color({"--color", "always"}, false));
    setenv("NO_COLOR", "1", 1);
    CHECK_FALSE(has_color({}, true));
    CHECK(has_color({"--color", "always"}, true));
    unsetenv("NO_COLOR");
}
