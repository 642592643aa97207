#pragma once

#include "arguments.hpp"
#include "client.hpp"
#include "console.hpp"
#include "exit_code.hpp"

#include <string>

/// One function per command: asks, prints, returns the exit code.
namespace safepair::cli {

[[nodiscard]] ExitCode run_verb(const Arguments& arguments, Console& console);
[[nodiscard]] ExitCode run_status(const Arguments& arguments, Console& console);
/// 0 to 3; everything that prevents an answer is 3.
[[nodiscard]] int run_health(const Arguments& arguments, Console& console);
[[nodiscard]] ExitCode run_log(const Arguments& arguments, Console& console);
[[nodiscard]] ExitCode run_module_list(const Arguments& arguments, Console& console);
[[nodiscard]] ExitCode run_explain(const Arguments& arguments, Console& console);
[[nodiscard]] ExitCode run_version(const Arguments& arguments, Console& console);

/// "safectl: ..." on stderr, and the exit code of the error.
ExitCode report(Console& console, const base::Error& error);

/// not_found with the names that exist behind it; other errors as they are.
[[nodiscard]] base::Error with_known_names(const Client& client, base::Error error);

/// "Configured: vm1 (node1, node2), vm2 (...)", or what to do when there is none; empty when the
/// agent does not say.
[[nodiscard]] std::string known_modules(const Client& client);

/// The request for what the command line named.
[[nodiscard]] v1::StatusRequest status_request(const Arguments& arguments);

/// Refuses a --node that is not in the cluster, naming those that are.
[[nodiscard]] base::Result<void> check_node(const v1::StatusReply& reply, const std::string& node);

}  // namespace safepair::cli
