// The driver against libvirt's own simulated host (test:///default), which keeps registrations,
// states, events and saved images like a real one. What needs an emulator is in
// libvirt_guest_test.cpp.
#include "support/catch.hpp"
#include "support/scratch_directory.hpp"

#include <safepair/hyperv/libvirt.hpp>
#include <safepair/hyperv/workload.hpp>

#include <libvirt/libvirt.h>

#include <condition_variable>
#include <fstream>
#include <iterator>
#include <mutex>
#include <string>
#include <vector>

using namespace safepair;
using hyperv::StopKind;
using hyperv::VmEvent;
using hyperv::VmState;

namespace {

template <typename T>
std::string why(const base::Result<T>& result) {
    return result ? std::string() : result.error().message();
}

std::string content(const std::filesystem::path& path) {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

/// What a person at the host would do, beside the driver.
class Hand {
  public:
    Hand() : connection_(virConnectOpen("test:///default")) {}

    ~Hand() { virConnectClose(connection_); }

    Hand(const Hand&) = delete;
    Hand& operator=(const Hand&) = delete;

    template <typename Action>
    int with(const std::string& name, Action action) const {
        virDomainPtr domain = virDomainLookupByName(connection_, name.c_str());
        if (domain == nullptr) {
            return -1;
        }
        const int result = action(domain);
        virDomainFree(domain);
        return result;
    }

    void define(const std::string& xml) const {
        virDomainFree(virDomainDefineXML(connection_, xml.c_str()));
    }

    [[nodiscard]] bool knows(const std::string& name) const {
        return with(name, [](virDomainPtr) { return 0; }) == 0;
    }

  private:
    virConnectPtr connection_;
};

/// A folder with a VM in it, and a driver. Every test has its own name: the simulated host is one
/// per process.
struct Scene {
    Scene(std::string vm_name, char uuid_digit)
        : name(std::move(vm_name)),
          uuid("6b3c9e5a-0b7d-4f3e-8a11-00000000000" + std::string(1, uuid_digit)) {
        std::ofstream(scratch / "disk.img") << "data";
        std::ofstream(folder() / (name + ".xml")) << xml(name, uuid);
        hyperv::LibvirtOptions options;
        options.uri = "test:///default";
        auto opened = hyperv::open_libvirt(options);
        REQUIRE(opened.has_value());
        machines = std::move(*opened);
    }

    ~Scene() {
        if (machines) {
            static_cast<void>(machines->kill(name));
            static_cast<void>(machines->unregister(name));
        }
    }

    Scene(const Scene&) = delete;
    Scene& operator=(const Scene&) = delete;

    [[nodiscard]] std::filesystem::path folder() const { return scratch.path(); }

    [[nodiscard]] std::string xml(const std::string& domain, const std::string& id) const {
        return "<domain type='test'><name>" + domain + "</name><uuid>" + id +
               "</uuid><memory "
               "unit='KiB'>65536</memory><vcpu>1</vcpu><os><type>hvm</type></os><devices>"
               "<disk type='file' device='disk'><source file='" +
               (folder() / "disk.img").string() +
               "'/><target dev='vda' bus='virtio'/></disk></devices></domain>";
    }

    [[nodiscard]] hyperv::ImportOptions import_options() const {
        hyperv::ImportOptions options;
        options.name = name;
        options.folder = folder();
        options.state_directory = scratch.path();
        return options;
    }

    tests::ScratchDirectory scratch;
    std::string name;
    std::string uuid;
    std::unique_ptr<hyperv::VirtualMachines> machines;
    Hand hand;
};

/// Collects what a thread of the driver tells; wait() returns when it was told that.
class Told {
  public:
    void tell(const std::string& what) {
        const std::lock_guard lock(mutex_);
        told_.push_back(what);
        changed_.notify_all();
    }

    void wait(const std::string& what) {
        std::unique_lock lock(mutex_);
        changed_.wait(lock,
                      [&] { return std::find(told_.begin(), told_.end(), what) != told_.end(); });
    }

    std::size_t count() {
        const std::lock_guard lock(mutex_);
        return told_.size();
    }

  private:
    std::mutex mutex_;
    std::condition_variable changed_;
    std::vector<std::string> told_;
};

}  // namespace

TEST_CASE("A VM is imported, started, stopped and forgotten without touching its files",
          "[libvirt]") {
    Scene scene("life", '1');
    auto& machines = *scene.machines;
    CHECK(machines.find(scene.name).error().code == base::Errc::not_found);
    CHECK(*machines.state(scene.name) == VmState::absent);
    const auto imported = machines.import(scene.import_options());
    REQUIRE(why(imported) == "");
    CHECK(imported->uuid == scene.uuid);
    CHECK(imported->state == VmState::off);
    REQUIRE(why(machines.start(scene.name)) == "");
    CHECK(*machines.state(scene.name) == VmState::running);
    CHECK(machines.find(scene.uuid)->name == scene.name);
    CHECK(machines.start(scene.name).error().code == base::Errc::busy);
    CHECK(machines.import(scene.import_options()).error().code == base::Errc::busy);
    CHECK(machines.unregister(scene.name).error().code == base::Errc::busy);
    REQUIRE(why(machines.pause(scene.name)) == "");
    CHECK(*machines.state(scene.name) == VmState::paused);
    REQUIRE(why(machines.resume(scene.name)) == "");
    CHECK(machines.heartbeat(scene.name) == hyperv::GuestHeartbeat::none);
    REQUIRE(why(machines.stop(scene.name, StopKind::stop, std::chrono::minutes(5))) == "");
    CHECK(*machines.state(scene.name) == VmState::off);
    REQUIRE(why(machines.unregister(scene.name)) == "");
    CHECK(*machines.state(scene.name) == VmState::absent);
    CHECK(why(machines.unregister(scene.name)) == "");
    CHECK(content(scene.folder() / "disk.img") == "data");
}

TEST_CASE("An import refuses what is not this VM or not all here", "[libvirt]") {
    Scene scene("refused", '2');
    auto& machines = *scene.machines;
    const auto file = scene.folder() / (scene.name + ".xml");
    const auto import_of = [&](const std::string& xml) {
        std::ofstream(file) << xml;
        return machines.import(scene.import_options());
    };
    SECTION("a name that is none") {
        auto options = scene.import_options();
        options.name = "../x";
        CHECK(machines.import(options).error().code == base::Errc::bad_input);
    }
    SECTION("no configuration") {
        std::filesystem::remove(file);
        const auto imported = machines.import(scene.import_options());
        REQUIRE_FALSE(imported.has_value());
        CHECK(imported.error().code == base::Errc::not_found);
        CHECK(imported.error().context.find(file.string()) != std::string::npos);
    }
    SECTION("the configuration of another VM") {
        CHECK(import_of(scene.xml("other", scene.uuid)).error().code == base::Errc::bad_input);
    }
    SECTION("no identity") {
        CHECK(import_of(scene.xml(scene.name, "")).error().code == base::Errc::bad_input);
    }
    SECTION("a disk outside of the folder") {
        auto xml = scene.xml(scene.name, scene.uuid);
        xml.replace(
            xml.find(scene.folder().string()), scene.folder().string().size(), "/elsewhere");
        const auto imported = import_of(xml);
        REQUIRE_FALSE(imported.has_value());
        CHECK(imported.error().code == base::Errc::refused);
        CHECK(imported.error().context.find("/elsewhere/disk.img") != std::string::npos);
    }
    SECTION("what libvirt does not accept, with libvirt's reason") {
        auto xml = scene.xml(scene.name, scene.uuid);
        xml.replace(xml.find("65536"), 5, "x");
        const auto imported = import_of(xml);
        REQUIRE_FALSE(imported.has_value());
        CHECK(imported.error().context.find(scene.name) != std::string::npos);
        CHECK(imported.error().context.find("memory") != std::string::npos);
    }
    CHECK_FALSE(scene.hand.knows(scene.name));
}

TEST_CASE("An import replaces a stale registration and respects a foreign one", "[libvirt]") {
    Scene scene("clash", '3');
    auto& machines = *scene.machines;
    SECTION("the name of another identity") {
        scene.hand.define(scene.xml(scene.name, "6b3c9e5a-0b7d-4f3e-8a11-0000000000ff"));
        const auto imported = machines.import(scene.import_options());
        REQUIRE_FALSE(imported.has_value());
        CHECK(imported.error().code == base::Errc::busy);
        CHECK(imported.error().context.find("0000000000ff") != std::string::npos);
    }
    SECTION("the same identity, with another name and set to start by itself") {
        scene.hand.define(scene.xml("clash-old", scene.uuid));
        scene.hand.with("clash-old",
                        [](virDomainPtr domain) { return virDomainSetAutostart(domain, 1); });
        REQUIRE(why(machines.import(scene.import_options())) == "");
        CHECK_FALSE(scene.hand.knows("clash-old"));
        int autostart = 1;
        scene.hand.with(scene.name, [&](virDomainPtr domain) {
            return virDomainGetAutostart(domain, &autostart);
        });
        CHECK(autostart == 0);
    }
    SECTION("the same identity running") {
        scene.hand.define(scene.xml("clash-run", scene.uuid));
        scene.hand.with("clash-run", virDomainCreate);
        CHECK(machines.import(scene.import_options()).error().code == base::Errc::busy);
        scene.hand.with("clash-run", virDomainDestroy);
        scene.hand.with("clash-run", virDomainUndefine);
    }
}

TEST_CASE("A saved VM goes on with exactly the disks it was saved with", "[libvirt]") {
    Scene scene("saved", '4');
    auto& machines = *scene.machines;
    REQUIRE(why(machines.import(scene.import_options())) == "");
    REQUIRE(why(machines.start(scene.name)) == "");
    REQUIRE(why(machines.stop(scene.name, StopKind::save, std::chrono::minutes(5))) == "");
    const auto state = scene.folder() / (scene.name + ".save");
    const auto stale = scene.folder() / (scene.name + ".save.stale");
    REQUIRE(std::filesystem::exists(state));
    CHECK(*machines.state(scene.name) == VmState::saved);
    REQUIRE(why(machines.unregister(scene.name)) == "");
    REQUIRE(why(machines.import(scene.import_options())) == "");

    SECTION("unchanged disks: restored, once") {
        const auto started = machines.start(scene.name);
        REQUIRE(why(started) == "");
        CHECK(started->find("restored from " + state.string()) == 0);
        CHECK_FALSE(std::filesystem::exists(state));
        CHECK_FALSE(std::filesystem::exists(scene.folder() / (scene.name + ".save.disks")));
        CHECK_FALSE(std::filesystem::exists(scene.folder() / (scene.name + ".save.used")));
        REQUIRE(why(machines.kill(scene.name)) == "");
        CHECK(*machines.start(scene.name) == "booted");
    }
    SECTION("a changed disk: booted, the state set aside") {
        std::ofstream(scene.folder() / "disk.img", std::ios::app) << "more";
        const auto started = machines.start(scene.name);
        REQUIRE(why(started) == "");
        CHECK(started->find("booted") == 0);
        CHECK(started->find("disk.img was changed since") != std::string::npos);
        CHECK_FALSE(std::filesystem::exists(state));
        CHECK(std::filesystem::exists(stale));
    }
    SECTION("a state that libvirt cannot restore: booted, with libvirt's reason") {
        const auto bytes = content(state);
        std::ofstream(state) << std::string(bytes.size(), 'x');
        const auto started = machines.start(scene.name);
        REQUIRE(why(started) == "");
        CHECK(started->find("booted; the saved state could not be restored") == 0);
        CHECK(std::filesystem::exists(stale));
    }
    CHECK(*machines.state(scene.name) == VmState::running);
}

TEST_CASE("A managed save of this node is not restored", "[libvirt]") {
    Scene scene("managed", '5');
    auto& machines = *scene.machines;
    REQUIRE(why(machines.import(scene.import_options())) == "");
    REQUIRE(why(machines.start(scene.name)) == "");
    REQUIRE(scene.hand.with(scene.name, [](virDomainPtr domain) {
        return virDomainManagedSave(domain, 0);
    }) == 0);
    REQUIRE(why(machines.start(scene.name)) == "");
    CHECK(scene.hand.with(scene.name, [](virDomainPtr domain) {
        return virDomainHasManagedSaveImage(domain, 0);
    }) == 0);
}

TEST_CASE(
    "The configuration in the folder follows the registered one until the VM is killed or "
    "forgotten",
    "[libvirt]") {
    Scene scene("follow", '6');
    auto& machines = *scene.machines;
    const auto file = scene.folder() / (scene.name + ".xml");
    REQUIRE(why(machines.import(scene.import_options())) == "");
    REQUIRE(why(machines.start(scene.name)) == "");
    const auto set_memory = [](unsigned long kib) {
        return [kib](virDomainPtr domain) {
            return virDomainSetMemoryFlags(
                domain, kib, unsigned{VIR_DOMAIN_AFFECT_CONFIG} | VIR_DOMAIN_MEM_MAXIMUM);
        };
    };
    SECTION("unregister brings it up to date") {
        REQUIRE(scene.hand.with(scene.name, set_memory(131072)) == 0);
        REQUIRE(why(machines.stop(scene.name, StopKind::off, std::chrono::minutes(5))) == "");
        REQUIRE(why(machines.unregister(scene.name)) == "");
        CHECK(content(file).find("131072") != std::string::npos);
        CHECK(content(file).find(scene.uuid) != std::string::npos);
    }
    SECTION("after a kill the folder is not touched any more") {
        REQUIRE(why(machines.kill(scene.name)) == "");
        const auto before = content(file);
        REQUIRE(scene.hand.with(scene.name, set_memory(131072)) == 0);
        REQUIRE(why(machines.unregister(scene.name)) == "");
        CHECK(content(file) == before);
    }
}

TEST_CASE("A watch tells what happens to its VM", "[libvirt]") {
    Scene scene("watched", '7');
    Told told;
    REQUIRE(why(scene.machines->import(scene.import_options())) == "");
    auto watch =
        scene.machines->watch(scene.name, [&](const VmEvent& event) { told.tell(event.detail); });
    told.wait("connected");
    scene.hand.with(scene.name, virDomainCreate);
    told.wait("booted");
    scene.hand.with(scene.name, virDomainSuspend);
    told.wait("paused");
    scene.hand.with(scene.name, virDomainResume);
    told.wait("resumed");
    scene.hand.with(scene.name, virDomainDestroy);
    told.wait("destroyed");
    watch.reset();
    const auto count = told.count();
    scene.hand.with(scene.name, virDomainCreate);
    CHECK(told.count() == count);
}

TEST_CASE("The preflight finds what is wrong on this host", "[libvirt]") {
    Scene scene("checked", '8');
    std::ofstream(scene.folder() / (scene.name + ".xml")) << [&] {
        auto xml = scene.xml(scene.name, scene.uuid);
        xml.insert(xml.find("</devices>"),
                   "<interface type='bridge'><source bridge='nobridge0'/></interface>");
        return xml;
    }();
    scene.hand.define(scene.xml(scene.name, "6b3c9e5a-0b7d-4f3e-8a11-0000000000fe"));
    const auto findings = scene.machines->preflight(scene.import_options());
    REQUIRE(why(findings) == "");
    const auto has = [&](const std::string& code) {
        return std::any_of(findings->begin(), findings->end(), [&](const auto& found) {
            return found.code == code;
        });
    };
    CHECK(has("name-clash"));
    CHECK(has("bridge-missing"));
    CHECK_FALSE(has("file-outside"));
    CHECK_FALSE(has("file-missing"));
    scene.hand.with(scene.name, virDomainUndefine);

    std::filesystem::remove(scene.folder() / (scene.name + ".xml"));
    const auto without = scene.machines->preflight(scene.import_options());
    REQUIRE(why(without) == "");
    CHECK(without->at(0).code == "configuration-missing");
}

TEST_CASE("The switches of a host are its active networks and its bridges", "[libvirt]") {
    Scene scene("switches", '9');
    const auto names = scene.machines->switches();
    REQUIRE(why(names) == "");
    CHECK(std::find(names->begin(), names->end(), "default") != names->end());
}

TEST_CASE("A hypervisor that cannot be reached is an error that says so", "[libvirt]") {
    hyperv::LibvirtOptions options;
    options.uri = "qemu+unix:///system?socket=/nonexistent/libvirt-sock&mode=direct";
    const auto machines = hyperv::open_libvirt(options);
    REQUIRE(machines.has_value());
    const auto found = (*machines)->find("vm1");
    REQUIRE_FALSE(found.has_value());
    CHECK(found.error().code == std::errc::connection_refused);
    CHECK(found.error().context.find("/nonexistent/libvirt-sock") != std::string::npos);
    CHECK((*machines)->heartbeat("vm1") == hyperv::GuestHeartbeat::unknown);
}

namespace {

hyperv::VmWorkloadOptions workload_options(const Scene& scene) {
    hyperv::VmWorkloadOptions options;
    options.vm = scene.import_options();
    return options;
}

}  // namespace

TEST_CASE("A VM workload lives from start to stop and leaves nothing registered", "[libvirt]") {
    Scene scene("workload", 'a');
    Told told;
    {
        const auto vm = hyperv::make_vm_workload(workload_options(scene), *scene.machines);
        vm->on_exit([&](const std::string& detail) { told.tell(detail); });
        CHECK_FALSE(*vm->running());
        const auto started = vm->start();
        REQUIRE(why(started) == "");
        CHECK(started->find("booted") != std::string::npos);
        CHECK(*vm->running());
        CHECK(vm->describe() == "running");
        REQUIRE(why(vm->pause()) == "");
        CHECK(vm->describe().find("paused") == 0);
        REQUIRE(why(vm->resume()) == "");
        SECTION("stop") {
            const auto stopped = vm->stop();
            REQUIRE(why(stopped) == "");
            CHECK(stopped->find("'stop' brought it down") != std::string::npos);
        }
        SECTION("kill") { REQUIRE(why(vm->kill()) == ""); }
        CHECK_FALSE(*vm->running());
        CHECK(vm->describe() == "off");
        CHECK_FALSE(scene.hand.knows(scene.name));
        REQUIRE(why(vm->start()) == "");
        REQUIRE(why(vm->stop()) == "");
    }
    CHECK(told.count() == 0);
}

TEST_CASE("A VM workload reports an end that it did not cause", "[libvirt]") {
    Scene scene("exits", 'b');
    Told told;
    const auto vm = hyperv::make_vm_workload(workload_options(scene), *scene.machines);
    vm->on_exit([&](const std::string& detail) { told.tell(detail); });
    REQUIRE(why(vm->start()) == "");
    SECTION("shut down from inside") {
        scene.hand.with(scene.name, virDomainShutdown);
        told.wait("shutdown");
    }
    SECTION("turned off by hand") {
        scene.hand.with(scene.name, virDomainDestroy);
        told.wait("destroyed");
    }
    CHECK(vm->describe() == "off");
    CHECK_FALSE(*vm->running());
    REQUIRE(why(vm->start()) == "");
    CHECK(*vm->running());
    CHECK(told.count() == 1);
    REQUIRE(why(vm->kill()) == "");
}

TEST_CASE("A VM that is started without the role is turned off", "[libvirt]") {
    Scene scene("foreign", 'c');
    Told told;
    const auto vm = hyperv::make_vm_workload(workload_options(scene), *scene.machines);
    vm->on_exit([&](const std::string& detail) { told.tell(detail); });
    REQUIRE(why(vm->start()) == "");
    REQUIRE(why(vm->stop()) == "");
    scene.hand.define(scene.xml(scene.name, scene.uuid));
    scene.hand.with(scene.name, virDomainCreate);
    told.wait("started without the role, turned off");
    CHECK_FALSE(*vm->running());
}

TEST_CASE("A VM that runs under another name is seen running", "[libvirt]") {
    Scene scene("renamed", 'd');
    {
        const auto vm = hyperv::make_vm_workload(workload_options(scene), *scene.machines);
        REQUIRE(why(vm->start()) == "");
        REQUIRE(why(vm->stop()) == "");
    }
    scene.hand.define(scene.xml("renamed-x", scene.uuid));
    scene.hand.with("renamed-x", virDomainCreate);
    auto options = workload_options(scene);
    options.turn_off_foreign = false;
    const auto vm = hyperv::make_vm_workload(options, *scene.machines);
    CHECK(*vm->running());
    scene.hand.with("renamed-x", virDomainDestroy);
    CHECK_FALSE(*vm->running());
    scene.hand.with("renamed-x", virDomainUndefine);
}
