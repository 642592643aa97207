#include "../../../libhyperv/src/core/save_record.hpp"

#include "support/catch.hpp"

#include <string>
#include <vector>

using namespace safepair;
using hyperv::choose_start;
using hyperv::DiskFact;
using hyperv::format_save_record;
using hyperv::parse_save_record;
using hyperv::SavedFacts;
using hyperv::SaveRecord;
using hyperv::StartMode;

namespace {

const DiskFact disk_a{"/srv/vm/a b.img", 4096, 1'700'000'000'123'456'789};
const DiskFact disk_b{"/srv/vm/b.img", 1, -5};

SaveRecord sample() { return {7000, {disk_a, disk_b}}; }

}  // namespace

TEST_CASE("A save record reads back as it was written") {
    const auto text = format_save_record(sample());
    REQUIRE(text.has_value());
    CHECK(*text ==
          "safepair-save 1\nstate 7000\ndisk 4096 1700000000123456789 /srv/vm/a b.img\ndisk 1 -5 "
          "/srv/vm/b.img\nend 2\n");
    const auto record = parse_save_record(*text);
    REQUIRE(record.has_value());
    CHECK(record->state_bytes == 7000);
    CHECK(record->disks == sample().disks);
}

TEST_CASE("A save record cut off anywhere is damaged") {
    const auto text = *format_save_record(sample());
    for (std::size_t length = 0; length < text.size(); ++length) {
        const auto record = parse_save_record(text.substr(0, length));
        REQUIRE_FALSE(record.has_value());
        CHECK(record.error().code == base::Errc::corrupt);
    }
}

TEST_CASE("A save record with anything else in it is damaged") {
    for (const char* text : {"safepair-save 2\nstate 1\nend 0\n",
                             "safepair-save 1\nstate x\nend 0\n",
                             "safepair-save 1\nstate 1 \nend 0\n",
                             "safepair-save 1\nstate -1\nend 0\n",
                             "safepair-save 1\nstate 1\nend 1\n",
                             "safepair-save 1\nstate 1\nend 0\nmore\n",
                             "safepair-save 1\nstate 1\ndisk 5 6\nend 1\n",
                             "safepair-save 1\nstate 1\ndisk 5 6 \nend 1\n",
                             "safepair-save 1\nstate 1\ndisk 99999999999999999999 6 /x\nend 1\n"}) {
        CHECK_FALSE(parse_save_record(text).has_value());
    }
}

TEST_CASE("A disk whose path holds a line end cannot be recorded") {
    CHECK_FALSE(format_save_record({1, {{"/srv/a\nb", 1, 1}}}).has_value());
}

TEST_CASE("choose_start restores only over exactly the disks of the save") {
    auto changed = disk_a;
    changed.modified_ns += 1;
    auto older = disk_a;
    older.modified_ns -= 1;
    auto longer = disk_a;
    longer.bytes += 1;

    struct Row {
        const char* because;
        SavedFacts facts;
        StartMode mode;
        const char* why;
    };

    const Row rows[] = {
        {"nothing was saved", {std::nullopt, std::nullopt, {}}, StartMode::boot, ""},
        {"a record alone is no state",
         {std::nullopt, sample(), {disk_a, disk_b}},
         StartMode::boot,
         ""},
        {"all as it was", {7000, sample(), {disk_b, disk_a}}, StartMode::restore, ""},
        {"a state file of unknown disks",
         {7000, std::nullopt, {}},
         StartMode::boot_beside_stale_state,
         "nothing says which disks it belongs to"},
        {"a state file that was not copied to its end",
         {6999, sample(), {disk_a, disk_b}},
         StartMode::boot_beside_stale_state,
         "it is not complete"},
        {"a disk that was written since",
         {7000, sample(), {changed, disk_b}},
         StartMode::boot_beside_stale_state,
         "the disk /srv/vm/a b.img was changed since"},
        {"an older copy of a disk is another disk, too",
         {7000, sample(), {older, disk_b}},
         StartMode::boot_beside_stale_state,
         "the disk /srv/vm/a b.img was changed since"},
        {"a disk that has grown",
         {7000, sample(), {longer, disk_b}},
         StartMode::boot_beside_stale_state,
         "the disk /srv/vm/a b.img was changed since"},
        {"a disk that is gone",
         {7000, sample(), {disk_a}},
         StartMode::boot_beside_stale_state,
         "the disk /srv/vm/b.img is missing"},
        {"a record without disks protects nothing",
         {7000, SaveRecord{7000, {}}, {}},
         StartMode::boot_beside_stale_state,
         "its record names no disk"},
    };
    for (const auto& row : rows) {
        DYNAMIC_SECTION(row.because) {
            const auto choice = choose_start(row.facts);
            CHECK(choice.mode == row.mode);
            CHECK(choice.why == row.why);
        }
    }
}
