#include <safepair/base/bytes.hpp>

#include <algorithm>
#include <cstring>

namespace safepair::base {

namespace {

template <typename T>
void append(std::vector<std::byte>& bytes, T value) {
    for (std::size_t i = 0; i < sizeof(T); ++i) {
        bytes.push_back(static_cast<std::byte>((static_cast<std::uint64_t>(value) >> (8 * i)) & 0xFFU));
    }
}

template <typename T>
T parse(std::span<const std::byte> bytes) {
    std::uint64_t value = 0;
    for (std::size_t i = 0; i < bytes.size(); ++i) {
        value |= static_cast<std::uint64_t>(bytes[i]) << (8 * i);
    }
    return static_cast<T>(value);
}

}  // namespace

void ByteWriter::u8(std::uint8_t value) {
    append(bytes_, value);
}

void ByteWriter::u16(std::uint16_t value) {
    append(bytes_, value);
}

void ByteWriter::u32(std::uint32_t value) {
    append(bytes_, value);
}

void ByteWriter::u64(std::uint64_t value) {
    append(bytes_, value);
}

void ByteWriter::id(const std::array<std::uint8_t, 16>& bytes) {
    raw(std::as_bytes(std::span(bytes)));
}

void ByteWriter::text(std::string_view value) {
    blob(std::as_bytes(std::span(value.data(), value.size())));
}

void ByteWriter::blob(std::span<const std::byte> value) {
    u32(static_cast<std::uint32_t>(value.size()));
    raw(value);
}

void ByteWriter::raw(std::span<const std::byte> value) {
    bytes_.insert(bytes_.end(), value.begin(), value.end());
}

std::span<const std::byte> ByteReader::raw(std::size_t count) noexcept {
    if (!ok_ || rest_.size() < count) {
        ok_ = false;
        rest_ = {};
        return {};
    }
    const auto taken = rest_.first(count);
    rest_ = rest_.subspan(count);
    return taken;
}

std::uint8_t ByteReader::u8() noexcept {
    return parse<std::uint8_t>(raw(1));
}

std::uint16_t ByteReader::u16() noexcept {
    return parse<std::uint16_t>(raw(2));
}

std::uint32_t ByteReader::u32() noexcept {
    return parse<std::uint32_t>(raw(4));
}

std::uint64_t ByteReader::u64() noexcept {
    return parse<std::uint64_t>(raw(8));
}

bool ByteReader::boolean() noexcept {
    const auto value = u8();
    if (value > 1) {
        ok_ = false;
        rest_ = {};
    }
    return value == 1;
}

std::array<std::uint8_t, 16> ByteReader::id() noexcept {
    std::array<std::uint8_t, 16> bytes{};
    const auto source = raw(bytes.size());
    std::transform(source.begin(), source.end(), bytes.begin(), [](std::byte b) {
        return std::to_integer<std::uint8_t>(b);
    });
    return bytes;
}

std::string ByteReader::text(std::size_t bytes_max) {
    const auto bytes = blob(bytes_max);
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

std::span<const std::byte> ByteReader::blob(std::size_t bytes_max) noexcept {
    const std::size_t count = u32();
    if (count > bytes_max) {
        ok_ = false;
        rest_ = {};
        return {};
    }
    return raw(count);
}

}  // namespace safepair::base
