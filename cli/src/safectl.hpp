#pragma once

#include "console.hpp"

#include <string>
#include <vector>

namespace safepair::cli {

/// The whole program but for the process: parses, asks the agent, prints; returns the exit code.
/// `words` is the command line without the program's name.
[[nodiscard]] int run(std::vector<std::string> words, Console console);

}  // namespace safepair::cli
