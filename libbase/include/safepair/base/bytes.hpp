#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace safepair::base {

/// Appends little-endian values to a buffer it owns. Strings and blobs carry a u32 length in front.
class ByteWriter {
  public:
    void u8(std::uint8_t value);
    void u16(std::uint16_t value);
    void u32(std::uint32_t value);
    void u64(std::uint64_t value);
    void i64(std::int64_t value) { u64(static_cast<std::uint64_t>(value)); }
    void boolean(bool value) { u8(value ? 1 : 0); }
    void id(const std::array<std::uint8_t, 16>& bytes);
    void text(std::string_view value);
    void blob(std::span<const std::byte> value);
    /// The bytes as they are, no length.
    void raw(std::span<const std::byte> value);

    [[nodiscard]] const std::vector<std::byte>& bytes() const noexcept { return bytes_; }
    [[nodiscard]] std::vector<std::byte> take() noexcept { return std::move(bytes_); }

  private:
    std::vector<std::byte> bytes_;
};

/// Reads what ByteWriter wrote from bytes it borrows. A read past the end, or a length over its limit, makes the reader
/// fail: every later read returns zeros and ok() is false. Check ok() once, after the last read.
class ByteReader {
  public:
    explicit ByteReader(std::span<const std::byte> bytes) noexcept : rest_(bytes) {}

    std::uint8_t u8() noexcept;
    std::uint16_t u16() noexcept;
    std::uint32_t u32() noexcept;
    std::uint64_t u64() noexcept;
    std::int64_t i64() noexcept { return static_cast<std::int64_t>(u64()); }
    /// 0 or 1; anything else fails the reader.
    bool boolean() noexcept;
    std::array<std::uint8_t, 16> id() noexcept;
    /// At most `bytes_max` bytes.
    std::string text(std::size_t bytes_max);
    /// Borrowed from the input; at most `bytes_max` bytes.
    std::span<const std::byte> blob(std::size_t bytes_max) noexcept;
    /// `count` bytes without a length, borrowed.
    std::span<const std::byte> raw(std::size_t count) noexcept;

    [[nodiscard]] bool ok() const noexcept { return ok_; }
    [[nodiscard]] std::size_t remaining() const noexcept { return rest_.size(); }
    /// True when everything was read and nothing is left.
    [[nodiscard]] bool finished() const noexcept { return ok_ && rest_.empty(); }

  private:
    std::span<const std::byte> rest_;
    bool ok_ = true;
};

}  // namespace safepair::base
