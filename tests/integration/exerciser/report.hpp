#pragma once

#include <cstdint>
#include <string>

namespace safepair::exerciser {

/// Where in the run this process is; printed with every failure so that it can be repeated.
struct Place {
    std::uint64_t seed = 0;
    unsigned process = 0;
    std::uint64_t step = 0;
    std::string operation;
};

[[nodiscard]] Place& place();

/// Prints "FAILED: ..." with the place and the way to repeat it, and ends this process with 1.
[[noreturn]] void fail(const std::string& what);

/// "EIO (Input/output error)", "success".
[[nodiscard]] std::string errno_text(int error);

}  // namespace safepair::exerciser
