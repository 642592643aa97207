#pragma once

#include "../core/captured_output.hpp"

#include <safepair/base/result.hpp>
#include <safepair/base/time.hpp>
#include <safepair/base/unique_fd.hpp>

#include <string>
#include <vector>

#include <sys/types.h>

namespace safepair::hyperv {

/// A process that we started. Its output is read from `output`; `pidfd` becomes readable when it
/// ended.
struct Child {
    pid_t pid = 0;
    base::UniqueFd pidfd;
    base::UniqueFd output;
};

struct SpawnOptions {
    /// argv[0] is found in PATH when it has no slash.
    std::vector<std::string> argv;
    /// "NAME=value", replacing what we inherited ourselves.
    std::vector<std::string> environment;
    /// An open directory of cgroup v2 to live in from its first instruction; -1: ours.
    int cgroup = -1;
};

/// Starts an executable in a session of its own, with no descriptor but its standard ones: input is
/// empty, output and errors go to `Child::output`. Returns when it executes, or with the reason why
/// it cannot.
[[nodiscard]] base::Result<Child> spawn(const SpawnOptions& options);

/// How a process ended.
struct Ending {
    bool succeeded = false;
    /// "exit status 3", "killed by signal 9".
    std::string text;
};

/// Waits for the end of `child` and takes it from the process table.
[[nodiscard]] Ending reap(const Child& child);

/// Runs a tool to its end and returns what it wrote, at most `limit` bytes. Errc::timed_out after
/// `deadline`; Errc::refused with its output when it failed.
[[nodiscard]] base::Result<std::string> run_tool(const std::vector<std::string>& argv,
                                                 base::Duration deadline,
                                                 std::size_t limit);

/// Moves what is readable without waiting; false when no writer is left.
bool drain(const base::UniqueFd& output, CapturedOutput& captured);

}  // namespace safepair::hyperv
