#include <safepair/base/ids.hpp>

#include <cstdlib>

#include <safepair/base/assert.hpp>

#include <sys/random.h>

namespace safepair::base {

std::string to_hex(const std::array<std::uint8_t, 16>& bytes) {
    constexpr std::string_view digits = "0123456789abcdef";
    std::string text;
    text.reserve(bytes.size() * 2);
    for (const auto byte : bytes) {
        text.push_back(digits[byte >> 4U]);
        text.push_back(digits[byte & 0xFU]);
    }
    return text;
}

std::optional<std::array<std::uint8_t, 16>> from_hex(std::string_view text) {
    std::array<std::uint8_t, 16> bytes{};
    std::size_t count = 0;
    for (const char c : text) {
        unsigned value = 0;
        if (c == '-') {
            continue;
        }
        if (c >= '0' && c <= '9') {
            value = static_cast<unsigned>(c - '0');
        } else if (c >= 'a' && c <= 'f') {
            value = static_cast<unsigned>(c - 'a') + 10;
        } else if (c >= 'A' && c <= 'F') {
            value = static_cast<unsigned>(c - 'A') + 10;
        } else {
            return std::nullopt;
        }
        if (count == bytes.size() * 2) {
            return std::nullopt;
        }
        bytes[count / 2] = static_cast<std::uint8_t>((bytes[count / 2] << 4U) | value);
        ++count;
    }
    if (count != bytes.size() * 2) {
        return std::nullopt;
    }
    return bytes;
}

std::array<std::uint8_t, 16> random_bytes16() {
    std::array<std::uint8_t, 16> bytes{};
    const auto got = getrandom(bytes.data(), bytes.size(), 0);
    SAFEPAIR_ASSERT(got == static_cast<ssize_t>(bytes.size()), "the system has no random bytes");
    return bytes;
}

}  // namespace safepair::base
