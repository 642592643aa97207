#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace safepair::hyperv {

/// The output of an executable in bounded memory: the first `head` bytes and the last `tail` bytes
/// of it.
class CapturedOutput {
  public:
    CapturedOutput();
    CapturedOutput(std::size_t head_bytes, std::size_t tail_bytes);

    void append(std::string_view bytes);

    /// Valid UTF-8 without a trailing line end; "[... N bytes left out ...]" stands for what was
    /// not kept.
    [[nodiscard]] std::string text() const;

  private:
    std::size_t head_bytes_;
    std::size_t tail_bytes_;
    std::size_t dropped_ = 0;
    std::string head_;
    std::string tail_;
};

/// `bytes` with everything that is not UTF-8, and NUL, replaced by '?'.
[[nodiscard]] std::string printable_utf8(std::string_view bytes);

}  // namespace safepair::hyperv
