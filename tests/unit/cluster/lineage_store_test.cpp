#include "support/catch.hpp"
#include "unit/cluster/sample_status.hpp"

#include <safepair/cluster/limits.hpp>
#include <safepair/cluster/lineage_store.hpp>

#include <filesystem>
#include <fstream>
#include <string>

#include <stdlib.h>

using namespace safepair::cluster;
using safepair::base::Errc;

namespace {

constexpr std::size_t slot_bytes = 4096;

/// A folder of its own that goes away with the test.
class Folder {
  public:
    Folder() {
        std::string pattern = (std::filesystem::temp_directory_path() / "lineage-XXXXXX").string();
        REQUIRE(::mkdtemp(pattern.data()) != nullptr);
        path_ = pattern;
    }

    Folder(const Folder&) = delete;
    Folder& operator=(const Folder&) = delete;

    ~Folder() { std::filesystem::remove_all(path_); }

    [[nodiscard]] std::filesystem::path file() const { return path_ / "lineage"; }

    [[nodiscard]] const std::filesystem::path& path() const { return path_; }

  private:
    std::filesystem::path path_;
};

std::string read_all(const std::filesystem::path& file) {
    std::ifstream stream(file, std::ios::binary);
    return {std::istreambuf_iterator<char>(stream), {}};
}

void write_all(const std::filesystem::path& file, const std::string& content) {
    std::ofstream(file, std::ios::binary | std::ios::trunc) << content;
}

Lineage with_term(std::uint64_t counter) {
    auto lineage = samples::full_lineage();
    lineage.term.counter = counter;
    return lineage;
}

Lineage loaded(const std::filesystem::path& file) {
    auto lineage = LineageStore(file).load();
    REQUIRE(lineage.has_value());
    return *lineage;
}

/// A file in which term 2 is the newest and term 1 the one before, and the offset of the newest
/// slot.
std::size_t two_generations(const std::filesystem::path& file) {
    LineageStore store(file);
    REQUIRE(store.create_if_missing().has_value());
    REQUIRE(store.save(with_term(1)).has_value());
    const auto before = read_all(file);
    REQUIRE(store.save(with_term(2)).has_value());
    const auto after = read_all(file);
    return before.substr(0, slot_bytes) == after.substr(0, slot_bytes) ? slot_bytes : 0;
}

}  // namespace

TEST_CASE("LineageStore: a new file holds a fresh record and has its full size") {
    const Folder folder;
    LineageStore store(folder.file());
    REQUIRE(store.create_if_missing().has_value());
    CHECK(std::filesystem::file_size(folder.file()) == 2 * slot_bytes);
    CHECK(loaded(folder.file()) == Lineage{});
    CHECK_FALSE(std::filesystem::exists(folder.file().string() + ".new"));
}

TEST_CASE("LineageStore: the worked example of the format page keeps its bytes") {
    const Folder folder;
    REQUIRE(LineageStore(folder.file()).create_if_missing().has_value());
    const auto content = read_all(folder.file());
    CHECK(content.substr(0, slot_bytes) == std::string(slot_bytes, '\0'));
    CHECK(content.substr(slot_bytes, 8) == "SPLINEAG");
    std::string digits;
    for (const char c : content.substr(2 * slot_bytes - 32)) {
        constexpr std::string_view hexadecimal = "0123456789abcdef";
        digits.push_back(hexadecimal[static_cast<unsigned char>(c) >> 4U]);
        digits.push_back(hexadecimal[static_cast<unsigned char>(c) & 0xFU]);
    }
    CHECK(digits == "19066bf221e3d8e72af11858638dba33a9172ba08227dd4471764a377effb1f5");
}

TEST_CASE("LineageStore: create leaves an existing file alone, whatever it holds") {
    const Folder folder;
    LineageStore store(folder.file());
    REQUIRE(store.create_if_missing().has_value());
    REQUIRE(store.save(samples::full_lineage()).has_value());
    REQUIRE(LineageStore(folder.file()).create_if_missing().has_value());
    CHECK(loaded(folder.file()) == samples::full_lineage());
    write_all(folder.file(), "something else");
    REQUIRE(LineageStore(folder.file()).create_if_missing().has_value());
    CHECK(read_all(folder.file()) == "something else");
}

TEST_CASE("LineageStore: every field survives") {
    const Folder folder;
    LineageStore store(folder.file());
    REQUIRE(store.create_if_missing().has_value());
    REQUIRE(store.save(samples::full_lineage()).has_value());
    CHECK(loaded(folder.file()) == samples::full_lineage());
}

TEST_CASE("LineageStore: the last of many saves counts, also over several openings") {
    const Folder folder;
    REQUIRE(LineageStore(folder.file()).create_if_missing().has_value());
    for (std::uint64_t counter = 1; counter < 20; ++counter) {
        // A new object each time: save learns the sequence from the file itself.
        REQUIRE(LineageStore(folder.file()).save(with_term(counter)).has_value());
        CHECK(loaded(folder.file()).term.counter == counter);
        CHECK(std::filesystem::file_size(folder.file()) == 2 * slot_bytes);
    }
}

TEST_CASE("LineageStore: a missing file is an error, of load and of save") {
    const Folder folder;
    const auto lineage = LineageStore(folder.file()).load();
    REQUIRE_FALSE(lineage.has_value());
    CHECK(lineage.error().code == std::errc::no_such_file_or_directory);
    CHECK_FALSE(LineageStore(folder.file()).save(Lineage{}).has_value());
    CHECK_FALSE(std::filesystem::exists(folder.file()));
}

TEST_CASE("LineageStore: a missing folder is an error of create") {
    const Folder folder;
    CHECK_FALSE(LineageStore(folder.path() / "absent" / "lineage").create_if_missing().has_value());
}

TEST_CASE("LineageStore: damage anywhere in the newest slot leaves the one before") {
    const Folder folder;
    const auto newest = two_generations(folder.file());
    const auto good = read_all(folder.file());
    CHECK(loaded(folder.file()) == with_term(2));
    for (std::size_t i = 0; i < slot_bytes; i += 31) {
        auto bad = good;
        bad[newest + i] = static_cast<char>(bad[newest + i] ^ 0x10);
        write_all(folder.file(), bad);
        REQUIRE(loaded(folder.file()) == with_term(1));
    }
    // Torn between any two sectors: a new beginning in front of old bytes.
    for (std::size_t sector = 512; sector < slot_bytes; sector += 512) {
        auto bad = good;
        for (std::size_t i = sector; i < slot_bytes; ++i) {
            bad[newest + i] = '\x5a';
        }
        write_all(folder.file(), bad);
        REQUIRE(loaded(folder.file()) == with_term(1));
    }
}

TEST_CASE("LineageStore: damage in the older slot changes nothing") {
    const Folder folder;
    const auto older = two_generations(folder.file()) == 0 ? slot_bytes : 0;
    auto bad = read_all(folder.file());
    bad[older + 20] = static_cast<char>(bad[older + 20] ^ 1);
    write_all(folder.file(), bad);
    CHECK(loaded(folder.file()) == with_term(2));
}

TEST_CASE("LineageStore: the save after a torn one goes to the torn slot") {
    const Folder folder;
    const auto newest = two_generations(folder.file());
    auto bad = read_all(folder.file());
    bad[newest + 100] = static_cast<char>(bad[newest + 100] ^ 1);
    write_all(folder.file(), bad);
    REQUIRE(LineageStore(folder.file()).save(with_term(3)).has_value());
    CHECK(loaded(folder.file()) == with_term(3));
    const auto now = read_all(folder.file());
    const std::size_t other = newest == 0 ? slot_bytes : 0;
    CHECK(now.substr(other, slot_bytes) == bad.substr(other, slot_bytes));
}

TEST_CASE("LineageStore: a shortened file is never a silent default") {
    const Folder folder;
    const auto newest = two_generations(folder.file());
    const auto good = read_all(folder.file());
    for (const std::size_t length : {std::size_t{0},
                                     std::size_t{1},
                                     std::size_t{4095},
                                     std::size_t{4096},
                                     std::size_t{8191}}) {
        write_all(folder.file(), good.substr(0, length));
        const auto lineage = LineageStore(folder.file()).load();
        if (length < slot_bytes) {
            REQUIRE_FALSE(lineage.has_value());
            REQUIRE(lineage.error().code == Errc::corrupt);
        } else {
            REQUIRE(lineage.has_value());
            REQUIRE(*lineage == with_term(newest == 0 ? 2 : 1));
        }
    }
}

TEST_CASE("LineageStore: both slots damaged is corrupt, and a save starts anew") {
    const Folder folder;
    two_generations(folder.file());
    auto bad = read_all(folder.file());
    bad[50] = static_cast<char>(bad[50] ^ 1);
    bad[slot_bytes + 50] = static_cast<char>(bad[slot_bytes + 50] ^ 1);
    write_all(folder.file(), bad);
    LineageStore store(folder.file());
    const auto lineage = store.load();
    REQUIRE_FALSE(lineage.has_value());
    CHECK(lineage.error().code == Errc::corrupt);
    CHECK(lineage.error().context.find("both slots are damaged") != std::string::npos);
    REQUIRE(store.save(with_term(9)).has_value());
    CHECK(loaded(folder.file()) == with_term(9));
}

TEST_CASE("LineageStore: a foreign file is named as such") {
    const Folder folder;
    write_all(folder.file(), std::string(2 * slot_bytes, 'x'));
    auto lineage = LineageStore(folder.file()).load();
    REQUIRE_FALSE(lineage.has_value());
    CHECK(lineage.error().code == Errc::corrupt);
    CHECK(lineage.error().context.find("not a lineage file") != std::string::npos);
    write_all(folder.file(), std::string(2 * slot_bytes, '\0'));
    lineage = LineageStore(folder.file()).load();
    REQUIRE_FALSE(lineage.has_value());
    CHECK(lineage.error().code == Errc::corrupt);
}

TEST_CASE("LineageStore: a slot copied to the other place does not count") {
    const Folder folder;
    const auto newest = two_generations(folder.file());
    auto bad = read_all(folder.file());
    const std::size_t other = newest == 0 ? slot_bytes : 0;
    bad.replace(other, slot_bytes, bad, newest, slot_bytes);
    bad.replace(newest, slot_bytes, slot_bytes, '\0');
    write_all(folder.file(), bad);
    CHECK_FALSE(LineageStore(folder.file()).load().has_value());
}

TEST_CASE("LineageStore: a name that could not be read back is refused") {
    const Folder folder;
    LineageStore store(folder.file());
    REQUIRE(store.create_if_missing().has_value());
    auto lineage = samples::full_lineage();
    lineage.handed_to = NodeId{std::string(limits::name_bytes_max + 1, 'x')};
    const auto saved = store.save(lineage);
    REQUIRE_FALSE(saved.has_value());
    CHECK(saved.error().code == Errc::bad_input);
    CHECK(loaded(folder.file()) == Lineage{});
}
