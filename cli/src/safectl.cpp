#include "safectl.hpp"

#include "arguments.hpp"
#include "commands/commands.hpp"

#include <cstdlib>
#include <ostream>
#include <utility>

namespace safepair::cli {

namespace {

constexpr const char* default_socket = "/run/safepair/control.sock";

std::string socket_of_environment() {
    const char* value = std::getenv("SAFEPAIR_SOCKET");
    return value == nullptr || *value == '\0' ? default_socket : value;
}

void choose_looks(const Arguments& arguments, Console& console) {
    const char* no_color = std::getenv("NO_COLOR");
    const bool unwanted = no_color != nullptr && *no_color != '\0';
    const char* terminal = std::getenv("TERM");
    const bool dumb = terminal != nullptr && std::string_view(terminal) == "dumb";
    const bool automatic = !unwanted && !dumb;
    console.out_color =
        arguments.color == ColorWish::always ||
        (arguments.color == ColorWish::automatic && automatic && console.out_is_terminal);
    console.err_color =
        arguments.color == ColorWish::always ||
        (arguments.color == ColorWish::automatic && automatic && console.err_is_terminal);
    console.utf8 = console.utf8 && !arguments.ascii;
}

int dispatch(const Arguments& arguments, Console& console) {
    switch (arguments.command) {
        case Command::verb:
            return static_cast<int>(run_verb(arguments, console));
        case Command::status:
            return static_cast<int>(run_status(arguments, console));
        case Command::health:
            return run_health(arguments, console);
        case Command::log:
            return static_cast<int>(run_log(arguments, console));
        case Command::module_list:
            return static_cast<int>(run_module_list(arguments, console));
        case Command::explain:
            return static_cast<int>(run_explain(arguments, console));
        case Command::version:
            return static_cast<int>(run_version(arguments, console));
    }
    return static_cast<int>(ExitCode::error);
}

}  // namespace

int run(std::vector<std::string> words, Console console) {
    const auto parsed = parse_arguments(std::move(words), socket_of_environment());
    if (const auto* ended = std::get_if<EndedEarly>(&parsed)) {
        console.out << ended->out << std::flush;
        console.err << ended->err << std::flush;
        return static_cast<int>(ended->code);
    }
    const auto& arguments = std::get<Arguments>(parsed);
    choose_looks(arguments, console);
    const auto code = dispatch(arguments, console);
    console.out << std::flush;
    if (!console.out) {
        console.err << "safectl: the output could not be written\n";
        return static_cast<int>(ExitCode::error);
    }
    return code;
}

}  // namespace safepair::cli
