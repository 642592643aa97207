#include "captured_output.hpp"

#include "limits.hpp"

#include <algorithm>

namespace safepair::hyperv {

namespace {

bool is_continuation(char byte) { return (static_cast<unsigned char>(byte) & 0xC0U) == 0x80U; }

/// Length of the valid UTF-8 sequence at the beginning of `bytes` (not empty), 0 when there is
/// none. Overlong forms, surrogates and values beyond U+10FFFF are not valid (RFC 3629).
std::size_t sequence_length(std::string_view bytes) {
    const auto first = static_cast<unsigned char>(bytes[0]);
    if (first < 0x80U) {
        return first == 0 ? 0 : 1;
    }
    const std::size_t length = first >= 0xF0U ? 4 : first >= 0xE0U ? 3 : 2;
    if (first < 0xC2U || first > 0xF4U || bytes.size() < length ||
        !std::all_of(bytes.begin() + 1,
                     bytes.begin() + static_cast<std::ptrdiff_t>(length),
                     is_continuation)) {
        return 0;
    }
    const auto second = static_cast<unsigned char>(bytes[1]);
    const bool bad = (first == 0xE0U && second < 0xA0U) || (first == 0xEDU && second > 0x9FU) ||
                     (first == 0xF0U && second < 0x90U) || (first == 0xF4U && second > 0x8FU);
    return bad ? 0 : length;
}

}  // namespace

CapturedOutput::CapturedOutput()
    : CapturedOutput(limits::output_head_bytes, limits::output_tail_bytes) {}

CapturedOutput::CapturedOutput(std::size_t head_bytes, std::size_t tail_bytes)
    : head_bytes_(head_bytes), tail_bytes_(tail_bytes) {}

void CapturedOutput::append(std::string_view bytes) {
    const auto to_head = std::min(bytes.size(), head_bytes_ - head_.size());
    head_.append(bytes.substr(0, to_head));
    bytes.remove_prefix(to_head);
    if (bytes.size() > tail_bytes_) {
        dropped_ += bytes.size() - tail_bytes_;
        bytes.remove_prefix(bytes.size() - tail_bytes_);
    }
    const auto excess =
        tail_.size() + bytes.size() > tail_bytes_ ? tail_.size() + bytes.size() - tail_bytes_ : 0;
    dropped_ += excess;
    tail_.erase(0, excess);
    tail_.append(bytes);
}

std::string CapturedOutput::text() const {
    auto text = dropped_ == 0 ? head_ + tail_
                              : head_ + "\n[... " + std::to_string(dropped_) +
                                    " bytes left out ...]\n" + tail_;
    while (!text.empty() && (text.back() == '\n' || text.back() == '\r')) {
        text.pop_back();
    }
    return printable_utf8(text);
}

std::string printable_utf8(std::string_view bytes) {
    std::string text;
    text.reserve(bytes.size());
    while (!bytes.empty()) {
        const auto length = sequence_length(bytes);
        if (length == 0) {
            text.push_back('?');
        } else {
            text.append(bytes.substr(0, length));
        }
        bytes.remove_prefix(std::max<std::size_t>(length, 1));
    }
    return text;
}

}  // namespace safepair::hyperv
