#include "io/map_file.hpp"

#include "support/catch.hpp"
#include "support/scratch_directory.hpp"

#include <fstream>
#include <iterator>
#include <string>

using namespace safepair;
using namespace safepair::replica;
using safepair::tests::ScratchDirectory;

namespace {

constexpr std::uint64_t block = limits::dirty_block_bytes;
const GenerationId folder{{1, 2, 3}};

std::string content_of(const std::filesystem::path& file) {
    std::ifstream in(file, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
}

void put(const std::filesystem::path& file, const std::string& content) {
    std::ofstream(file, std::ios::binary | std::ios::trunc) << content;
}

DirtyMap sample_map() {
    DirtyMap map;
    map.mark(FileId{{1}}, 5 * block, 3 * block);
    map.mark_whole(FileId{{2}});
    map.touch(FileId{{3}});
    map.note_tree_change();
    return map;
}

}  // namespace

TEST_CASE("MapFile: what was saved is loaded, in a second life as well", "[map_file]") {
    const ScratchDirectory directory;
    REQUIRE(MapFile(directory / "map").save(sample_map(), folder));
    const auto loaded = MapFile(directory / "map").load(folder);
    REQUIRE(loaded);
    REQUIRE(loaded->has_value());
    const auto& map = **loaded;
    CHECK(map.tree_changed());
    CHECK(map.files().size() == 3);
    REQUIRE(map.find(FileId{{1}}) != nullptr);
    CHECK(map.find(FileId{{1}})->ranges() == std::vector<BlockRange>{{5, 3}});
    CHECK(map.find(FileId{{2}})->whole());
    CHECK_FALSE(map.find(FileId{{3}})->whole());
    CHECK_FALSE(std::filesystem::exists(directory / "map.new"));
}

TEST_CASE("MapFile: an empty map is a map, and none is none", "[map_file]") {
    const ScratchDirectory directory;
    MapFile file(directory / "map");
    auto loaded = file.load(folder);
    REQUIRE(loaded);
    CHECK_FALSE(loaded->has_value());
    REQUIRE(file.remove());
    REQUIRE(file.save({}, folder));
    loaded = file.load(folder);
    REQUIRE(loaded);
    REQUIRE(loaded->has_value());
    CHECK((*loaded)->empty());
    REQUIRE(file.remove());
    CHECK_FALSE(file.load(folder)->has_value());
}

TEST_CASE("MapFile: a map of many pieces is kept whole", "[map_file]") {
    const ScratchDirectory directory;
    DirtyMap map;
    for (std::uint64_t chunk = 0; chunk < 5000; ++chunk) {
        map.mark(FileId{{1}}, chunk * FileBlocks::chunk_blocks * block, 1);
    }
    MapFile file(directory / "map");
    REQUIRE(file.save(map, folder));
    CHECK((*file.load(folder))->bytes() == map.bytes());
}

TEST_CASE("MapFile: every torn or damaged file is an error, never another map", "[map_file]") {
    const ScratchDirectory directory;
    const auto path = directory / "map";
    MapFile file(path);
    REQUIRE(file.save(sample_map(), folder));
    const auto good = content_of(path);
    for (std::size_t length = 0; length < good.size(); length += 7) {
        put(path, good.substr(0, length));
        const auto loaded = file.load(folder);
        INFO(length);
        REQUIRE_FALSE(loaded);
        CHECK(loaded.error().code == base::Errc::corrupt);
    }
    for (std::size_t at = 0; at < good.size(); at += 3) {
        auto bad = good;
        bad[at] = static_cast<char>(bad[at] ^ 0x10);
        put(path, bad);
        INFO(at);
        CHECK_FALSE(file.load(folder));
    }
    put(path, good + "x");
    CHECK_FALSE(file.load(folder));
    put(path, good);
    CHECK(file.load(folder));
}

TEST_CASE("MapFile: the map of another folder is refused by name", "[map_file]") {
    const ScratchDirectory directory;
    MapFile file(directory / "map");
    REQUIRE(file.save(sample_map(), folder));
    const auto loaded = file.load(GenerationId{{9}});
    REQUIRE_FALSE(loaded);
    CHECK(loaded.error().code == base::Errc::corrupt);
    CHECK(loaded.error().message().find("another folder") != std::string::npos);
    CHECK(loaded.error().message().find("map") != std::string::npos);
}

TEST_CASE("MapFile: a save that fails leaves the older map", "[map_file]") {
    const ScratchDirectory directory;
    MapFile file(directory / "map");
    REQUIRE(file.save(sample_map(), folder));
    // The new file cannot be made where a directory stands.
    std::filesystem::create_directory(directory / "map.new");
    CHECK_FALSE(file.save({}, folder));
    CHECK_FALSE((*file.load(folder))->empty());
    CHECK_FALSE(MapFile(directory / "no such directory" / "map").save({}, folder));
}

TEST_CASE("MapFile: the worked example of the format document is what is written", "[map_file]") {
    const ScratchDirectory directory;
    DirtyMap map;
    map.mark(FileId{{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}}, 5 * block, 3 * block);
    map.note_tree_change();
    GenerationId example;
    example.bytes.fill(0xAA);
    REQUIRE(MapFile(directory / "map").save(map, example));
    const std::string expected =
        std::string("SPDIRTYM\x01\0\0\0", 12) + std::string(16, '\xAA') +
        std::string("\x22\x02\0\0\0\0\0\0\x1e\x02\0\0\x01", 13) +
        std::string("\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f\x10", 16) +
        std::string("\0\x01\0\0\0", 5) + std::string(8, '\0') + '\xe0' + std::string(511, '\0') +
        "\x8d\x21\xa3\xdd\x8a\xe1\x2d\xe0\x98\xc2\x37\x9f\xc4\x08\xa5\x05";
    CHECK(content_of(directory / "map") == expected);
}
