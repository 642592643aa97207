#include "../../../guard/src/page_layout.hpp"
#include "support/catch.hpp"
#include "unit/guard/guard_support.hpp"

#include <safepair/guard/guard_page.hpp>
#include <safepair/guard/guard_process.hpp>

#include <cstdio>
#include <iostream>

#include <arpa/inet.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

using namespace safepair::guard;
using namespace safepair::guard::testing;
using namespace std::chrono_literals;
using safepair::base::boot_time_now;
using safepair::base::Errc;
using safepair::base::UniqueFd;

namespace {

/// A page with a real safe-guard, which is gone when the test is over.
class Watched {
  public:
    Watched() {
        auto created = GuardPage::create(folder.page());
        REQUIRE(created.has_value());
        page = std::move(*created);
        auto spawned = GuardProcess::spawn(SAFEPAIR_GUARD_PROGRAM, folder.page());
        REQUIRE(spawned.has_value());
        guard = std::move(*spawned);
        pidfd = open_pidfd(guard->pid());
    }

    Watched(const Watched&) = delete;
    Watched& operator=(const Watched&) = delete;

    ~Watched() {
        guard.reset();
        for (const char* module : {"vm1", "vm2"}) {
            page->disarm(module);
        }
        if (!ended(pidfd)) {
            std::abort();
        }
    }

    [[nodiscard]] bool fires(const char* module) const {
        return eventually([&] { return page->fired(module); });
    }

    Folder folder;
    std::unique_ptr<GuardPage> page;
    std::unique_ptr<GuardProcess> guard;
    UniqueFd pidfd;
};

Target process_target(pid_t pid) {
    Target target;
    target.process = pid;
    return target;
}

bool all_done(const Firing& firing) {
    return firing.paused && firing.killed && firing.fuse_aborted && firing.addresses_removed;
}

}  // namespace

TEST_CASE("safe-guard: a process whose deadline passes is killed then, not earlier") {
    const Watched watched;
    Child victim;
    const auto deadline = boot_time_now() + 200ms;
    REQUIRE(watched.page->arm("vm1", process_target(victim.pid()), deadline));
    CHECK(victim.is_killed());
    REQUIRE(watched.fires("vm1"));
    const auto firing = watched.page->firing("vm1");
    CHECK(firing->at >= deadline);
    CHECK(all_done(*firing));
    CHECK_FALSE(watched.page->extend("vm1", boot_time_now() + 1h));
    watched.page->disarm("vm1");
    CHECK_FALSE(watched.page->fired("vm1"));
}

TEST_CASE("safe-guard: an extended deadline counts instead of the first one") {
    const Watched watched;
    Child victim;
    const auto start = boot_time_now();
    const auto deadline = start + 1300ms;
    REQUIRE(watched.page->arm("vm1", process_target(victim.pid()), start + 1s));
    REQUIRE(watched.page->extend("vm1", deadline));
    CHECK(victim.is_killed());
    REQUIRE(watched.fires("vm1"));
    CHECK(watched.page->firing("vm1")->at >= deadline);
}

TEST_CASE("safe-guard: a disarmed module is left alone while another one is fired at") {
    const Watched watched;
    Child spared;
    Child victim;
    const auto deadline = boot_time_now() + 200ms;
    REQUIRE(watched.page->arm("vm1", process_target(spared.pid()), deadline));
    REQUIRE(watched.page->arm("vm2", process_target(victim.pid()), deadline));
    watched.page->disarm("vm1");
    CHECK(victim.is_killed());
    REQUIRE(watched.fires("vm2"));
    CHECK_FALSE(watched.page->fired("vm1"));
    CHECK(spared.runs());
}

TEST_CASE("safe-guard: a cgroup is frozen and killed with everything in it") {
    const Cgroup cgroup;
    if (cgroup.path().empty()) {
        std::cout << "SKIPPED: no cgroup v2 hierarchy to write to\n";
        return;
    }
    const Watched watched;
    Child first;
    Child second;
    cgroup.add(first.pid());
    cgroup.add(second.pid());
    Target target;
    target.cgroup = cgroup.path();
    REQUIRE(watched.page->arm("vm1", target, boot_time_now() + 100ms));
    CHECK(first.is_killed());
    CHECK(second.is_killed());
    REQUIRE(watched.fires("vm1"));
    CHECK(all_done(*watched.page->firing("vm1")));
    CHECK(cgroup.read("cgroup.freeze") == "1\n");

    SECTION("what appears in it later is killed too") {
        Child late;
        cgroup.add(late.pid());
        CHECK(late.is_killed());
    }
    SECTION("disarming lets its processes run again") {
        watched.page->disarm("vm1");
        CHECK(cgroup.read("cgroup.freeze") == "0\n");
    }
    SECTION("arming again lets its processes run again, and the firing is not forgotten") {
        REQUIRE(watched.page->arm("vm1", target, boot_time_now() + 1h));
        CHECK(cgroup.read("cgroup.freeze") == "0\n");
        CHECK(watched.page->fired("vm1"));
        Child late;
        cgroup.add(late.pid());
        REQUIRE(watched.page->arm("vm1", target, boot_time_now()));
        CHECK(late.is_killed());
    }
}

TEST_CASE("safe-guard: a cgroup and a process that do not exist are done at once") {
    const Watched watched;
    Child gone([] {});
    REQUIRE(gone.ends());
    gone.wait();
    Target target = process_target(gone.pid());
    target.cgroup = (watched.folder.path() / "absent").string();
    target.addresses = {"10.0.0.5/24@absent0"};
    target.fuse_connection = 4'000'000'000U;
    REQUIRE(watched.page->arm("vm1", target, boot_time_now()));
    REQUIRE(watched.fires("vm1"));
    CHECK(all_done(*watched.page->firing("vm1")));
}

TEST_CASE("safe-guard: a reused process number is harmless") {
    const Watched watched;
    Child innocent;
    Child victim;
    REQUIRE(watched.page->arm("vm1", process_target(innocent.pid()), boot_time_now() + 1h));
    {
        // As if the armed process had ended and `innocent` had been given its number.
        auto mapped = MappedPage::open(watched.folder.page());
        REQUIRE(mapped.has_value());
        Order order;
        REQUIRE((*mapped)->entries[0].order.load(order));
        REQUIRE(order.process == innocent.pid());
        order.process_start -= 1;
        (*mapped)->entries[0].order.store(order);
    }
    REQUIRE(watched.page->extend("vm1", boot_time_now()));
    REQUIRE(watched.fires("vm1"));
    REQUIRE(watched.page->arm("vm2", process_target(victim.pid()), boot_time_now()));
    CHECK(victim.is_killed());
    CHECK(innocent.runs());
}

TEST_CASE("safe-guard: it outlives the process that started it, and acts") {
    const Folder folder;
    Child victim;
    Child agent([&] {
        auto page = GuardPage::create(folder.page());
        auto guard = GuardProcess::spawn(SAFEPAIR_GUARD_PROGRAM, folder.page());
        if (page.has_value() && guard.has_value() &&
            (*page)->arm("vm1", process_target(victim.pid()), boot_time_now() + 100ms)) {
            ::raise(SIGKILL);
        }
    });
    CHECK(agent.is_killed());
    CHECK(victim.is_killed());
    // The next agent adopts it, and its own orderly end lets it go.
    auto page = GuardPage::create(folder.page());
    REQUIRE(page.has_value());
    auto guard = GuardProcess::spawn(SAFEPAIR_GUARD_PROGRAM, folder.page());
    REQUIRE(guard.has_value());
    CHECK((*guard)->adopted());
    CHECK(eventually([&] { return (*page)->fired("vm1"); }));
    // Armed afresh by the new agent, the old firing is not its own.
    CHECK((*page)->arm("vm1", {}, boot_time_now() + 1h));
    CHECK_FALSE((*page)->fired("vm1"));
    (*page)->disarm("vm1");
    const auto pidfd = open_pidfd((*guard)->pid());
    guard->reset();
    CHECK(ended(pidfd));
}

TEST_CASE("safe-guard: a stopped agent loses what it runs, and learns of it when continued") {
    const Watched watched;
    Child victim;
    REQUIRE(watched.page->arm("vm1", process_target(victim.pid()), boot_time_now() + 2s));
    std::array<int, 2> ends{};
    REQUIRE(::pipe(ends.data()) == 0);
    Child agent([&] {
        // Extends for as long as it can; then tells whether it was fired at.
        bool first = true;
        while (watched.page->extend("vm1", boot_time_now() + 1s)) {
            if (std::exchange(first, false)) {
                [[maybe_unused]] const auto written = ::write(ends[1], "1", 1);
            }
            std::this_thread::sleep_for(20ms);
        }
        ::_exit(eventually([&] { return watched.page->fired("vm1"); }) ? 7 : 1);
    });
    char byte = 0;
    REQUIRE(::read(ends[0], &byte, 1) == 1);
    ::close(ends[0]);
    ::close(ends[1]);
    CHECK(victim.runs());
    ::kill(agent.pid(), SIGSTOP);
    CHECK(victim.is_killed());
    ::kill(agent.pid(), SIGCONT);
    REQUIRE(agent.ends());
    const int status = agent.wait();
    CHECK(WIFEXITED(status));
    CHECK(WEXITSTATUS(status) == 7);
}

TEST_CASE("safe-guard: a second start adopts the one that runs") {
    const Watched watched;
    CHECK_FALSE(watched.guard->adopted());
    CHECK(watched.guard->alive());
    auto again = GuardProcess::spawn(SAFEPAIR_GUARD_PROGRAM, watched.folder.page());
    REQUIRE(again.has_value());
    CHECK((*again)->adopted());
    CHECK((*again)->pid() == watched.guard->pid());
}

TEST_CASE("safe-guard: asked to end, it stays until what is armed was fired at") {
    Child victim;
    Watched watched;
    REQUIRE(watched.page->arm("vm1", process_target(victim.pid()), boot_time_now() + 300ms));
    watched.guard.reset();
    CHECK(victim.is_killed());
    CHECK(ended(watched.pidfd));
}

TEST_CASE("safe-guard: started anew after it was killed, it goes on with what is armed") {
    Child victim;
    Watched watched;
    REQUIRE(watched.page->arm("vm1", process_target(victim.pid()), boot_time_now() + 1h));
    ::kill(watched.guard->pid(), SIGKILL);
    REQUIRE(ended(watched.pidfd));
    CHECK(eventually([&] { return !watched.guard->alive(); }));
    auto again = GuardProcess::spawn(SAFEPAIR_GUARD_PROGRAM, watched.folder.page());
    REQUIRE(again.has_value());
    CHECK_FALSE((*again)->adopted());
    watched.pidfd = open_pidfd((*again)->pid());
    REQUIRE(watched.page->extend("vm1", boot_time_now()));
    CHECK(victim.is_killed());
}

TEST_CASE("safe-guard: a wrong page is refused and left alone") {
    const Folder folder;
    std::ofstream(folder.page()) << "something else";
    CHECK_FALSE(GuardProcess::spawn(SAFEPAIR_GUARD_PROGRAM, folder.page()).has_value());
    Child program([&] {
        const int null = ::open("/dev/null", O_RDWR);
        ::dup2(null, STDERR_FILENO);
        ::execl(SAFEPAIR_GUARD_PROGRAM,
                SAFEPAIR_GUARD_PROGRAM,
                "--page",
                folder.page().c_str(),
                nullptr);
    });
    REQUIRE(program.ends());
    const int status = program.wait();
    CHECK(WIFEXITED(status));
    CHECK(WEXITSTATUS(status) == 1);
    CHECK(std::filesystem::file_size(folder.page()) == 14);
}

TEST_CASE("safe-guard: a program that does not watch is an error of spawn") {
    const Folder folder;
    const auto page = GuardPage::create(folder.page());
    REQUIRE(page.has_value());
    CHECK_FALSE(GuardProcess::spawn(folder.path() / "absent", folder.page()).has_value());
    const auto ends_at_once = GuardProcess::spawn("/bin/true", folder.page());
    REQUIRE_FALSE(ends_at_once.has_value());
    CHECK(ends_at_once.error().code == Errc::refused);
}

namespace {

bool has_address(const char* text) {
    in_addr wanted{};
    ::inet_pton(AF_INET, text, &wanted);
    ifaddrs* list = nullptr;
    if (::getifaddrs(&list) != 0) {
        return false;
    }
    bool found = false;
    for (const auto* item = list; item != nullptr; item = item->ifa_next) {
        if (item->ifa_addr != nullptr && item->ifa_addr->sa_family == AF_INET) {
            const auto* address = reinterpret_cast<const sockaddr_in*>(item->ifa_addr);
            found = found || address->sin_addr.s_addr == wanted.s_addr;
        }
    }
    ::freeifaddrs(list);
    return found;
}

/// Gives the loopback interface of this namespace the address 10.213.7.5/24.
bool add_test_address() {
    const UniqueFd socket(::socket(AF_INET, SOCK_DGRAM, 0));
    ifreq request{};
    std::snprintf(static_cast<char*>(request.ifr_name), IFNAMSIZ, "lo");
    sockaddr_in address{};
    address.sin_family = AF_INET;
    ::inet_pton(AF_INET, "10.213.7.5", &address.sin_addr);
    std::memcpy(&request.ifr_addr, &address, sizeof address);
    if (::ioctl(socket.get(), SIOCSIFADDR, &request) != 0) {
        return false;
    }
    ::inet_pton(AF_INET, "255.255.255.0", &address.sin_addr);
    std::memcpy(&request.ifr_netmask, &address, sizeof address);
    return ::ioctl(socket.get(), SIOCSIFNETMASK, &request) == 0;
}

/// Ends of the children below.
enum Outcome { good = 0, bad = 1, impossible = 2 };

/// Runs in a child with a page and a safe-guard of its own.
template <typename Body>
int with_guard(const Folder& folder, Body body) {
    auto page = GuardPage::create(folder.page());
    auto guard = GuardProcess::spawn(SAFEPAIR_GUARD_PROGRAM, folder.page());
    if (!page.has_value() || !guard.has_value()) {
        return bad;
    }
    const int outcome = body(**page);
    (*page)->disarm("vm1");
    const auto pidfd = open_pidfd((*guard)->pid());
    guard->reset();
    return ended(pidfd) ? outcome : bad;
}

int outcome_of(Child& child) {
    REQUIRE(child.ends());
    const int status = child.wait();
    REQUIRE(WIFEXITED(status));
    return WEXITSTATUS(status);
}

int remove_address_in_own_namespace(const Folder& folder) {
    if (::unshare(CLONE_NEWNET) != 0 || !add_test_address() || !has_address("10.213.7.5")) {
        return impossible;
    }
    return with_guard(folder, [](GuardPage& page) {
        Target target;
        target.addresses = {"10.213.7.5/24@lo"};
        page.arm("vm1", target, boot_time_now());
        const bool fired = eventually([&] { return page.fired("vm1"); });
        return fired && page.firing("vm1")->addresses_removed && !has_address("10.213.7.5") ? good
                                                                                            : bad;
    });
}

int refuse_address_that_does_not_parse(const Folder& folder) {
    return with_guard(folder, [](GuardPage& page) {
        Target target;
        target.addresses = {"nonsense"};
        page.arm("vm1", target, boot_time_now());
        const bool fired = eventually([&] { return page.fired("vm1"); });
        const auto firing = page.firing("vm1");
        return fired && !firing->addresses_removed && firing->killed ? good : bad;
    });
}

/// Mounts a FUSE file system that nobody serves, so that every request is held; its connection
/// number, 0: impossible.
unsigned mount_unserved(const std::filesystem::path& folder, const UniqueFd& device) {
    const auto options =
        "fd=" + std::to_string(device.get()) + ",rootmode=40000,user_id=0,group_id=0";
    if (::unshare(CLONE_NEWNS) != 0 ||
        ::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
        ::mount("guard-test", folder.c_str(), "fuse", MS_NOSUID | MS_NODEV, options.c_str()) != 0) {
        return 0;
    }
    std::ifstream mounts("/proc/self/mountinfo");
    std::string line;
    while (std::getline(mounts, line)) {
        std::istringstream words(line);
        std::string id;
        std::string parent;
        std::string device_number;
        std::string root;
        std::string place;
        words >> id >> parent >> device_number >> root >> place;
        if (place == folder.string()) {
            return static_cast<unsigned>(
                std::stoul(device_number.substr(device_number.find(':') + 1)));
        }
    }
    return 0;
}

int abort_held_requests(const Folder& folder) {
    const auto place = folder.path() / "mount";
    std::filesystem::create_directory(place);
    const UniqueFd device(::open("/dev/fuse", O_RDWR | O_CLOEXEC));
    const unsigned connection = device ? mount_unserved(place, device) : 0;
    if (connection == 0) {
        return impossible;
    }
    return with_guard(folder, [&](GuardPage& page) {
        // Held in the kernel until the connection ends.
        Child reader([&] {
            struct stat state {};
            ::_exit(::stat((place / "file").c_str(), &state) == 0 ? bad : good);
        });
        Target target;
        target.fuse_connection = connection;
        page.arm("vm1", target, boot_time_now());
        const bool fired = eventually([&] { return page.fired("vm1"); });
        const bool released = reader.ends() && WEXITSTATUS(reader.wait()) == good;
        ::umount2(place.c_str(), MNT_DETACH);
        return fired && page.firing("vm1")->fuse_aborted && released ? good : bad;
    });
}

}  // namespace

TEST_CASE("safe-guard: the addresses of the module are removed") {
    const Folder folder;
    Child child([&] { ::_exit(remove_address_in_own_namespace(folder)); });
    const int outcome = outcome_of(child);
    if (outcome == impossible) {
        std::cout << "SKIPPED: no network namespace to be had\n";
        return;
    }
    CHECK(outcome == good);
}

TEST_CASE("safe-guard: an address that cannot be removed does not keep it from killing") {
    const Folder folder;
    Child child([&] { ::_exit(refuse_address_that_does_not_parse(folder)); });
    CHECK(outcome_of(child) == good);
}

TEST_CASE("safe-guard: requests held in a FUSE connection end") {
    const Folder folder;
    Child child([&] { ::_exit(abort_held_requests(folder)); });
    const int outcome = outcome_of(child);
    if (outcome == impossible) {
        std::cout << "SKIPPED: no FUSE file system can be mounted\n";
        return;
    }
    CHECK(outcome == good);
}
