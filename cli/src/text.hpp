#pragma once

#include <safepair/base/result.hpp>

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

/// Numbers and sentences as people read them. Pure functions but for the local time zone.
namespace safepair::cli {

/// "500ms", "30s", "5m", "2h", "1d", or several parts from large to small ("1m30s"). A number
/// without a unit is refused.
[[nodiscard]] base::Result<std::chrono::milliseconds> parse_duration(std::string_view text);

/// Age of a state: "00:03" (minutes and seconds) below an hour, then "5h07m", "3d02h", "123d".
/// Negative counts as 0.
[[nodiscard]] std::string format_age(std::chrono::seconds age);

/// A time that is left or was given: "31s", "4m31s", "2h05m", "3d02h".
[[nodiscard]] std::string format_duration(std::chrono::seconds duration);

/// Three digits and a binary unit: "0 B", "512 B", "31.2 GiB".
[[nodiscard]] std::string format_bytes(std::uint64_t bytes);

/// Three digits and a decimal unit per second: "118 MB/s", "1.25 GB/s".
[[nodiscard]] std::string format_rate(std::uint64_t bytes_per_second);

/// "2026-11-22 19:04:11" in the local time zone, with ".123" if asked for. Nanoseconds since 1970
/// in.
[[nodiscard]] std::string format_local_time(std::int64_t time, bool milliseconds);

/// RFC 3339, UTC, microseconds: "2026-11-22T18:04:11.123456Z". Nanoseconds since 1970 in.
[[nodiscard]] std::string format_utc_time(std::int64_t time);

/// Columns that `text` takes on a terminal: wide characters count two, combining ones none.
[[nodiscard]] std::size_t display_width(std::string_view text);

/// Control characters and escape sequences, which could come out of a guest or script, become '?'.
/// Line feeds and tabs stay if asked for.
[[nodiscard]] std::string printable(std::string_view text, bool keep_lines = false);

/// Puts the module's name into the commands of an agent's text: for the word MODULE, and where a
/// verb has no module.
[[nodiscard]] std::string with_module(std::string_view text, std::string_view module);

/// `text` broken at spaces into lines of at most `columns` (0: one line); all but the first are
/// indented.
[[nodiscard]] std::string wrapped(std::string_view text, std::size_t columns, std::size_t indent);

/// As much of the beginning of `text` as fits `columns`.
[[nodiscard]] std::string clipped(std::string_view text, std::size_t columns);

/// "a, b and c".
[[nodiscard]] std::string listed(const std::vector<std::string>& words);

}  // namespace safepair::cli
