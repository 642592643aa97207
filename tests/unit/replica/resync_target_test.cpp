#include "io/resync_target.hpp"

#include "core/resync_codec.hpp"
#include "resync_support.hpp"
#include "support/catch.hpp"

#include <string>

#include <fcntl.h>
#include <linux/falloc.h>

using namespace safepair;
using namespace safepair::tests;

namespace {

constexpr std::uint64_t block = limits::dirty_block_bytes;

ResyncRecord data_block(FileId file, std::uint64_t offset, const std::string& text) {
    ResyncRecord record;
    record.operation.kind = OperationKind::write;
    record.operation.file = file;
    record.operation.offset = offset;
    record.operation.data = std::as_bytes(std::span(text.data(), text.size()));
    return record;
}

std::vector<std::byte> bytes_of(const Question& question) { return encode_question(question); }

DirtyMap no_map() { return {}; }

}  // namespace

TEST_CASE("ResyncTarget: a block is cut where the file ends and never makes it longer",
          "[resync]") {
    if (!has_trusted_xattrs()) {
        return;
    }
    Copy copy;
    const auto file = copy.file(root_file, "file", "0123456789");
    const std::string text = "abcdefgh";
    REQUIRE(apply_resync_record(copy.store(), data_block(file, 6, text)));
    CHECK(copy.read(file) == "012345abcd");
    REQUIRE(apply_resync_record(copy.store(), data_block(file, 10, text)));
    REQUIRE(apply_resync_record(copy.store(), data_block(file, 4000, text)));
    CHECK(copy.read(file) == "012345abcd");

    ResyncRecord hole;
    hole.operation.kind = OperationKind::allocate;
    hole.operation.file = file;
    hole.operation.offset = 8;
    hole.operation.length = 1 << 30;
    hole.operation.flags = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
    REQUIRE(apply_resync_record(copy.store(), hole));
    CHECK(copy.read(file) == std::string("012345ab\0\0", 10));
    hole.operation.flags = 0;
    const auto refused = apply_resync_record(copy.store(), hole);
    REQUIRE_FALSE(refused);
    CHECK(refused.error().code == base::Errc::corrupt);
    CHECK(copy.store().attributes(file)->size == 10);
}

TEST_CASE("ResyncTarget: a block of a file that is gone is dropped, also while somebody reads it",
          "[resync]") {
    if (!has_trusted_xattrs()) {
        return;
    }
    Copy copy;
    const auto file = copy.file(root_file, "file", "0123456789");
    REQUIRE(copy.store().hold(file));
    REQUIRE(copy.remove(root_file, "file") == 0);
    CHECK(apply_resync_record(copy.store(), data_block(file, 0, "abc")));
    CHECK(copy.read(file) == "0123456789");
    copy.store().release(file);
    CHECK(apply_resync_record(copy.store(), data_block(file, 0, "abc")));
    CHECK(apply_resync_record(copy.store(), data_block(base::random_id<FileId>(), 0, "abc")));
}

TEST_CASE("ResyncTarget: a record that cannot be carried out is an error", "[resync]") {
    if (!has_trusted_xattrs()) {
        return;
    }
    Copy copy;
    ResyncRecord record;
    record.kind = ResyncRecord::Kind::stage;
    record.operation.name = "missing";
    CHECK_FALSE(apply_resync_record(copy.store(), record));
    record.kind = ResyncRecord::Kind::unstage;
    record.operation.file = base::random_id<FileId>();
    CHECK_FALSE(apply_resync_record(copy.store(), record));
    record.kind = ResyncRecord::Kind::operation;
    record.operation.kind = OperationKind::unlink;
    CHECK_FALSE(apply_resync_record(copy.store(), record));
    record.kind = static_cast<ResyncRecord::Kind>(99);
    CHECK(apply_resync_record(copy.store(), record).error().code == base::Errc::corrupt);
}

TEST_CASE("ResyncTarget: what its directory would hand down is not kept by a created object",
          "[resync]") {
    if (!has_trusted_xattrs()) {
        return;
    }
    Copy copy;
    const auto parent = copy.directory(root_file, "parent");
    REQUIRE(copy.set_xattr(parent, "system.posix_acl_default", sample_acl(7)) == 0);
    ResyncRecord record;
    record.kind = ResyncRecord::Kind::operation;
    record.operation.kind = OperationKind::create;
    record.operation.parent = parent;
    record.operation.name = "child";
    record.operation.file = base::random_id<FileId>();
    record.operation.attributes.type = NodeType::directory;
    record.operation.attributes.mode = 0751;
    REQUIRE(apply_resync_record(copy.store(), record));
    CHECK(copy.store().xattr_names(record.operation.file)->empty());
    CHECK(copy.store().attributes(record.operation.file)->mode == 0751);
}

TEST_CASE("ResyncTarget: digests of holes are those of zeros, and a missing file is told",
          "[resync]") {
    if (!has_trusted_xattrs()) {
        return;
    }
    Copy copy;
    const auto zeros = copy.file(root_file, "zeros", std::string(2 * block + 100, '\0'));
    const auto holes = copy.create(root_file, "holes", NodeType::file);
    REQUIRE(copy.truncate(holes, 2 * block + 100) == 0);
    ResyncTarget target(copy.store(), no_map);
    Question question;
    question.kind = Question::Kind::digests;
    question.ranges = {
        {zeros, 0, 5}, {holes, 0, 5}, {base::random_id<FileId>(), 0, 1}, {zeros, 9, 1}};
    const auto answered = target.answer(bytes_of(question));
    REQUIRE(answered);
    const auto digests = decode_digest_answer(*answered, question.ranges);
    REQUIRE(digests);
    REQUIRE((*digests)[0].has_value());
    CHECK((*digests)[0]->size() == 3);
    CHECK((*digests)[0] == (*digests)[1]);
    CHECK((*digests)[0]->at(0) != (*digests)[0]->at(2));
    CHECK_FALSE((*digests)[2].has_value());
    REQUIRE((*digests)[3].has_value());
    CHECK((*digests)[3]->empty());
}

TEST_CASE("ResyncTarget: a tree of many pages is the tree", "[resync]") {
    if (!has_trusted_xattrs()) {
        return;
    }
    Copy copy;
    const auto shared = copy.file(root_file, "shared", "x");
    // More names of one object than a page holds.
    const auto links = copy.directory(root_file, "links");
    for (int i = 0; i < 2500; ++i) {
        REQUIRE(copy.link(shared, links, std::to_string(i) + std::string(240, 'l')) == 0);
    }
    ResyncTarget target(copy.store(), no_map);
    Tree tree;
    Question question;
    question.kind = Question::Kind::tree;
    bool last = false;
    for (question.index = 0; !last; ++question.index) {
        const auto page = target.answer(bytes_of(question));
        REQUIRE(page);
        CHECK(page->size() <= answer_bytes_max);
        last = *decode_tree_page(*page, tree);
    }
    CHECK(question.index > 1);
    CHECK(tree.size() == 3);
    CHECK(tree.at(shared).names.size() == 2501);
    CHECK(tree.at(shared).names == copy.store().names(shared));
    // Out of turn, and after the end.
    CHECK_FALSE(target.answer(bytes_of(question)));
    question.index = 7;
    CHECK_FALSE(target.answer(bytes_of(question)));
}

TEST_CASE("ResyncTarget: the pieces of a large map make the map", "[resync]") {
    if (!has_trusted_xattrs()) {
        return;
    }
    Copy copy;
    DirtyMap map;
    const auto file = base::random_id<FileId>();
    for (std::uint64_t chunk = 0; chunk < 3000; ++chunk) {
        map.mark(file, chunk * FileBlocks::chunk_blocks * block, 1);
    }
    int asked = 0;
    ResyncTarget target(copy.store(), [&] {
        ++asked;
        return map;
    });
    DirtyMap got;
    Question question;
    std::uint32_t pieces = 1;
    for (question.index = 0; question.index < pieces; ++question.index) {
        const auto bytes = target.answer(bytes_of(question));
        REQUIRE(bytes);
        const auto answer = decode_map_answer(*bytes);
        REQUIRE(answer);
        pieces = answer->pieces;
        got.merge(*DirtyMap::decode(answer->piece));
    }
    CHECK(pieces > 2);
    CHECK(asked == 1);
    CHECK(got.bytes() == map.bytes());
    CHECK_FALSE(target.answer(bytes_of(question)));
}

TEST_CASE("ResyncTarget: what was left aside by an interrupted resync is cleared for the next",
          "[resync]") {
    if (!has_trusted_xattrs()) {
        return;
    }
    Copy copy;
    const auto file = copy.file(root_file, "aside", "x");
    REQUIRE(copy.store().stage(root_file, "aside"));
    ResyncTarget target(copy.store(), no_map);
    Question question;
    question.kind = Question::Kind::tree;
    REQUIRE(target.answer(bytes_of(question)));
    CHECK_FALSE(copy.store().knows(file));
}
