#include "support/catch.hpp"

#include <safepair/base/result.hpp>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <memory>
#include <string>
#include <vector>

#include <sys/wait.h>
#include <unistd.h>

using namespace safepair::base;

namespace {

Result<int> half(int value) {
    if (value % 2 != 0) {
        return error(Errc::bad_input, "half of " + std::to_string(value));
    }
    return value / 2;
}

Result<int> quarter(int value) {
    SAFEPAIR_TRY(const int first, half(value));
    SAFEPAIR_TRY(const int second, half(first));
    return second;
}

Result<void> check_even(int value) {
    SAFEPAIR_CHECK(half(value).has_value() ? Result<void>() : Result<void>(half(value).error()));
    return {};
}

}  // namespace

TEST_CASE("Result: holds a value or an error") {
    const auto good = half(8);
    REQUIRE(good.has_value());
    CHECK(static_cast<bool>(good));
    CHECK(*good == 4);
    const auto bad = half(7);
    REQUIRE_FALSE(bad.has_value());
    CHECK(bad.error().code == Errc::bad_input);
    CHECK(bad.value_or(9) == 9);
    CHECK(good.value_or(9) == 4);
}

TEST_CASE("Result: TRY passes values and errors on") {
    CHECK(*quarter(8) == 2);
    CHECK(quarter(7).error().context == "half of 7");
    CHECK(quarter(6).error().context == "half of 3");
}

TEST_CASE("Result: CHECK passes the error of a Result without a value on") {
    CHECK(check_even(2).has_value());
    CHECK(check_even(3).error().context == "half of 3");
}

TEST_CASE("Result: and_then runs the next step only with a value") {
    CHECK(*half(8).and_then(half) == 2);
    int calls = 0;
    const auto counted = half(7).and_then([&calls](int value) {
        ++calls;
        return Result<std::string>(std::to_string(value));
    });
    CHECK_FALSE(counted.has_value());
    CHECK(calls == 0);
}

TEST_CASE("Result: carries what can only be moved") {
    Result<std::unique_ptr<int>> result(std::make_unique<int>(5));
    const std::unique_ptr<int> taken = *std::move(result);
    CHECK(*taken == 5);
}

TEST_CASE("Result: the value of a failed one aborts instead of inventing one") {
    const pid_t child = ::fork();
    if (child == 0) {
        ::close(STDERR_FILENO);
        ::signal(SIGABRT, SIG_DFL);
        const volatile int value = *half(1);
        ::_exit(value == 0 ? 0 : 1);
    }
    int status = 0;
    REQUIRE(::waitpid(child, &status, 0) == child);
    CHECK(WIFSIGNALED(status));
    CHECK(WTERMSIG(status) == SIGABRT);
}

TEST_CASE("Error: says what was attempted and what went wrong") {
    const auto missing = error_from_errno(ENOENT, "open /a");
    CHECK(missing.code == std::errc::no_such_file_or_directory);
    CHECK(missing.message() == "open /a: No such file or directory");
    CHECK(missing.within("module vm1").message() ==
          "module vm1: open /a: No such file or directory");
    CHECK(error(Errc::busy, "").message() == "in use");
    CHECK(error(Errc::busy, "").within("folder").message() == "folder: in use");
}

TEST_CASE("Error: every code has words of its own") {
    std::vector<std::string> seen;
    for (int value = static_cast<int>(Errc::ok); value <= static_cast<int>(Errc::cancelled);
         ++value) {
        const auto text = make_error_code(static_cast<Errc>(value)).message();
        CHECK_FALSE(text.empty());
        CHECK(text != "unknown");
        CHECK(std::find(seen.begin(), seen.end(), text) == seen.end());
        seen.push_back(text);
    }
}

TEST_CASE("Error: codes of other categories are never equal to ours") {
    const std::error_code ours = Errc::busy;
    CHECK(ours == Errc::busy);
    CHECK(ours != std::error_code(ours.value(), std::generic_category()));
    CHECK(std::string(ours.category().name()) == "safepair");
}
