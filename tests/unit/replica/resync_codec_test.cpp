#include "core/resync_codec.hpp"

#include "support/catch.hpp"

#include <safepair/base/bytes.hpp>

#include <string>

using namespace safepair;
using namespace safepair::replica;

namespace {

FileId id(std::uint8_t number) { return FileId{{number}}; }

TreeNode sample_node() {
    TreeNode node;
    node.type = NodeType::symlink;
    node.mode = 0777;
    node.uid = 1;
    node.gid = 2;
    node.size = 3;
    node.modified = -4;
    node.rdev = 5;
    node.xattrs = {6};
    node.xattr_names = {"user.a", "trusted.b"};
    node.target = {7};
    node.names = {{id(8), "name"}, {id(9), "new\nline"}};
    return node;
}

Question sample_question() {
    Question question;
    question.kind = Question::Kind::digests;
    question.ranges = {{id(1), 0, 4}, {id(2), 77, 1}};
    return question;
}

}  // namespace

TEST_CASE("ResyncCodec: questions come back as they went", "[resync]") {
    for (const auto kind : {Question::Kind::map, Question::Kind::tree}) {
        Question question;
        question.kind = kind;
        question.index = 0x01020304;
        const auto back = decode_question(encode_question(question));
        REQUIRE(back);
        CHECK(back->kind == kind);
        CHECK(back->index == question.index);
    }
    const auto back = decode_question(encode_question(sample_question()));
    REQUIRE(back);
    CHECK(back->ranges == sample_question().ranges);
}

TEST_CASE("ResyncCodec: every cut and every longer question is refused", "[resync]") {
    auto bytes = encode_question(sample_question());
    for (std::size_t length = 0; length < bytes.size(); ++length) {
        INFO(length);
        CHECK_FALSE(decode_question(std::span(bytes).first(length)));
    }
    bytes.push_back(std::byte{0});
    CHECK_FALSE(decode_question(bytes));
    bytes.pop_back();
    bytes[0] = std::byte{2};
    CHECK_FALSE(decode_question(bytes));
    bytes[0] = std::byte{1};
    bytes[1] = std::byte{4};
    CHECK_FALSE(decode_question(bytes));
}

TEST_CASE("ResyncCodec: a question that would take too long to answer is refused", "[resync]") {
    auto question = sample_question();
    question.ranges = {{id(1), 0, digest_blocks_max}};
    CHECK(decode_question(encode_question(question)));
    question.ranges.push_back({id(1), 0, 1});
    CHECK_FALSE(decode_question(encode_question(question)));
    question.ranges.assign(digest_ranges_max, {id(1), 0, 1});
    CHECK(decode_question(encode_question(question)));
    question.ranges.push_back({id(1), 0, 1});
    CHECK_FALSE(decode_question(encode_question(question)));
    question.ranges = {{id(1), std::uint64_t{1} << 47U, 1}};
    CHECK_FALSE(decode_question(encode_question(question)));
}

TEST_CASE("ResyncCodec: a tree page comes back as it went, names split over pages joined",
          "[resync]") {
    const auto node = sample_node();
    TreePage whole(4096);
    CHECK(whole.add(id(3), node, 0) == 2);
    Tree tree;
    const auto last = decode_tree_page(whole.finish(true), tree);
    REQUIRE(last);
    CHECK(*last);
    CHECK(tree.at(id(3)) == node);

    // Too small for anything: one name each all the same.
    Tree joined;
    TreePage first(1);
    CHECK(first.add(id(3), node, 0) == 1);
    CHECK(first.add(id(4), node, 0) == std::nullopt);
    TreePage second(1);
    CHECK(second.add(id(3), node, 1) == 2);
    CHECK_FALSE(*decode_tree_page(first.finish(false), joined));
    CHECK(*decode_tree_page(second.finish(true), joined));
    CHECK(joined == tree);
}

TEST_CASE("ResyncCodec: a full page takes no further object, and stays below its bound",
          "[resync]") {
    TreePage page(1000);
    const auto node = sample_node();
    std::uint8_t count = 0;
    while (page.add(id(count), node, 0) == 2) {
        ++count;
    }
    CHECK(count > 3);
    CHECK(page.finish(true).size() <= 1000);
}

TEST_CASE("ResyncCodec: a damaged tree page is refused", "[resync]") {
    TreePage page(4096);
    static_cast<void>(page.add(id(3), sample_node(), 0));
    auto bytes = page.finish(true);
    for (std::size_t length = 2; length < bytes.size(); ++length) {
        Tree tree;
        INFO(length);
        CHECK_FALSE(decode_tree_page(std::span(bytes).first(length), tree));
    }
    Tree tree;
    CHECK_FALSE(decode_tree_page({}, tree));
    auto wrong = bytes;
    wrong[0] = std::byte{2};
    CHECK_FALSE(decode_tree_page(wrong, tree));
    wrong = bytes;
    wrong[17] = std::byte{7};
    CHECK_FALSE(decode_tree_page(wrong, tree));
}

TEST_CASE("ResyncCodec: digests come back as they went and must fit the question", "[resync]") {
    const std::vector<DigestRange> asked{{id(1), 0, 2}, {id(2), 0, 1}, {id(3), 0, 3}};
    const std::vector<RangeDigests> answer{
        std::vector<Digest>{{1}, {2}}, std::nullopt, std::vector<Digest>{{3}}};
    const auto bytes = encode_digest_answer(answer);
    const auto back = decode_digest_answer(bytes, asked);
    REQUIRE(back);
    CHECK(*back == answer);
    for (std::size_t length = 0; length < bytes.size(); ++length) {
        CHECK_FALSE(decode_digest_answer(std::span(bytes).first(length), asked));
    }
    auto fewer = asked;
    fewer[0].count = 1;
    CHECK_FALSE(decode_digest_answer(bytes, fewer));
    fewer = asked;
    fewer.pop_back();
    CHECK_FALSE(decode_digest_answer(bytes, fewer));
}

TEST_CASE("ResyncCodec: a map answer without pieces is refused", "[resync]") {
    const std::vector<std::byte> piece{std::byte{9}};
    const auto bytes = encode_map_answer({3, piece});
    const auto back = decode_map_answer(bytes);
    REQUIRE(back);
    CHECK(back->pieces == 3);
    CHECK(std::vector(back->piece.begin(), back->piece.end()) == piece);
    CHECK_FALSE(decode_map_answer(encode_map_answer({0, piece})));
    CHECK_FALSE(decode_map_answer(std::span(bytes).first(3)));
}

TEST_CASE("ResyncCodec: the worked example of the format document is what is sent", "[resync]") {
    Question question;
    question.kind = Question::Kind::digests;
    question.ranges = {{id(1), 5, 3}};
    base::ByteWriter expected;
    expected.u8(1);
    expected.u8(3);
    expected.u32(1);
    expected.id(id(1).bytes);
    expected.u64(5);
    expected.u32(3);
    CHECK(encode_question(question) == expected.bytes());
}
