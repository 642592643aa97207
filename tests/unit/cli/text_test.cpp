#include "text.hpp"

#include "cli_support.hpp"
#include "support/catch.hpp"

using namespace safepair::cli;
using std::chrono::seconds;

TEST_CASE("Text: durations carry units") {
    CHECK(parse_duration("500ms")->count() == 500);
    CHECK(parse_duration("30s")->count() == 30'000);
    CHECK(parse_duration("5m")->count() == 300'000);
    CHECK(parse_duration("1h30m")->count() == 5'400'000);
    CHECK(parse_duration("1d")->count() == 86'400'000);
    CHECK(parse_duration("0s")->count() == 0);
    for (const auto* bad : {"",
                            "30",
                            "s",
                            "-5s",
                            "5x",
                            "5s3m",
                            "5s5s",
                            "1.5s",
                            "99999999999999999999s",
                            "9999999999999d",
                            " 5s",
                            "5s "}) {
        DYNAMIC_SECTION("'" << bad << "'") { CHECK_FALSE(parse_duration(bad).has_value()); }
    }
}

TEST_CASE("Text: an age is short and keeps two units") {
    CHECK(format_age(seconds(-5)) == "00:00");
    CHECK(format_age(seconds(3)) == "00:03");
    CHECK(format_age(seconds(3599)) == "59:59");
    CHECK(format_age(seconds(3600)) == "1h00m");
    CHECK(format_age(seconds(86'399)) == "23h59m");
    CHECK(format_age(seconds(3 * 86'400 + 2 * 3600 + 59)) == "3d02h");
    CHECK(format_age(seconds(123LL * 86'400)) == "123d");
}

TEST_CASE("Text: a time that is left names its units") {
    CHECK(format_duration(seconds(0)) == "0s");
    CHECK(format_duration(seconds(31)) == "31s");
    CHECK(format_duration(seconds(271)) == "4m31s");
    CHECK(format_duration(seconds(7500)) == "2h05m");
    CHECK(format_duration(seconds(3 * 86'400 + 7200)) == "3d02h");
}

TEST_CASE("Text: bytes and rates have three digits") {
    CHECK(format_bytes(0) == "0 B");
    CHECK(format_bytes(1023) == "1023 B");
    CHECK(format_bytes(1024) == "1.00 KiB");
    CHECK(format_bytes(65'536) == "64.0 KiB");
    CHECK(format_bytes(33'500'000'000) == "31.2 GiB");
    CHECK(format_bytes(1024ULL * 1024 - 1) == "1.00 MiB");
    CHECK(format_bytes(~0ULL) == "16384 PiB");
    CHECK(format_rate(999) == "999 B/s");
    CHECK(format_rate(118'000'000) == "118 MB/s");
    CHECK(format_rate(1'250'000'000) == "1.25 GB/s");
}

TEST_CASE("Text: times are local for people and UTC for programs") {
    tests::fix_environment();
    CHECK(format_local_time(tests::noon, false) == "2026-11-22 19:04:11");
    CHECK(format_local_time(tests::noon + 7'900'000, true) == "2026-11-22 19:04:11.007");
    CHECK(format_utc_time(tests::noon + 123'456'789) == "2026-11-22T19:04:11.123456Z");
    CHECK(format_utc_time(-1) == "1969-12-31T23:59:59.999999Z");
    setenv("TZ", "UTC-2", 1);
    tzset();
    CHECK(format_local_time(tests::noon, false) == "2026-11-22 21:04:11");
    CHECK(format_utc_time(tests::noon) == "2026-11-22T19:04:11.000000Z");
    tests::fix_environment();
}

TEST_CASE("Text: width is what a terminal shows, not bytes") {
    CHECK(display_width("") == 0);
    CHECK(display_width("node1") == 5);
    CHECK(display_width("✓ Ready") == 7);
    CHECK(display_width("Büro") == 4);
    CHECK(display_width("機械") == 4);
    CHECK(display_width("e\xcc\x81") == 1);
    CHECK(display_width("\xff\xfe") == 2);
    CHECK(clipped("機械", 3) == "機");
    CHECK(clipped("abc", 2) == "ab");
    CHECK(clipped("abc", 9) == "abc");
}

TEST_CASE("Text: what a guest prints cannot steer the terminal") {
    CHECK(printable("a\033[31mb") == "a?[31mb");
    CHECK(printable("a\nb\tc\rd") == "a b c?d");
    CHECK(printable("a\nb\tc\rd", true) == "a\nb\tc?d");
    CHECK(printable("\xc2\x9b"
                    "31m") == "?31m");
    CHECK(printable("\xff ok Büro") == "? ok Büro");
}

TEST_CASE("Text: the module's name is put into the agent's commands") {
    struct Row {
        const char* text;
        const char* result;
    };

    for (const auto& row :
         {Row{"safectl stop MODULE --node node1", "safectl stop vm1 --node node1"},
          Row{"safectl stop, then safectl as-primary",
              "safectl stop vm1, then safectl as-primary vm1"},
          Row{"or use safectl start to follow it", "or use safectl start vm1 to follow it"},
          Row{"safectl as-secondary --discard-local", "safectl as-secondary vm1 --discard-local"},
          Row{"safectl stop vm1, safectl start vm1.", "safectl stop vm1, safectl start vm1."},
          Row{"see safectl status vm1", "see safectl status vm1"},
          Row{"MODULES and unsafectl stop stay", "MODULES and unsafectl stop stay"},
          Row{"safectl", "safectl"},
          Row{"", ""}}) {
        DYNAMIC_SECTION(row.text) { CHECK(with_module(row.text, "vm1") == row.result); }
    }
}

TEST_CASE("Text: lines are broken at spaces, never inside a command") {
    CHECK(wrapped("one two three four five six", 0, 2) == "one two three four five six");
    CHECK(wrapped("aaaaaaaaaa bbbbbbbbbb cccccccccc", 24, 2) ==
          "aaaaaaaaaa bbbbbbbbbb\n  cccccccccc");
    CHECK(wrapped("start it there, or: safectl stop vm1 --node node1, then wait", 40, 2) ==
          "start it there, or:\n  safectl stop vm1 --node node1, then\n  wait");
    CHECK(wrapped("safectl", 40, 2) == "safectl");
    CHECK(wrapped("ends with safectl stop", 40, 2) == "ends with safectl stop");
}

TEST_CASE("Text: names are listed as a sentence does") {
    CHECK(listed({}).empty());
    CHECK(listed({"a"}) == "a");
    CHECK(listed({"a", "b"}) == "a and b");
    CHECK(listed({"a", "b", "c"}) == "a, b and c");
}
