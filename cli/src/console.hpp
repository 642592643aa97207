#pragma once

#include <cstdint>
#include <iosfwd>
#include <string>
#include <string_view>

namespace safepair::cli {

/// Meaning of a coloured piece of text. The words and symbols beside it always say the same.
enum class Style : std::uint8_t { plain, good, busy, bad, faint };

/// Where safectl writes and what can be shown there. Data goes to `out`, messages and progress to
/// `err`.
struct Console {
    std::ostream& out;
    std::ostream& err;
    std::istream& in;
    bool out_is_terminal = false;
    bool err_is_terminal = false;
    bool in_is_terminal = false;
    /// Columns of the terminal; 0: unknown, nothing is wrapped.
    std::size_t columns = 0;
    bool utf8 = false;
    bool out_color = false;
    bool err_color = false;
};

/// The process's own streams, with what the environment says about them (locale, NO_COLOR is
/// applied by the arguments).
[[nodiscard]] Console process_console();

/// True when the environment's locale is UTF-8.
[[nodiscard]] bool locale_is_utf8();

/// `text` in the colour of `style`, or as it is without `color`.
[[nodiscard]] std::string styled(std::string_view text, Style style, bool color);

}  // namespace safepair::cli
