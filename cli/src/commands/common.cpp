#include "commands/commands.hpp"
#include "text.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <ostream>
#include <utility>

namespace safepair::cli {

ExitCode report(Console& console, const base::Error& error) {
    console.err << "safectl: " << printable(error.context.empty() ? error.message() : error.context)
                << "\n"
                << std::flush;
    return exit_code_of(error);
}

std::string known_modules(const Client& client) {
    const auto modules = client.modules();
    if (!modules) {
        return {};
    }
    if (modules->modules().empty()) {
        return "No module is configured: describe one in modules/NAME.yaml of the agent's "
               "configuration";
    }
    std::vector<std::string> words;
    for (const auto& module : modules->modules()) {
        words.push_back(fmt::format("{} ({})", module.name(), fmt::join(module.nodes(), ", ")));
    }
    return fmt::format("Configured: {}", fmt::join(words, ", "));
}

base::Error with_known_names(const Client& client, base::Error error) {
    if (error.code != base::Errc::not_found) {
        return error;
    }
    if (const auto known = known_modules(client); !known.empty()) {
        error.context += ". " + known;
    }
    return error;
}

v1::StatusRequest status_request(const Arguments& arguments) {
    v1::StatusRequest request;
    for (const auto& module : arguments.modules) {
        request.add_modules(module);
    }
    return request;
}

base::Result<void> check_node(const v1::StatusReply& reply, const std::string& node) {
    const auto& nodes = reply.nodes();
    if (node.empty() || std::find(nodes.begin(), nodes.end(), node) != nodes.end()) {
        return {};
    }
    return base::error(base::Errc::not_found,
                       fmt::format("node {} is not in cluster {}. Its nodes: {}",
                                   node,
                                   reply.cluster(),
                                   listed({nodes.begin(), nodes.end()})));
}

}  // namespace safepair::cli
