#include "../../../guard/src/page_layout.hpp"
#include "support/catch.hpp"
#include "unit/guard/guard_support.hpp"

#include <safepair/guard/guard_page.hpp>

using namespace safepair::guard;
using namespace safepair::guard::testing;
using namespace std::chrono_literals;
using safepair::base::boot_time_now;
using safepair::base::Errc;

namespace {

std::unique_ptr<GuardPage> create(const Folder& folder) {
    auto page = GuardPage::create(folder.page());
    REQUIRE(page.has_value());
    return std::move(*page);
}

/// The order of the first entry, as safe-guard would read it.
Order first_order(const Folder& folder) {
    auto mapped = MappedPage::open(folder.page());
    REQUIRE(mapped.has_value());
    Order order;
    REQUIRE((*mapped)->entries[0].order.load(order));
    return order;
}

}  // namespace

TEST_CASE("GuardPage: what is armed can be read from the page in full") {
    const Folder folder;
    const auto page = create(folder);
    const auto deadline = boot_time_now() + 1h;
    REQUIRE(
        page->arm("vm1",
                  {"/sys/fs/cgroup/vm1", ::getpid(), 42, {"10.0.0.5/24@eth0", "fd00::5/64@eth1"}},
                  deadline));
    const auto order = first_order(folder);
    CHECK(order.armed == 1);
    CHECK(view(order.module) == "vm1");
    CHECK(view(order.cgroup) == "/sys/fs/cgroup/vm1");
    CHECK(order.process == ::getpid());
    CHECK(order.process_start > 0);
    CHECK(order.fuse_connection == 42);
    REQUIRE(order.address_count == 2);
    CHECK(view(order.addresses[1]) == "fd00::5/64@eth1");
    auto mapped = MappedPage::open(folder.page());
    REQUIRE(mapped.has_value());
    CHECK((*mapped)->entries[0].deadline.load() == deadline.time_since_epoch().count());
    CHECK_FALSE(page->fired("vm1"));
}

TEST_CASE("GuardPage: extend works between arm and disarm, for the named module only") {
    const Folder folder;
    const auto page = create(folder);
    CHECK_FALSE(page->extend("vm1", boot_time_now() + 1h));
    REQUIRE(page->arm("vm1", {}, boot_time_now() + 1h));
    CHECK(page->extend("vm1", boot_time_now() + 2h));
    CHECK_FALSE(page->extend("vm2", boot_time_now() + 2h));
    page->disarm("vm1");
    CHECK_FALSE(page->extend("vm1", boot_time_now() + 2h));
    CHECK(first_order(folder).armed == 0);
}

TEST_CASE("GuardPage: a deadline that has passed is not taken back") {
    const Folder folder;
    const auto page = create(folder);
    const auto passed = boot_time_now() - 1ns;
    REQUIRE(page->arm("vm1", {}, passed));
    CHECK_FALSE(page->extend("vm1", boot_time_now() + 1h));
    CHECK_FALSE(page->arm("vm1", {}, boot_time_now() + 1h));
    auto mapped = MappedPage::open(folder.page());
    REQUIRE(mapped.has_value());
    CHECK((*mapped)->entries[0].deadline.load() == passed.time_since_epoch().count());
    // Off and armed again is another life.
    page->disarm("vm1");
    CHECK(page->arm("vm1", {}, boot_time_now() + 1h));
    CHECK(page->extend("vm1", boot_time_now() + 2h));
}

TEST_CASE("GuardPage: arming again replaces the target in the same place") {
    const Folder folder;
    const auto page = create(folder);
    REQUIRE(page->arm("vm1", {"/a", 0, 0, {}}, boot_time_now() + 1h));
    const auto before = first_order(folder);
    REQUIRE(page->arm("vm1", {"/b", 0, 0, {}}, boot_time_now() + 1h));
    const auto after = first_order(folder);
    CHECK(view(after.cgroup) == "/b");
    CHECK(after.generation > before.generation);
    CHECK(after.first_generation == before.first_generation);
}

TEST_CASE("GuardPage: a full page refuses the next module, and takes it after a disarm") {
    const Folder folder;
    const auto page = create(folder);
    for (std::size_t i = 0; i < entry_count; ++i) {
        REQUIRE(page->arm("vm" + std::to_string(i), {}, boot_time_now() + 1h));
    }
    CHECK_FALSE(page->arm("one too many", {}, boot_time_now() + 1h));
    CHECK(page->extend("vm63", boot_time_now() + 2h));
    page->disarm("vm7");
    CHECK(page->arm("one too many", {}, boot_time_now() + 1h));
}

TEST_CASE("GuardPage: what does not fit is refused, never cut") {
    const Folder folder;
    const auto page = create(folder);
    const auto deadline = boot_time_now() + 1h;
    CHECK(page->arm(std::string(63, 'm'), {std::string(511, 'c'), 0, 0, {}}, deadline));
    CHECK_FALSE(page->arm(std::string(64, 'm'), {}, deadline));
    CHECK_FALSE(page->arm("vm1", {std::string(512, 'c'), 0, 0, {}}, deadline));
    CHECK_FALSE(page->arm("vm1", {"", 0, 0, {std::string(80, 'a')}}, deadline));
    CHECK_FALSE(
        page->arm("vm1", {"", 0, 0, std::vector<std::string>(9, "10.0.0.5/24@eth0")}, deadline));
    CHECK_FALSE(page->arm("", {}, deadline));
    CHECK_FALSE(page->extend("vm1", deadline));
}

TEST_CASE("GuardPage: another process of the agent finds what was armed") {
    const Folder folder;
    create(folder)->arm("vm1", {"/a", 0, 0, {}}, boot_time_now() + 1h);
    const auto page = create(folder);
    CHECK(page->extend("vm1", boot_time_now() + 2h));
    CHECK(page->arm("vm2", {}, boot_time_now() + 1h));
    CHECK(view(first_order(folder).module) == "vm1");
}

TEST_CASE("GuardPage: a foreign, short or other-version file is refused and left alone") {
    const Folder folder;
    const auto refused = [&folder](const std::string& content) {
        std::ofstream(folder.page(), std::ios::binary | std::ios::trunc) << content;
        const auto page = GuardPage::create(folder.page());
        REQUIRE_FALSE(page.has_value());
        CHECK(page.error().code == Errc::corrupt);
        std::ifstream stream(folder.page(), std::ios::binary);
        CHECK(std::string(std::istreambuf_iterator<char>(stream), {}) == content);
    };
    refused("");
    refused("not a page");
    refused(std::string(sizeof(Page), 'x'));
    std::filesystem::remove(folder.page());
    create(folder);
    std::ifstream stream(folder.page(), std::ios::binary);
    std::string content(std::istreambuf_iterator<char>(stream), {});
    content[8] = 2;
    refused(content);
}

TEST_CASE("GuardPage: a writer that stops in the middle leaves the order before readable") {
    Latched<Order> latched{};
    Order order;
    order.generation = 1;
    REQUIRE(assign(order.module, "vm1"));
    latched.store(order);
    // What a killed writer leaves: the unused copy half overwritten, the sequence number unchanged.
    // After one store that copy is the first one in memory behind the number.
    auto* words = reinterpret_cast<unsigned char*>(&latched) + sizeof(std::uint64_t);
    std::memset(words, 0xEE, sizeof(Order) / 2);
    Order seen;
    REQUIRE(latched.load(seen));
    CHECK(seen.generation == 1);
    CHECK(view(seen.module) == "vm1");
}
