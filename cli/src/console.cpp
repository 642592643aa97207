#include "console.hpp"

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <iostream>

#include <sys/ioctl.h>
#include <unistd.h>

namespace safepair::cli {

namespace {

std::size_t terminal_columns() {
    winsize size{};
    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) {
        return size.ws_col;
    }
    return 0;
}

const char* code_of(Style style) {
    switch (style) {
        case Style::good:
            return "\033[32m";
        case Style::busy:
            return "\033[33m";
        case Style::bad:
            return "\033[31m";
        case Style::faint:
            return "\033[2m";
        case Style::plain:
            break;
    }
    return "";
}

}  // namespace

bool locale_is_utf8() {
    for (const char* name : {"LC_ALL", "LC_CTYPE", "LANG"}) {
        const char* value = std::getenv(name);
        if (value == nullptr || *value == '\0') {
            continue;
        }
        std::string text(value);
        std::transform(text.begin(), text.end(), text.begin(), [](unsigned char one) {
            return static_cast<char>(std::tolower(one));
        });
        return text.find("utf-8") != std::string::npos || text.find("utf8") != std::string::npos;
    }
    return false;
}

Console process_console() {
    Console console{std::cout, std::cerr, std::cin};
    console.out_is_terminal = isatty(STDOUT_FILENO) == 1;
    console.err_is_terminal = isatty(STDERR_FILENO) == 1;
    console.in_is_terminal = isatty(STDIN_FILENO) == 1;
    console.columns = console.out_is_terminal ? terminal_columns() : 0;
    console.utf8 = locale_is_utf8();
    return console;
}

std::string styled(std::string_view text, Style style, bool color) {
    if (!color || style == Style::plain) {
        return std::string(text);
    }
    return code_of(style) + std::string(text) + "\033[0m";
}

}  // namespace safepair::cli
