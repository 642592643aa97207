// One real guest through its whole life: QEMU through libvirt embedded in this process. Emulated,
// so it is one story, not many.
#include "support/catch.hpp"
#include "support/scratch_directory.hpp"

#include <safepair/base/system_time.hpp>
#include <safepair/base/unique_fd.hpp>
#include <safepair/hyperv/libvirt.hpp>
#include <safepair/hyperv/workload.hpp>

#include <libvirt/libvirt.h>

#include <algorithm>
#include <array>
#include <condition_variable>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <iterator>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include <poll.h>
#include <sys/inotify.h>
#include <unistd.h>

using namespace safepair;
using hyperv::StopKind;

namespace {

template <typename T>
std::string why(const base::Result<T>& result) {
    return result ? std::string() : result.error().message();
}

std::string content(const std::filesystem::path& path) {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

/// Far beyond what an emulated guest on a busy machine needs; it only ends a test that hangs.
constexpr base::Duration patience = std::chrono::minutes(5);

/// Waits until `check` holds, looking whenever something in `directory` changes.
template <typename Check>
bool wait_for_change(const std::filesystem::path& directory, Check check) {
    const base::UniqueFd inotify(::inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
    ::inotify_add_watch(inotify.get(), directory.c_str(), IN_MODIFY | IN_MOVED_TO | IN_CLOSE_WRITE);
    const auto end = base::boot_time_now() + patience;
    while (!check()) {
        if (base::boot_time_now() > end) {
            return false;
        }
        pollfd entry{inotify.get(), POLLIN, 0};
        ::poll(&entry, 1, 60'000);
        std::array<char, 4096> events{};
        while (::read(inotify.get(), events.data(), events.size()) > 0) {
        }
    }
    return true;
}

/// Where the guest's kernel and initramfs are; empty, after saying why, when it cannot be had.
std::filesystem::path guest_directory() {
    if (const char* given = std::getenv("SAFEPAIR_GUEST_DIR"); given != nullptr) {
        return given;
    }
    const std::filesystem::path root = SAFEPAIR_SOURCE;
    const auto directory = root / "build" / "guest";
    const auto command = "'" + (root / "tests/support/guest/build_guest.sh").string() + "' '" +
                         directory.string() + "' 2>&1";
    if (std::system(command.c_str()) != 0) {  // NOLINT: a test's own command
        std::cout << "SKIPPED: the guest cannot be built here\n";
        return {};
    }
    return directory;
}

std::string filled(std::string text, const std::map<std::string, std::string>& values) {
    for (const auto& [name, value] : values) {
        for (auto at = text.find(name); at != std::string::npos; at = text.find(name)) {
            text.replace(at, name.size(), value);
        }
    }
    return text;
}

/// A folder with a guest, and an embedded host.
class Scene {
  public:
    explicit Scene(const std::filesystem::path& guest) {
        std::filesystem::create_directory(folder());
        std::filesystem::create_directory(scratch_ / "log");
        for (const char* file : {"vmlinuz", "initramfs.img"}) {
            std::filesystem::copy_file(guest / file, folder() / file);
        }
        std::ofstream(folder() / "disk.img") << "";
        std::filesystem::resize_file(folder() / "disk.img", 64U << 20U);
        const auto root = std::filesystem::path(SAFEPAIR_SOURCE) / "tests";
        std::ofstream(folder() / (name + ".xml"))
            << filled(content(root / "support/guest/domain.xml.in"),
                      {{"@NAME@", name},
                       {"@UUID@", "6b3c9e5a-0b7d-4f3e-8a11-0123456789ab"},
                       {"@FOLDER@", folder().string()},
                       {"@SERIAL@", serial().string()},
                       {"@CMDLINE@", "records_per_second=20"}});
    }

    [[nodiscard]] std::filesystem::path folder() const { return scratch_ / "folder"; }

    [[nodiscard]] std::filesystem::path serial() const { return scratch_ / "log/serial"; }

    [[nodiscard]] std::string uri() const {
        return "qemu:///embed?root=" + (scratch_ / "host").string();
    }

    [[nodiscard]] hyperv::VmWorkloadOptions options(StopKind normal_stop) const {
        hyperv::VmWorkloadOptions made;
        made.vm.name = name;
        made.vm.folder = folder();
        made.vm.state_directory = scratch_.path();
        made.normal_stop = normal_stop;
        made.normal_stop_deadline = patience;
        return made;
    }

    /// How often the guest wrote a line that begins with `word` so far.
    [[nodiscard]] std::size_t lines(const std::string& word) const {
        const auto text = content(serial());
        std::size_t count = 0;
        for (auto at = text.find(word); at != std::string::npos; at = text.find(word, at + 1)) {
            count += at == 0 || text[at - 1] == '\n' ? 1U : 0U;
        }
        return count;
    }

    [[nodiscard]] bool wait_for_more(const std::string& word, std::size_t before) const {
        return wait_for_change(scratch_ / "log", [&] { return lines(word) > before; });
    }

    const std::string name = "guest1";

  private:
    tests::ScratchDirectory scratch_;
};

char process_state(int pid) {
    const auto stat = content("/proc/" + std::to_string(pid) + "/stat");
    const auto at = stat.rfind(')');
    return at == std::string::npos ? '?' : stat[at + 2];
}

/// A second connection to the same host, as a tool of the administrator would have.
class Tool {
  public:
    explicit Tool(const std::string& uri) : connection_(virConnectOpen(uri.c_str())) {}

    ~Tool() { virConnectClose(connection_); }

    Tool(const Tool&) = delete;
    Tool& operator=(const Tool&) = delete;

    template <typename Action>
    int with(const std::string& name, Action action) const {
        virDomainPtr domain = virDomainLookupByName(connection_, name.c_str());
        const int result = domain == nullptr ? -1 : action(domain);
        if (domain != nullptr) {
            virDomainFree(domain);
        }
        return result;
    }

  private:
    virConnectPtr connection_;
};

class Told {
  public:
    void tell(const std::string& what) {
        const std::lock_guard lock(mutex_);
        told_.push_back(what);
        changed_.notify_all();
    }

    std::string first() {
        std::unique_lock lock(mutex_);
        changed_.wait(lock, [&] { return !told_.empty(); });
        return told_.front();
    }

    bool empty() {
        const std::lock_guard lock(mutex_);
        return told_.empty();
    }

  private:
    std::mutex mutex_;
    std::condition_variable changed_;
    std::vector<std::string> told_;
};

bool can_emulate() {
    for (const char* needed : {"/usr/bin/qemu-system-x86_64", "/usr/bin/qemu-img"}) {
        if (::access(needed, X_OK) != 0) {
            std::cout << "SKIPPED: " << needed << " is missing\n";
            return false;
        }
    }
    if (::geteuid() != 0) {
        std::cout << "SKIPPED: an embedded libvirt host needs root\n";
        return false;
    }
    return true;
}

/// Boot, records, heartbeat, pause, a changed configuration; leaves it running.
void live(const Scene& scene, hyperv::VirtualMachines& machines, hyperv::Workload& vm) {
    const auto started = vm.start();
    REQUIRE(why(started) == "");
    CHECK(started->find("booted") != std::string::npos);
    const int process = vm.guard_target().process;
    REQUIRE(process > 0);
    CHECK(*vm.running());
    REQUIRE(scene.wait_for_more("ACK ", 0));

    auto heartbeat = machines.heartbeat(scene.name);
    for (int asked = 0; heartbeat != hyperv::GuestHeartbeat::ok && asked < 60; ++asked) {
        static_cast<void>(scene.wait_for_more("ACK ", scene.lines("ACK ")));
        heartbeat = machines.heartbeat(scene.name);
    }
    CHECK(heartbeat == hyperv::GuestHeartbeat::ok);

    REQUIRE(why(vm.pause()) == "");
    CHECK(process_state(process) == 'T');
    CHECK(vm.describe() == "paused");
    REQUIRE(why(vm.resume()) == "");
    REQUIRE(scene.wait_for_more("ACK ", scene.lines("ACK ")));

    const Tool tool(scene.uri());
    constexpr unsigned long new_memory_kib = 170UL * 1024;
    REQUIRE(tool.with(scene.name, [](virDomainPtr domain) {
        return virDomainSetMemoryFlags(
            domain, new_memory_kib, unsigned{VIR_DOMAIN_AFFECT_CONFIG} | VIR_DOMAIN_MEM_MAXIMUM);
    }) == 0);
    const auto file = scene.folder() / (scene.name + ".xml");
    CHECK(wait_for_change(scene.folder(), [&] {
        return content(file).find(std::to_string(new_memory_kib)) != std::string::npos;
    }));
}

}  // namespace

TEST_CASE("A real guest boots, is saved and restored, shuts down, powers off and is killed",
          "[libvirt][.slow]") {
    const auto guest = can_emulate() ? guest_directory() : std::filesystem::path();
    if (guest.empty()) {
        return;
    }
    const Scene scene(guest);
    hyperv::LibvirtOptions host;
    host.uri = scene.uri();
    const auto opened = hyperv::open_libvirt(host);
    REQUIRE(why(opened) == "");
    auto& machines = **opened;

    const auto findings = machines.preflight(scene.options(StopKind::save).vm);
    REQUIRE(why(findings) == "");
    for (const auto& finding : *findings) {
        INFO(finding.code << ": " << finding.text);
        CHECK(finding.severity == hyperv::Severity::information);
    }
    {
        const auto vm = hyperv::make_vm_workload(scene.options(StopKind::save), machines);
        Told told;
        vm->on_exit([&](const std::string& detail) { told.tell(detail); });
        live(scene, machines, *vm);

        const auto saved = vm->stop();
        REQUIRE(why(saved) == "");
        CHECK(saved->find("'save' brought it down") != std::string::npos);
        CHECK(std::filesystem::exists(scene.folder() / (scene.name + ".save")));
        CHECK_FALSE(*vm->running());
        CHECK(machines.find(scene.name).error().code == base::Errc::not_found);
        const auto acknowledged = scene.lines("ACK ");

        const auto restored = vm->start();
        REQUIRE(why(restored) == "");
        CHECK(restored->find("restored from") != std::string::npos);
        REQUIRE(scene.wait_for_more("ACK ", acknowledged));
        CHECK(scene.lines("BOOT ") == 1);
        CHECK_FALSE(std::filesystem::exists(scene.folder() / (scene.name + ".save")));
        CHECK(told.empty());

        const Tool tool(scene.uri());
        REQUIRE(tool.with(scene.name, [](virDomainPtr domain) {
            return virDomainShutdownFlags(domain, VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN);
        }) == 0);
        CHECK(told.first() == "shutdown");
        CHECK(vm->describe() == "off");
        CHECK_FALSE(*vm->running());
        CHECK(scene.lines("SHUTDOWN") == 1);
    }
    const auto vm = hyperv::make_vm_workload(scene.options(StopKind::stop), machines);
    Told told;
    vm->on_exit([&](const std::string& detail) { told.tell(detail); });
    REQUIRE(why(vm->start()) == "");
    CHECK(content(scene.folder() / (scene.name + ".xml")).find("174080") != std::string::npos);
    REQUIRE(scene.wait_for_more("BOOT ", 1));
    const auto stopped = vm->stop();
    REQUIRE(why(stopped) == "");
    CHECK(stopped->find("'stop' brought it down") != std::string::npos);
    CHECK(scene.lines("SHUTDOWN") == 2);

    REQUIRE(why(vm->start()) == "");
    const int process = vm->guard_target().process;
    REQUIRE(process > 0);
    REQUIRE(why(vm->pause()) == "");
    REQUIRE(why(vm->kill()) == "");
    CHECK((process_state(process) == '?' || process_state(process) == 'Z'));
    CHECK_FALSE(*vm->running());
    CHECK(told.empty());
}
