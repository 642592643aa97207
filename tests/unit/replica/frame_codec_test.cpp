#include "core/frame_codec.hpp"

#include "core/checksum.hpp"
#include "core/operation_codec.hpp"
#include "support/catch.hpp"

#include <safepair/base/bytes.hpp>
#include <safepair/base/prng.hpp>

#include <algorithm>
#include <string>
#include <vector>

using namespace safepair;
using namespace safepair::replica;

namespace {

std::span<const std::byte> bytes_of(const std::string& text) {
    return std::as_bytes(std::span(text.data(), text.size()));
}

std::vector<std::byte> joined(const std::vector<std::byte>& fields,
                              std::span<const std::byte> data) {
    auto all = fields;
    all.insert(all.end(), data.begin(), data.end());
    return all;
}

bool is_corrupt(const base::Error& error) { return error.code == base::Errc::corrupt; }

FileId random_file(base::Prng& prng) {
    FileId file;
    for (auto& byte : file.bytes) {
        byte = static_cast<std::uint8_t>(prng.below(256));
    }
    return file;
}

std::string random_name(base::Prng& prng) {
    std::string name(1 + prng.below(255), 'x');
    for (auto& c : name) {
        c = static_cast<char>('0' + prng.below(60));
    }
    return name;
}

Operation random_operation(base::Prng& prng, std::vector<std::byte>& data) {
    Operation operation;
    operation.kind = static_cast<OperationKind>(prng.below(11));
    const auto maybe = [&prng] { return prng.chance(1, 2); };
    operation.file = maybe() ? random_file(prng) : FileId{};
    operation.parent = maybe() ? random_file(prng) : FileId{};
    operation.new_parent = maybe() ? random_file(prng) : FileId{};
    operation.name = maybe() ? random_name(prng) : "";
    operation.new_name = maybe() ? random_name(prng) : "";
    operation.text = maybe() ? random_name(prng) : "";
    operation.offset = maybe() ? prng.next() : 0;
    operation.length = maybe() ? prng.next() : 0;
    operation.flags = maybe() ? static_cast<std::uint32_t>(prng.next()) : 0;
    operation.time = maybe() ? static_cast<std::int64_t>(prng.next()) : 0;
    operation.durable = maybe();
    if (maybe()) {
        operation.valid = 1 + static_cast<std::uint32_t>(prng.below(63));
        auto& attributes = operation.attributes;
        attributes.type = static_cast<NodeType>(prng.below(7));
        attributes.mode = static_cast<std::uint32_t>(prng.next());
        attributes.uid = static_cast<std::uint32_t>(prng.next());
        attributes.gid = static_cast<std::uint32_t>(prng.next());
        attributes.size = prng.next();
        attributes.modified = static_cast<std::int64_t>(prng.next());
        attributes.accessed = static_cast<std::int64_t>(prng.next());
        attributes.rdev = prng.next();
    }
    data.resize(prng.below(100));
    for (auto& byte : data) {
        byte = static_cast<std::byte>(prng.below(256));
    }
    operation.data = data;
    return operation;
}

bool same(const Operation& a, const Operation& b) {
    const auto& x = a.attributes;
    const auto& y = b.attributes;
    return a.kind == b.kind && a.file == b.file && a.parent == b.parent &&
           a.new_parent == b.new_parent && a.name == b.name && a.new_name == b.new_name &&
           a.text == b.text && a.offset == b.offset && a.length == b.length && a.flags == b.flags &&
           a.valid == b.valid && a.time == b.time && a.durable == b.durable && x.type == y.type &&
           x.mode == y.mode && x.uid == y.uid && x.gid == y.gid && x.size == y.size &&
           x.modified == y.modified && x.accessed == y.accessed && x.rdev == y.rdev &&
           std::ranges::equal(a.data, b.data);
}

}  // namespace

TEST_CASE("Checksum: it is the CRC-32C of RFC 3720, also in parts") {
    const std::string digits = "123456789";
    CHECK(crc32c(0, bytes_of(digits)) == 0xE3069283U);
    CHECK(crc32c(crc32c(0, bytes_of("1234")), bytes_of("56789")) == 0xE3069283U);
    CHECK(crc32c(0, {}) == 0);
}

TEST_CASE("Frame: the worked example of the format page has these bytes") {
    Operation write;
    write.kind = OperationKind::write;
    for (std::size_t i = 0; i < write.file.bytes.size(); ++i) {
        write.file.bytes[i] = static_cast<std::uint8_t>(i + 1);
    }
    write.offset = 4096;
    write.time = 1000;
    const std::string hello = "hello";
    write.data = bytes_of(hello);
    const auto fields = encode_operation(write);
    FrameHeader header;
    header.kind = FrameKind::operation;
    header.sequence = 7;
    header.payload_bytes = static_cast<std::uint32_t>(fields.size() + write.data.size());
    header.payload_checksum = crc32c(crc32c(0, fields), write.data);
    const auto head = encode_header(header);
    std::vector<std::byte> all(head.begin(), head.end());
    all = joined(joined(all, fields), write.data);
    std::string text;
    for (const auto byte : all) {
        constexpr const char* digits = "0123456789abcdef";
        text += digits[std::to_integer<unsigned>(byte) >> 4U];
        text += digits[std::to_integer<unsigned>(byte) & 15U];
    }
    CHECK(text ==
          "53505231"
          "01"
          "02"
          "0000"
          "0700000000000000"
          "28000000"
          "af150f23"
          "cce3cefb"
          "00"
          "4104"
          "0102030405060708090a0b0c0d0e0f10"
          "0010000000000000"
          "e803000000000000"
          "68656c6c6f");
}

TEST_CASE("Frame: every kind survives encoding, and only numbered ones carry a number") {
    for (int kind = 1; kind <= 9; ++kind) {
        FrameHeader header;
        header.kind = static_cast<FrameKind>(kind);
        header.payload_bytes = 123;
        header.payload_checksum = 456;
        const bool numbered = is_numbered(header.kind) || header.kind == FrameKind::answer;
        header.sequence = numbered ? 99 : 0;
        const auto decoded = decode_header(encode_header(header));
        REQUIRE(decoded.has_value());
        CHECK(decoded->kind == header.kind);
        CHECK(decoded->sequence == header.sequence);
        CHECK(decoded->payload_bytes == 123);
        CHECK(decoded->payload_checksum == 456);
        header.sequence = numbered ? 0 : 1;
        CHECK_FALSE(decode_header(encode_header(header)).has_value());
    }
}

TEST_CASE("Frame: a header with any bit turned over is refused") {
    FrameHeader header;
    header.kind = FrameKind::operation;
    header.sequence = 0x0102030405060708;
    header.payload_bytes = 4096;
    const auto good = encode_header(header);
    for (std::size_t bit = 0; bit < good.size() * 8; ++bit) {
        auto bad = good;
        bad[bit / 8] ^= std::byte{1} << (bit % 8);
        const auto decoded = decode_header(bad);
        REQUIRE_FALSE(decoded.has_value());
        CHECK(is_corrupt(decoded.error()));
    }
}

TEST_CASE("Frame: a header that is cut off, of an unknown kind or too long is refused") {
    FrameHeader header;
    header.kind = FrameKind::heartbeat;
    const auto good = encode_header(header);
    for (std::size_t length = 0; length < good.size(); ++length) {
        CHECK_FALSE(decode_header(std::span(good).first(length)).has_value());
    }
    header.payload_bytes = payload_bytes_max;
    CHECK(decode_header(encode_header(header)).has_value());
    header.payload_bytes = payload_bytes_max + 1;
    CHECK_FALSE(decode_header(encode_header(header)).has_value());
    header.payload_bytes = 0;
    for (const int kind : {0, 10, 255}) {
        header.kind = static_cast<FrameKind>(kind);
        CHECK_FALSE(decode_header(encode_header(header)).has_value());
    }
}

TEST_CASE("Frame: a payload with any bit turned over, or of another length, is refused") {
    const std::string payload = "some payload of a frame";
    FrameHeader header;
    header.payload_bytes = static_cast<std::uint32_t>(payload.size());
    header.payload_checksum = crc32c(0, bytes_of(payload));
    CHECK(check_payload(header, bytes_of(payload)).has_value());
    for (std::size_t bit = 0; bit < payload.size() * 8; ++bit) {
        auto bad = payload;
        bad[bit / 8] = static_cast<char>(bad[bit / 8] ^ (1 << (bit % 8)));
        CHECK_FALSE(check_payload(header, bytes_of(bad)).has_value());
    }
    CHECK_FALSE(check_payload(header, bytes_of(payload.substr(1))).has_value());
}

TEST_CASE("Operation: every field survives encoding") {
    base::Prng prng(1);
    std::vector<std::byte> data;
    for (int round = 0; round < 2000; ++round) {
        const auto operation = random_operation(prng, data);
        const auto encoded = joined(encode_operation(operation), operation.data);
        const auto decoded = decode_operation(encoded);
        REQUIRE(decoded.has_value());
        CHECK(same(operation, *decoded));
    }
}

TEST_CASE("Operation: fields that are cut off are refused, never read past") {
    base::Prng prng(2);
    std::vector<std::byte> data;
    for (int round = 0; round < 200; ++round) {
        auto operation = random_operation(prng, data);
        operation.data = {};
        const auto encoded = encode_operation(operation);
        for (std::size_t length = 0; length < encoded.size(); ++length) {
            const auto decoded = decode_operation(std::span(encoded).first(length));
            REQUIRE_FALSE(decoded.has_value());
            CHECK(is_corrupt(decoded.error()));
        }
    }
}

TEST_CASE("Operation: junk is refused or decoded to something within the limits") {
    base::Prng prng(3);
    std::size_t accepted = 0;
    for (int round = 0; round < 20000; ++round) {
        std::vector<std::byte> junk(prng.below(200));
        for (auto& byte : junk) {
            byte = static_cast<std::byte>(prng.below(prng.chance(1, 2) ? 4 : 256));
        }
        if (const auto decoded = decode_operation(junk)) {
            ++accepted;
            CHECK(check_limits(*decoded) == 0);
        }
    }
    CHECK(accepted > 0);
}

TEST_CASE("Operation: names that lead elsewhere and values that are too long are refused") {
    Operation operation;
    operation.kind = OperationKind::create;
    const auto is_refused = [&] {
        return !decode_operation(encode_operation(operation)).has_value();
    };
    for (const auto& name : {std::string("a/b"),
                             std::string(".."),
                             std::string("."),
                             std::string("a\0b", 3),
                             std::string(256, 'n')}) {
        operation.name = name;
        CHECK(is_refused());
        CHECK(check_limits(operation) != 0);
    }
    operation.name = std::string(255, 'n');
    CHECK_FALSE(is_refused());
    operation.text = std::string(4097, 't');
    CHECK(is_refused());
    // An extended attribute may be called so.
    operation.text.clear();
    operation.kind = OperationKind::set_xattr;
    operation.name = "user.a/b";
    CHECK_FALSE(is_refused());
    const std::vector<std::byte> data(limits::record_bytes_max + 1);
    operation.kind = OperationKind::write;
    operation.data = data;
    CHECK(check_limits(operation) != 0);
    CHECK_FALSE(decode_operation(joined(encode_operation(operation), data)).has_value());
}

TEST_CASE("Acknowledgements: they survive encoding, and a part of one is refused") {
    const std::vector<Acknowledgement> all{{1, 0, false}, {UINT64_MAX, 28, true}, {7, 4095, false}};
    const auto encoded = encode_acknowledgements(all);
    const auto decoded = decode_acknowledgements(encoded);
    REQUIRE(decoded.has_value());
    CHECK(*decoded == all);
    for (std::size_t length = 0; length < encoded.size(); ++length) {
        const auto part = decode_acknowledgements(std::span(encoded).first(length));
        CHECK(part.has_value() == (length != 0 && length % 13 == 0));
    }
    CHECK_FALSE(decode_acknowledgements(
                    encode_acknowledgements(std::vector<Acknowledgement>{{0, 0, false}}))
                    .has_value());
    CHECK_FALSE(decode_acknowledgements(
                    encode_acknowledgements(std::vector<Acknowledgement>{{1, 4096, false}}))
                    .has_value());
}

TEST_CASE(
    "Flush, welcome and heartbeat: they survive encoding, and anything longer or shorter is "
    "refused") {
    base::Prng prng(4);
    const FlushRequest flush{random_file(prng), true, false};
    Welcome welcome;
    welcome.session.bytes = random_file(prng).bytes;
    welcome.term = 12;
    welcome.space = {512, 1, 2, 3, 4, 5};
    const auto flush_bytes = encode_flush(flush);
    const auto welcome_bytes = encode_welcome(welcome);
    const auto space_bytes = encode_space(welcome.space);
    REQUIRE(decode_flush(flush_bytes).has_value());
    CHECK(*decode_flush(flush_bytes) == flush);
    REQUIRE(decode_welcome(welcome_bytes).has_value());
    CHECK(decode_welcome(welcome_bytes)->session == welcome.session);
    CHECK(decode_welcome(welcome_bytes)->term == 12);
    CHECK(decode_welcome(welcome_bytes)->space.blocks_available == 3);
    REQUIRE(decode_space(space_bytes).has_value());
    CHECK(decode_space(space_bytes)->files_free == 5);
    const auto only_whole = [](const std::vector<std::byte>& good, const auto& decode) {
        for (std::size_t length = 0; length < good.size(); ++length) {
            CHECK_FALSE(decode(std::span(good).first(length)).has_value());
        }
        CHECK_FALSE(decode(joined(good, std::vector<std::byte>(1))).has_value());
    };
    only_whole(flush_bytes, [](auto bytes) { return decode_flush(bytes); });
    only_whole(welcome_bytes, [](auto bytes) { return decode_welcome(bytes); });
    only_whole(space_bytes, [](auto bytes) { return decode_space(bytes); });
}
