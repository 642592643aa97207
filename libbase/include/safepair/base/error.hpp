#pragma once

#include <string>
#include <system_error>
#include <utility>

namespace safepair::base {

/// The conditions that callers of any room branch on. A room's own codes map to these; errno values stay
/// std::generic_category codes and compare equal to std::errc.
enum class Errc {
    ok = 0,
    not_primary,        ///< the operation needs the leading role
    peer_unreachable,   ///< the other node cannot be asked now
    stale_generation,   ///< the data on this side is older than what it would replace
    would_lose_data,    ///< refused because something only this side has would go
    limit_reached,      ///< a bound of limits.hpp was hit
    corrupt,            ///< bytes from a disk or a peer fail their checksum or grammar
    refused,            ///< a rule forbids it in the current state
    bad_input,          ///< configuration, command line or message is wrong
    not_found,          ///< the named object does not exist
    timed_out,          ///< a deadline passed
    busy,               ///< in use by somebody else
    unsupported,        ///< this system cannot do it
    cancelled,          ///< given up because the caller or the owner went away
};

/// The category of Errc.
[[nodiscard]] const std::error_category& category() noexcept;
[[nodiscard]] std::error_code make_error_code(Errc code) noexcept;

/// What went wrong (`code`) and one line on what was attempted on which object (`context`).
struct Error {
    std::error_code code;
    std::string context;

    /// "context: message of the code", ready for a log or an operator.
    [[nodiscard]] std::string message() const;

    /// The same error with "`prefix`: " in front of its context.
    [[nodiscard]] Error within(const std::string& prefix) const;
};

/// An Error of our own category.
[[nodiscard]] Error error(Errc code, std::string context);

/// An Error from an errno value.
[[nodiscard]] Error error_from_errno(int errno_value, std::string context);

}  // namespace safepair::base

template <>
struct std::is_error_code_enum<safepair::base::Errc> : std::true_type {};
