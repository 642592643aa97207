#include "safectl.hpp"

#include <cstdlib>
#include <string>
#include <vector>

int main(int argc, char** argv) {
    // The library writes its own diagnostics to stderr; an operator needs our messages only.
    setenv("GRPC_VERBOSITY", "NONE", 0);
    const std::vector<std::string> words(argv + (argc > 0 ? 1 : 0), argv + argc);
    return safepair::cli::run(words, safepair::cli::process_console());
}
