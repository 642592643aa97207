#include "support/catch.hpp"

#include <safepair/base/unique_fd.hpp>

#include <array>
#include <utility>

#include <fcntl.h>
#include <unistd.h>

using safepair::base::UniqueFd;

namespace {

bool is_open(int fd) { return ::fcntl(fd, F_GETFD) >= 0; }

UniqueFd open_null() {
    UniqueFd fd(::open("/dev/null", O_RDONLY | O_CLOEXEC));
    REQUIRE(fd);
    return fd;
}

}  // namespace

TEST_CASE("UniqueFd: closes at its end") {
    int number = -1;
    {
        const auto fd = open_null();
        number = fd.get();
        CHECK(is_open(number));
    }
    CHECK_FALSE(is_open(number));
}

TEST_CASE("UniqueFd: a moved-from one owns nothing, an assigned one closes what it had") {
    auto first = open_null();
    auto second = open_null();
    const int first_number = first.get();
    const int second_number = second.get();
    second = std::move(first);
    CHECK(second.get() == first_number);
    CHECK_FALSE(is_open(second_number));
    const UniqueFd third(std::move(second));
    CHECK(third.get() == first_number);
    CHECK(is_open(first_number));
}

TEST_CASE("UniqueFd: release hands over without closing, reset closes once") {
    auto fd = open_null();
    const int number = fd.release();
    CHECK_FALSE(static_cast<bool>(fd));
    CHECK(is_open(number));
    UniqueFd owner(number);
    owner.reset();
    CHECK_FALSE(is_open(number));
    CHECK(owner.get() == -1);
    owner.reset();
}
