#include "exit_code.hpp"

namespace safepair::cli {

ExitCode exit_code_of(const base::Error& error) {
    if (error.code == std::errc::permission_denied) {
        return ExitCode::no_permission;
    }
    if (error.code == std::errc::file_exists) {
        return ExitCode::exists;
    }
    if (error.code.category() != base::category()) {
        return ExitCode::error;
    }
    switch (static_cast<base::Errc>(error.code.value())) {
        case base::Errc::bad_input:
            return ExitCode::usage;
        case base::Errc::peer_unreachable:
            return ExitCode::unreachable;
        case base::Errc::busy:
        case base::Errc::limit_reached:
            return ExitCode::try_again;
        case base::Errc::would_lose_data:
            return ExitCode::unsafe;
        case base::Errc::timed_out:
            return ExitCode::timed_out;
        case base::Errc::ok:
        case base::Errc::not_primary:
        case base::Errc::stale_generation:
        case base::Errc::corrupt:
        case base::Errc::refused:
        case base::Errc::not_found:
        case base::Errc::unsupported:
        case base::Errc::cancelled:
            return ExitCode::error;
    }
    return ExitCode::error;
}

ExitCode exit_code_of(v1::CommandReply::Outcome outcome) {
    switch (outcome) {
        case v1::CommandReply::OUTCOME_DONE:
            return ExitCode::ok;
        case v1::CommandReply::OUTCOME_UNSAFE:
            return ExitCode::unsafe;
        case v1::CommandReply::OUTCOME_WAITS:
            return ExitCode::try_again;
        default:
            // Refused, failed, and what a newer agent may say.
            return ExitCode::error;
    }
}

}  // namespace safepair::cli
