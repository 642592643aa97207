#include "config_reader.hpp"

#include "support/catch.hpp"

using namespace safepair;
using namespace safepair::agent;

namespace {

std::optional<base::Duration> duration_of(const std::string& text) {
    yaml::Mistakes mistakes("f");
    const auto value = yaml::parse(text, mistakes);
    REQUIRE(value);
    return yaml::duration(*value, std::chrono::milliseconds(1), std::chrono::hours(24), mistakes);
}

}  // namespace

TEST_CASE("A duration is a whole number with a unit") {
    CHECK(duration_of("250ms") == std::chrono::milliseconds(250));
    CHECK(duration_of("250 ms") == std::chrono::milliseconds(250));
    CHECK(duration_of("3s") == std::chrono::seconds(3));
    CHECK(duration_of("5min") == std::chrono::minutes(5));
    CHECK(duration_of("24h") == std::chrono::hours(24));
    for (const char* bad : {"3",
                            "s",
                            "3 m",
                            "1.5s",
                            "0x3s",
                            "3s ",
                            "3s3s",
                            "+3s",
                            "3S",
                            "25h",
                            "0s",
                            "3 s x",
                            "ms 3"}) {
        INFO(bad);
        CHECK(duration_of(std::string("\"") + bad + "\"") == std::nullopt);
    }
}

TEST_CASE("A duration is written with the largest unit that divides it") {
    CHECK(yaml::to_text(std::chrono::milliseconds(1500)) == "1500ms");
    CHECK(yaml::to_text(std::chrono::seconds(90)) == "90s");
    CHECK(yaml::to_text(std::chrono::minutes(5)) == "5min");
    CHECK(yaml::to_text(std::chrono::hours(24)) == "24h");
}

TEST_CASE("A name is what certificates, paths and heartbeats can hold") {
    CHECK(yaml::is_name("node1"));
    CHECK(yaml::is_name("a-1"));
    CHECK(yaml::is_name(std::string(63, 'a')));
    for (const auto* bad : {"", "Node", "a_b", "a.b", "-a", "a-", "a b", "\xc3\xa9", "a/b"}) {
        INFO(bad);
        CHECK_FALSE(yaml::is_name(bad));
    }
    CHECK_FALSE(yaml::is_name(std::string(64, 'a')));
}

TEST_CASE("What is quoted in a message is short and cannot write to a terminal") {
    CHECK(yaml::in_quotes("a\x1b[2J\n") == "\"a?[2J?\"");
    const auto longer = yaml::in_quotes(std::string(500, 'x'));
    CHECK(longer.size() < 80);
    CHECK_THAT(longer, Catch::EndsWith("...\""));
}

TEST_CASE("A section complains about each key that nobody asked for") {
    yaml::Mistakes mistakes("f");
    const auto value = yaml::parse("known: 1\nstrange: 2\n[a, b]: 3\n", mistakes);
    REQUIRE(value);
    yaml::Section section(*value, mistakes);
    CHECK(section.take("known"));
    CHECK(section.has("strange"));
    CHECK_FALSE(section.require("needed", "write it"));
    section.finish();
    const auto text = mistakes.error().context;
    CHECK_THAT(text, Catch::Contains("f:2: \"strange\" is not known; known here: known, needed"));
    CHECK_THAT(text, Catch::Contains("f:3: a key must be a word"));
    CHECK_THAT(text, Catch::Contains("f:1: needed: is missing; write it"));
}

TEST_CASE("The lines of another reader's error count against the bound") {
    yaml::Mistakes inner("inner");
    for (int i = 0; i < 15; ++i) {
        inner.add(i + 1, "", "wrong");
    }
    yaml::Mistakes all("all");
    all.add_lines(inner.error());
    all.add_lines(inner.error());
    CHECK_THAT(all.error().context, Catch::StartsWith("inner:1: wrong\n"));
    CHECK_THAT(all.error().context, Catch::EndsWith("and 10 more"));
}
