#include "report.hpp"

#include <cstdio>
#include <cstring>

#include <unistd.h>

namespace safepair::exerciser {

Place& place() {
    static Place current;
    return current;
}

void fail(const std::string& what) {
    const auto& at = place();
    const auto text = "FAILED: " + what + "\n  seed " + std::to_string(at.seed) + ", process " +
                      std::to_string(at.process) + ", step " + std::to_string(at.step) +
                      (at.operation.empty() ? "" : ", doing " + at.operation) +
                      "\n  repeat with --seed " + std::to_string(at.seed) + " --operations " +
                      std::to_string(at.step + 1) + " and the same --processes\n";
    // One write, because several processes may fail at once.
    [[maybe_unused]] const auto written = ::write(STDOUT_FILENO, text.data(), text.size());
    _exit(1);
}

std::string errno_text(int error) {
    return error == 0 ? "success"
                      : std::string(strerrorname_np(error)) + " (" + strerrordesc_np(error) + ")";
}

}  // namespace safepair::exerciser
