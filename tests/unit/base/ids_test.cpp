#include "support/catch.hpp"

#include <safepair/base/ids.hpp>

#include <set>
#include <unordered_set>

using namespace safepair::base;

TEST_CASE("Uuid: text and bytes are each other's inverse") {
    GenerationId id;
    for (std::size_t i = 0; i < id.bytes.size(); ++i) {
        id.bytes[i] = static_cast<std::uint8_t>(0x11 * i);
    }
    const auto text = to_string(id);
    CHECK(text == "00112233445566778899aabbccddeeff");
    CHECK(from_hex(text) == id.bytes);
    CHECK(from_hex("00112233-4455-6677-8899-AABBCCDDEEFF") == id.bytes);
}

TEST_CASE("Uuid: what is not 32 digits is refused") {
    for (const char* text : {"",
                             "0",
                             "00112233445566778899aabbccddeef",
                             "00112233445566778899aabbccddeeff0",
                             "00112233445566778899aabbccddeefg",
                             " 0112233445566778899aabbccddeeff",
                             "--------------------------------"}) {
        CHECK(from_hex(text) == std::nullopt);
    }
}

TEST_CASE("Uuid: all zeros is none") {
    SessionId id;
    CHECK(id.is_nil());
    CHECK_FALSE(static_cast<bool>(id));
    id.bytes[15] = 1;
    CHECK_FALSE(id.is_nil());
    CHECK(id > SessionId{});
}

TEST_CASE("Uuid: identities of different kinds do not mix") {
    STATIC_REQUIRE_FALSE(std::is_convertible_v<SessionId, GenerationId>);
    STATIC_REQUIRE_FALSE(std::is_convertible_v<NodeId, ModuleId>);
    STATIC_REQUIRE_FALSE(std::is_convertible_v<std::string, NodeId>);
}

TEST_CASE("Uuid: random ones are not none and do not repeat") {
    std::set<FileId> seen;
    for (int i = 0; i < 1000; ++i) {
        const auto id = random_id<FileId>();
        CHECK_FALSE(id.is_nil());
        seen.insert(id);
    }
    CHECK(seen.size() == 1000);
}

TEST_CASE("Uuid: hashes differ where the bytes do") {
    std::unordered_set<std::size_t> hashes;
    for (std::size_t i = 0; i < 16; ++i) {
        FileId id;
        id.bytes[i] = static_cast<std::uint8_t>(i + 1);
        hashes.insert(std::hash<FileId>{}(id));
    }
    CHECK(hashes.size() == 16);
}

TEST_CASE("Name: compares and hashes by its bytes") {
    const NodeId a{"node1"};
    const NodeId b{"node2"};
    CHECK(a < b);
    CHECK(a == NodeId{"node1"});
    CHECK(std::hash<NodeId>{}(a) == std::hash<NodeId>{}(NodeId{"node1"}));
    CHECK(NodeId{}.empty());
}
