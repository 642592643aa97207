#pragma once

#include "exit_code.hpp"

#include <safepair/v1/control.pb.h>

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

/// The command line as a value. Parsing reads nothing but its arguments, so that every rule of it
/// can be tested.
namespace safepair::cli {

enum class Command : std::uint8_t { verb, status, health, log, module_list, explain, version };
enum class Format : std::uint8_t { table, wide, name, json, yaml };
enum class ColorWish : std::uint8_t { automatic, always, never };
/// automatic: wait on a terminal, return with the agent's answer elsewhere.
enum class WaitWish : std::uint8_t { automatic, yes, no };

struct Arguments {
    Command command = Command::status;

    std::string socket;
    Format format = Format::table;
    ColorWish color = ColorWish::automatic;
    bool headers = true;
    bool ascii = false;

    /// What the command is about; a verb has at most one.
    std::vector<std::string> modules;
    std::string node;

    v1::Verb verb = v1::VERB_UNSPECIFIED;
    WaitWish wait = WaitWish::automatic;
    std::optional<std::chrono::milliseconds> wait_limit;
    bool dry_run = false;
    bool yes = false;
    bool force = false;
    bool force_inconsistent = false;
    bool full = false;
    bool discard_local = false;

    /// status only.
    bool watch = false;

    /// log only.
    bool follow = false;
    bool output = false;
    std::optional<std::uint32_t> last;
    std::optional<std::uint64_t> after;

    /// explain only.
    std::string word;
};

/// The program ends here: help, a version, or a usage error.
struct EndedEarly {
    ExitCode code = ExitCode::ok;
    std::string out;
    std::string err;
};

using Parsed = std::variant<Arguments, EndedEarly>;

/// `words` is the command line without the program's name; `default_socket` what --socket is when
/// it is not given.
[[nodiscard]] Parsed parse_arguments(std::vector<std::string> words,
                                     const std::string& default_socket);

/// "start", "as-primary"...
[[nodiscard]] std::string verb_word(v1::Verb verb);

}  // namespace safepair::cli
