#include "../../../libhyperv/src/core/captured_output.hpp"

#include "support/catch.hpp"

#include <string>

using safepair::hyperv::CapturedOutput;
using safepair::hyperv::printable_utf8;

TEST_CASE("CapturedOutput keeps all of a short output") {
    CapturedOutput output(4, 5);
    output.append("ab");
    output.append("cdef");
    output.append("gh\n");
    CHECK(output.text() == "abcdefgh");
}

TEST_CASE("CapturedOutput keeps the beginning and the end of a long output") {
    std::string whole;
    CapturedOutput pieces(4, 4);
    CapturedOutput at_once(4, 4);
    for (char c = 'a'; c <= 'z'; ++c) {
        pieces.append(std::string(1, c));
        whole.push_back(c);
    }
    at_once.append(whole);
    CHECK(pieces.text() == "abcd\n[... 18 bytes left out ...]\nwxyz");
    CHECK(at_once.text() == pieces.text());
}

TEST_CASE("printable_utf8 keeps text and replaces what is none") {
    struct Row {
        const char* because;
        std::string bytes;
        std::string expected;
    };

    const Row rows[] = {
        {"ASCII and line ends stay", "a\tb\n", "a\tb\n"},
        {"two, three and four bytes stay",
         "\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80",
         "\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80"},
        {"NUL ends strings elsewhere", std::string("a\0b", 3), "a?b"},
        {"a sequence cut off at the end", "a\xE2\x82", "a??"},
        {"a lone continuation", "\x80z", "?z"},
        {"an overlong slash", "\xC0\xAF", "??"},
        {"an overlong form of three bytes", "\xE0\x80\xAF", "???"},
        {"a surrogate", "\xED\xA0\x80", "???"},
        {"beyond U+10FFFF", "\xF4\x90\x80\x80", "????"},
        {"Latin-1", "caf\xE9!", "caf?!"},
    };
    for (const auto& row : rows) {
        DYNAMIC_SECTION(row.because) { CHECK(printable_utf8(row.bytes) == row.expected); }
    }
}
