#include "support/catch.hpp"

#include <safepair/base/bytes.hpp>

using safepair::base::ByteReader;
using safepair::base::ByteWriter;

namespace {

std::vector<std::byte> bytes(std::initializer_list<unsigned> values) {
    std::vector<std::byte> made;
    for (const unsigned value : values) {
        made.push_back(static_cast<std::byte>(value));
    }
    return made;
}

std::array<std::uint8_t, 16> sample_id() {
    std::array<std::uint8_t, 16> id{};
    for (std::size_t i = 0; i < id.size(); ++i) {
        id[i] = static_cast<std::uint8_t>(0xF0 + i);
    }
    return id;
}

std::vector<std::byte> one_of_each() {
    ByteWriter writer;
    writer.u8(0xAB);
    writer.u16(0x1234);
    writer.u32(0xDEADBEEF);
    writer.u64(0x0123456789ABCDEFU);
    writer.i64(-2);
    writer.boolean(true);
    writer.boolean(false);
    writer.id(sample_id());
    writer.text("node");
    writer.blob(bytes({1, 2, 3}));
    writer.raw(bytes({9}));
    return writer.take();
}

/// Reads what one_of_each() wrote; whether it was complete and nothing is left.
bool read_one_of_each(std::span<const std::byte> input) {
    ByteReader reader(input);
    reader.u8();
    reader.u16();
    reader.u32();
    reader.u64();
    reader.i64();
    reader.boolean();
    reader.boolean();
    reader.id();
    reader.text(100);
    reader.blob(100);
    reader.raw(1);
    return reader.finished();
}

}  // namespace

TEST_CASE("ByteWriter: integers are little-endian, texts carry a 32-bit length") {
    ByteWriter writer;
    writer.u16(0x1234);
    writer.u32(0x01020304);
    writer.text("ab");
    writer.i64(-1);
    CHECK(writer.bytes() == bytes({0x34, 0x12, 4,    3,    2,    1,    2,    0,    0,    0,
                                   'a',  'b',  0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF}));
}

TEST_CASE("ByteReader: what was written is read back") {
    const auto input = one_of_each();
    ByteReader reader(input);
    CHECK(reader.u8() == 0xAB);
    CHECK(reader.u16() == 0x1234);
    CHECK(reader.u32() == 0xDEADBEEF);
    CHECK(reader.u64() == 0x0123456789ABCDEFU);
    CHECK(reader.i64() == -2);
    CHECK(reader.boolean());
    CHECK_FALSE(reader.boolean());
    CHECK(reader.id() == sample_id());
    CHECK(reader.text(4) == "node");
    const auto blob = reader.blob(3);
    CHECK(std::vector<std::byte>(blob.begin(), blob.end()) == bytes({1, 2, 3}));
    CHECK(reader.remaining() == 1);
    CHECK_FALSE(reader.finished());
    CHECK(reader.raw(1)[0] == std::byte{9});
    CHECK(reader.finished());
}

TEST_CASE("ByteReader: every shortened input fails") {
    const auto input = one_of_each();
    REQUIRE(read_one_of_each(input));
    for (std::size_t length = 0; length < input.size(); ++length) {
        REQUIRE_FALSE(read_one_of_each(std::span(input).first(length)));
    }
}

TEST_CASE("ByteReader: after a failure everything reads as zero") {
    const auto input = bytes({1, 2, 3, 4, 5});
    ByteReader reader(input);
    CHECK(reader.u8() == 1);
    CHECK(reader.u64() == 0);
    CHECK_FALSE(reader.ok());
    // Bytes are left in the input, but not for a reader that failed.
    CHECK(reader.u8() == 0);
    CHECK(reader.remaining() == 0);
    CHECK(reader.text(10).empty());
    CHECK(reader.id() == std::array<std::uint8_t, 16>{});
    CHECK_FALSE(reader.finished());
}

TEST_CASE("ByteReader: a length over its limit fails, also when the bytes are there") {
    ByteWriter writer;
    writer.text("abcd");
    {
        ByteReader reader(writer.bytes());
        CHECK(reader.text(3).empty());
        CHECK_FALSE(reader.ok());
    }
    {
        ByteReader reader(writer.bytes());
        CHECK(reader.text(4) == "abcd");
        CHECK(reader.finished());
    }
}

TEST_CASE("ByteReader: a length that lies about the rest fails without a large allocation") {
    const auto input = bytes({0xFF, 0xFF, 0xFF, 0xFF, 1});
    ByteReader reader(input);
    CHECK(reader.text(0xFFFFFFFFU).empty());
    CHECK_FALSE(reader.ok());
}

TEST_CASE("ByteReader: a boolean is 0 or 1") {
    for (const unsigned value : {2U, 128U, 255U}) {
        const auto input = bytes({value});
        ByteReader reader(input);
        CHECK_FALSE(reader.boolean());
        CHECK_FALSE(reader.ok());
    }
}

TEST_CASE("ByteReader: an empty input is finished until something is asked of it") {
    ByteReader reader({});
    CHECK(reader.finished());
    CHECK(reader.raw(0).empty());
    CHECK(reader.finished());
    CHECK(reader.u8() == 0);
    CHECK_FALSE(reader.finished());
}
