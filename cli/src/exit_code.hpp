#pragma once

#include <safepair/base/error.hpp>
#include <safepair/v1/control.pb.h>

namespace safepair::cli {

/// What scripts rely on (docs/operating/safectl.md): sysexits where one fits, 100 and up for what
/// is special to a cluster.
enum class ExitCode : int {
    ok = 0,
    error = 1,
    usage = 64,
    unreachable = 69,
    try_again = 75,
    no_permission = 77,
    bad_config = 78,
    no_witness = 106,
    unsafe = 107,
    exists = 108,
    timed_out = 124,
};

/// For an error of the client or of the command line.
[[nodiscard]] ExitCode exit_code_of(const base::Error& error);

/// For the agent's answer to a verb.
[[nodiscard]] ExitCode exit_code_of(v1::CommandReply::Outcome outcome);

}  // namespace safepair::cli
