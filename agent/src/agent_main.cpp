#include "agent_main.hpp"

#include "agent.hpp"

#include <CLI/CLI.hpp>
#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>

#include <array>
#include <csignal>
#include <sstream>
#include <string>

#include <sysexits.h>
#include <unistd.h>

namespace safepair::agent {

int agent_main(int argc, char** argv, const replica::FolderFaults& faults) {
    AgentOptions options;
    options.faults = faults;
    std::array<char, 256> host{};
    gethostname(host.data(), host.size() - 1);
    options.node = host.data();
    std::string level = "info";

    CLI::App app("Safepair agent: keeps this node's modules running, here or on the other node.",
                 "safe-agent");
    app.add_option("--config", options.config, "Directory of cluster.yaml and modules/*.yaml")
        ->capture_default_str();
    app.add_option("--node", options.node, "This node's name in cluster.yaml")
        ->capture_default_str();
    app.add_option("--state", options.state, "Directory of the records that survive a reboot")
        ->capture_default_str();
    app.add_option("--runtime", options.runtime, "Directory of the control socket")
        ->capture_default_str();
    app.add_option("--identity",
                   options.identity,
                   "Directory of ca.crt, node.crt, node.key and heartbeat.key")
        ->capture_default_str();
    app.add_option("--guard", options.guard, "The safe-guard executable; default: beside this one");
    app.add_option("--log-level", level, "debug, info, warn or error")->capture_default_str();
    app.set_version_flag("--version", SAFEPAIR_VERSION);
    CLI11_PARSE(app, argc, argv);

    spdlog::set_default_logger(spdlog::stderr_color_mt("safe-agent"));
    spdlog::set_level(spdlog::level::from_str(level));
    spdlog::set_pattern("%Y-%m-%dT%H:%M:%S.%e %^%l%$ %v");
    spdlog::flush_on(spdlog::level::info);
    // A peer that goes while we write is an error code, not a signal.
    std::signal(SIGPIPE, SIG_IGN);

    Agent agent(options);
    if (const auto started = agent.start(); !started) {
        const auto& error = started.error();
        if (error.code != base::Errc::bad_input) {
            spdlog::error("{}", error.message());
            return 1;
        }
        // One mistake per line, each complete by itself.
        std::istringstream mistakes(error.context);
        for (std::string line; std::getline(mistakes, line);) {
            spdlog::error("{}", line);
        }
        return EX_CONFIG;
    }
    agent.run();
    return 0;
}

}  // namespace safepair::agent
