/// safe-guard: stops what an agent runs when the agent gives no sign of life in time (R4).
#include "guard_loop.hpp"

#include <safepair/base/unique_fd.hpp>

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <string_view>

#include <linux/close_range.h>
#include <sys/resource.h>
#include <unistd.h>

namespace {

constexpr const char* usage = "usage: safe-guard --page PATH [--ready-fd NUMBER] [--detach]\n";

struct Arguments {
    safepair::guard::LoopOptions loop;
    bool detach = false;
    bool valid = true;
};

Arguments parse(int count, char** values) {
    Arguments arguments;
    for (int i = 1; i < count; ++i) {
        const std::string_view argument = values[i];
        const bool more = i + 1 < count;
        if (argument == "--detach") {
            arguments.detach = true;
        } else if (argument == "--page" && more) {
            arguments.loop.page = values[++i];
        } else if (argument == "--ready-fd" && more) {
            const std::string_view digits = values[++i];
            const auto parsed = std::from_chars(
                digits.data(), digits.data() + digits.size(), arguments.loop.ready_fd);
            arguments.valid = arguments.valid && parsed.ec == std::errc{};
        } else {
            arguments.valid = false;
        }
    }
    arguments.valid = arguments.valid && !arguments.loop.page.empty();
    return arguments;
}

/// What the agent had open must not live on here: its FUSE device least of all.
void close_inherited(int keep) {
    if (keep > 2) {
        ::close_range(3, static_cast<unsigned>(keep) - 1, 0);
    }
    ::close_range(static_cast<unsigned>(std::max(keep, 2)) + 1, ~0U, 0);
}

}  // namespace

int main(int count, char** values) {
    auto arguments = parse(count, values);
    if (!arguments.valid) {
        std::fputs(usage, stderr);
        return 2;
    }
    close_inherited(arguments.loop.ready_fd);
    if (arguments.detach) {
        // The caller waits for this process only; the next one belongs to init.
        const pid_t pid = ::fork();
        if (pid != 0) {
            ::_exit(pid > 0 ? 0 : 1);
        }
    }
    const auto result = safepair::guard::run_guard(arguments.loop);
    if (!result.has_value()) {
        std::fprintf(stderr, "safe-guard: %s\n", result.error().message().c_str());
        return 1;
    }
    return 0;
}
