// Real executables: shell scripts that the tests write. Nothing here waits for a time; every wait
// ends with an event.
#include "support/catch.hpp"
#include "support/scratch_directory.hpp"

#include <safepair/base/unique_fd.hpp>
#include <safepair/hyperv/workload.hpp>

#include <csignal>
#include <fstream>
#include <future>
#include <iostream>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

using namespace safepair;
using hyperv::ServiceWorkloadOptions;

namespace {

void remove_cgroup(const std::string& name) {
    for (const char* mount : {"/sys/fs/cgroup/", "/sys/fs/cgroup/unified/"}) {
        ::rmdir((mount + name).c_str());
    }
}

/// One service, its scripts and its folder. The scripts see its directory as $HERE.
class Scene {
  public:
    explicit Scene(bool with_cgroup)
        : parent_(with_cgroup ? "safepair-test-" + std::to_string(::getpid()) : std::string()) {
        ::mkfifo((scratch_ / "fifo").c_str(), 0600);
        ::mkfifo((scratch_ / "go").c_str(), 0600);
        // For reading and writing: no line is lost between two readers, and no writer waits for
        // one.
        fifo_ = base::UniqueFd(::open((scratch_ / "fifo").c_str(), O_RDWR | O_CLOEXEC));
        std::filesystem::create_directory(scratch_ / "folder");
    }

    ~Scene() {
        static_cast<void>(make()->kill());
        if (!parent_.empty()) {
            remove_cgroup(parent_);
        }
    }

    std::string script(const std::string& name, const std::string& body) {
        const auto path = scratch_ / name;
        std::ofstream(path) << "#!/bin/sh\nHERE='" << scratch_.path().string() << "'\n"
                            << body << "\n";
        std::filesystem::permissions(path, std::filesystem::perms::owner_all);
        return path.string();
    }

    ServiceWorkloadOptions options() const {
        ServiceWorkloadOptions made;
        made.name = "app";
        made.folder = scratch_ / "folder";
        made.cgroup_parent = parent_;
        made.state_directory = scratch_ / "state";
        made.start = start;
        made.stop = stop;
        made.start_deadline = start_deadline;
        made.stop_deadline = stop_deadline;
        return made;
    }

    std::unique_ptr<hyperv::Workload> make() const {
        return hyperv::make_service_workload(options());
    }

    std::string read(const std::string& name) const {
        std::ifstream file(scratch_ / name);
        std::stringstream text;
        text << file.rdbuf();
        return text.str();
    }

    /// Waits until a script writes a line into the fifo.
    std::string next_line() const {
        std::string line;
        char next = 0;
        while (::read(fifo_.get(), &next, 1) == 1 && next != '\n') {
            line.push_back(next);
        }
        return line;
    }

    std::vector<std::string> start;
    std::vector<std::string> stop;
    base::Duration start_deadline = std::chrono::minutes(5);
    base::Duration stop_deadline = std::chrono::minutes(5);

  private:
    tests::ScratchDirectory scratch_;
    base::UniqueFd fifo_;
    std::string parent_;
};

/// A daemon as init systems knew them: forked twice, in a session of its own. Says its pid through
/// the fifo.
const char* const daemon_script = "setsid sh -c 'echo $$ > '$HERE'/fifo; exec sleep 10000' &\n";

bool alive(const std::string& pid) {
    std::ifstream stat("/proc/" + pid + "/stat");
    std::string text;
    std::getline(stat, text);
    const auto at = text.rfind(')');
    return at != std::string::npos && text.compare(at + 1, 3, " Z ") != 0;
}

/// The message of an error, nothing for a success.
template <typename T>
std::string why(const base::Result<T>& result) {
    return result ? std::string() : result.error().message();
}

bool skip_without_cgroup(bool wanted) {
    if (!wanted) {
        return false;
    }
    ServiceWorkloadOptions options;
    options.name = "probe";
    options.cgroup_parent = "safepair-test-probe-" + std::to_string(::getpid());
    options.start = {"/bin/true"};
    options.state_directory = "";
    const bool missing = hyperv::make_service_workload(options)->guard_target().cgroup.empty();
    remove_cgroup(options.cgroup_parent);
    if (missing) {
        std::cout << "SKIPPED: cgroup v2 is not writable here\n";
    }
    return missing;
}

}  // namespace

TEST_CASE("A service starts, is seen running, and stops with its executables") {
    for (const bool with_cgroup : {true, false}) {
        if (skip_without_cgroup(with_cgroup)) {
            continue;
        }
        DYNAMIC_SECTION((with_cgroup ? "in a cgroup" : "without a cgroup")) {
            Scene scene(with_cgroup);
            scene.start = {scene.script("start",
                                        std::string(daemon_script) + "echo \"$1 $2 in $FOLDER\"\n"
                                                                     "echo oops >&2"),
                           "extra"};
            scene.stop = {scene.script("stop", "echo \"$1\"; kill $(cat $HERE/pid)")};
            const auto service = scene.make();
            REQUIRE(service->preflight().size() == (with_cgroup ? 0U : 1U));
            REQUIRE_FALSE(*service->running());
            CHECK(service->describe() == "off");

            const auto started = service->start();
            REQUIRE(started.has_value());
            CHECK(started->find("extra start in ") != std::string::npos);
            CHECK(started->find("oops") != std::string::npos);
            CHECK(started->find("exit status 0") != std::string::npos);
            const auto daemon = scene.next_line();
            CHECK(*service->running());
            CHECK(service->describe() == "running");
            CHECK(alive(daemon));
            CHECK(service->guard_target().cgroup.empty() == !with_cgroup);
            CHECK((service->guard_target().process > 0) == !with_cgroup);

            SECTION("a second start is refused while it runs") {
                const auto again = service->start();
                REQUIRE_FALSE(again.has_value());
                CHECK(again.error().code == base::Errc::busy);
            }
            SECTION("stop ends it") {
                std::ofstream(scene.options().folder.parent_path() / "pid") << daemon;
                const auto stopped = service->stop();
                REQUIRE(stopped.has_value());
                CHECK(stopped->find("stop: exit status 0\nstop") != std::string::npos);
                CHECK(stopped->find("killed") == std::string::npos);
                CHECK_FALSE(*service->running());
                CHECK_FALSE(alive(daemon));
                CHECK(service->describe() == "off");
            }
            SECTION("kill ends it") {
                REQUIRE(why(service->kill()) == "");
                CHECK_FALSE(*service->running());
                CHECK_FALSE(alive(daemon));
            }
            SECTION("pause stops it in place, and kill also ends what is paused") {
                REQUIRE(why(service->pause()) == "");
                CHECK(service->describe() == "paused");
                CHECK(*service->running());
                REQUIRE(why(service->resume()) == "");
                CHECK(service->describe() == "running");
                REQUIRE(why(service->pause()) == "");
                REQUIRE(why(service->kill()) == "");
                CHECK_FALSE(alive(daemon));
            }
            SECTION(
                "a new object of the same name finds it and kills it, as after a crash of the "
                "agent") {
                const auto successor = scene.make();
                CHECK(*successor->running());
                REQUIRE(why(successor->kill()) == "");
                CHECK_FALSE(*successor->running());
                CHECK_FALSE(alive(daemon));
            }
        }
    }
}

TEST_CASE("A service reports its end when the last process that it left ends by itself") {
    for (const bool with_cgroup : {true, false}) {
        if (skip_without_cgroup(with_cgroup)) {
            continue;
        }
        DYNAMIC_SECTION((with_cgroup ? "in a cgroup" : "without a cgroup")) {
            Scene scene(with_cgroup);
            scene.start = {scene.script("start", daemon_script)};
            scene.stop = {"/bin/true"};
            const auto service = scene.make();
            std::promise<std::string> ended;
            service->on_exit([&](const std::string& detail) { ended.set_value(detail); });
            REQUIRE(why(service->start()) == "");
            ::kill(std::stoi(scene.next_line()), SIGKILL);
            CHECK(ended.get_future().get() == "the last process of the service ended");
            CHECK_FALSE(*service->running());
            CHECK(service->describe() == "off");
        }
    }
}

TEST_CASE("A service that is stopped or killed does not report an end") {
    Scene scene(true);
    scene.start = {scene.script("start", daemon_script)};
    scene.stop = {"/bin/false"};
    bool reported = false;
    {
        const auto service = scene.make();
        service->on_exit([&](const std::string&) { reported = true; });
        REQUIRE(why(service->start()) == "");
        static_cast<void>(scene.next_line());
        REQUIRE(why(service->kill()) == "");
        REQUIRE(why(service->start()) == "");
        static_cast<void>(scene.next_line());
        REQUIRE(why(service->stop()) == "");
    }
    CHECK_FALSE(reported);
}

TEST_CASE("A start that fails is an error with its output and leaves nothing running") {
    Scene scene(true);
    scene.start = {scene.script("start",
                                std::string(daemon_script) +
                                    "read pid < $HERE/fifo\necho $pid > $HERE/pid\n"
                                    "echo no database; exit 3")};
    const auto service = scene.make();
    const auto started = service->start();
    REQUIRE_FALSE(started.has_value());
    CHECK(started.error().code == base::Errc::refused);
    CHECK(started.error().context.find("service app") != std::string::npos);
    CHECK(started.error().context.find("exit status 3") != std::string::npos);
    CHECK(started.error().context.find("no database") != std::string::npos);
    CHECK_FALSE(*service->running());
    auto pid = scene.read("pid");
    REQUIRE_FALSE(pid.empty());
    pid.pop_back();
    CHECK_FALSE(alive(pid));
}

TEST_CASE("A start that cannot be executed says why") {
    Scene scene(true);
    scene.start = {"/nonexistent/start"};
    const auto service = scene.make();
    const auto findings = service->preflight();
    REQUIRE_FALSE(findings.empty());
    CHECK(findings.front().severity == hyperv::Severity::error);
    CHECK(findings.front().text.find("/nonexistent/start") != std::string::npos);
    const auto started = service->start();
    REQUIRE_FALSE(started.has_value());
    CHECK(started.error().context.find("/nonexistent/start: No such file") != std::string::npos);
    CHECK_FALSE(*service->running());
}

TEST_CASE("A start beyond its deadline is killed and its output kept") {
    Scene scene(true);
    scene.start_deadline = std::chrono::milliseconds(300);
    scene.start = {scene.script("start", "echo waiting; sleep 10000")};
    const auto service = scene.make();
    const auto started = service->start();
    REQUIRE_FALSE(started.has_value());
    CHECK(started.error().code == base::Errc::timed_out);
    CHECK(started.error().context.find("not finished after") != std::string::npos);
    CHECK(started.error().context.find("waiting") != std::string::npos);
    CHECK_FALSE(*service->running());
}

TEST_CASE("A stop that fails is repeated by force, and what is left is killed") {
    Scene scene(true);
    scene.start = {scene.script("start", daemon_script)};
    scene.stop = {scene.script("stop", "echo \"called with $1\"; exit 1")};
    const auto service = scene.make();
    REQUIRE(why(service->start()) == "");
    const auto daemon = scene.next_line();
    const auto stopped = service->stop();
    REQUIRE(stopped.has_value());
    CHECK(stopped->find("called with stop") != std::string::npos);
    CHECK(stopped->find("called with force") != std::string::npos);
    CHECK(stopped->find("what was left running is killed") != std::string::npos);
    CHECK_FALSE(alive(daemon));
    CHECK_FALSE(*service->running());
}

TEST_CASE("A stop beyond its deadline is followed by the forced one") {
    Scene scene(true);
    scene.stop_deadline = std::chrono::milliseconds(300);
    scene.start = {scene.script("start", daemon_script)};
    scene.stop = {scene.script("stop", "[ $1 = force ] && exit 0; sleep 10000")};
    const auto service = scene.make();
    REQUIRE(why(service->start()) == "");
    const auto daemon = scene.next_line();
    const auto stopped = service->stop();
    REQUIRE(stopped.has_value());
    CHECK(stopped->find("stop: not finished after") != std::string::npos);
    CHECK(stopped->find("force: exit status 0") != std::string::npos);
    CHECK_FALSE(alive(daemon));
}

TEST_CASE("A service without a stop executable is stopped with SIGTERM") {
    for (const bool with_cgroup : {true, false}) {
        if (skip_without_cgroup(with_cgroup)) {
            continue;
        }
        DYNAMIC_SECTION((with_cgroup ? "in a cgroup" : "without a cgroup")) {
            Scene scene(with_cgroup);
            scene.start = {scene.script("start", daemon_script)};
            const auto service = scene.make();
            REQUIRE(why(service->start()) == "");
            const auto daemon = scene.next_line();
            const auto stopped = service->stop();
            REQUIRE(stopped.has_value());
            CHECK(stopped->find("ended after SIGTERM") != std::string::npos);
            CHECK_FALSE(alive(daemon));
        }
    }
}

TEST_CASE("A kill cuts a start short that is being waited for") {
    for (const bool with_cgroup : {true, false}) {
        if (skip_without_cgroup(with_cgroup)) {
            continue;
        }
        DYNAMIC_SECTION((with_cgroup ? "in a cgroup" : "without a cgroup")) {
            Scene scene(with_cgroup);
            scene.start = {scene.script("start", "echo $$ > $HERE/fifo; sleep 10000")};
            scene.stop = {"/bin/true"};
            const auto service = scene.make();
            auto started = std::async(std::launch::async, [&] { return service->start(); });
            const auto pid = scene.next_line();
            CHECK(service->describe() == "starting");
            CHECK(*service->running());
            REQUIRE(why(service->kill()) == "");
            CHECK_FALSE(alive(pid));
            const auto result = started.get();
            REQUIRE_FALSE(result.has_value());
            CHECK(result.error().code == base::Errc::cancelled);
            CHECK_FALSE(*service->running());
        }
    }
}

TEST_CASE("A kill cuts a stop short that is being waited for") {
    Scene scene(true);
    scene.start = {scene.script("start", daemon_script)};
    scene.stop = {scene.script("stop", "echo $1 > $HERE/fifo; sleep 10000")};
    const auto service = scene.make();
    REQUIRE(why(service->start()) == "");
    const auto daemon = scene.next_line();
    auto stopped = std::async(std::launch::async, [&] { return service->stop(); });
    REQUIRE(scene.next_line() == "stop");
    REQUIRE(why(service->kill()) == "");
    CHECK_FALSE(alive(daemon));
    REQUIRE(stopped.get().has_value());
    CHECK_FALSE(*service->running());
}

TEST_CASE("A service that leaves no process runs until its stop, also for a successor") {
    Scene scene(true);
    scene.start = {"/bin/true"};
    scene.stop = {scene.script("stop", "echo $1 >> $HERE/calls")};
    const auto service = scene.make();
    REQUIRE(why(service->start()) == "");
    CHECK(*service->running());
    SECTION("stop") {
        REQUIRE(why(service->stop()) == "");
        CHECK(scene.read("calls") == "stop\n");
        CHECK_FALSE(*scene.make()->running());
    }
    SECTION("kill asks it by force, since its processes are not ours") {
        const auto successor = scene.make();
        CHECK(*successor->running());
        REQUIRE(why(successor->kill()) == "");
        CHECK(scene.read("calls") == "force\n");
        CHECK_FALSE(*successor->running());
    }
}

TEST_CASE("A service that leaves no process and refuses to stop is an error") {
    Scene scene(true);
    scene.start = {"/bin/true"};
    scene.stop = {"/bin/false"};
    const auto service = scene.make();
    REQUIRE(why(service->start()) == "");
    const auto stopped = service->stop();
    REQUIRE_FALSE(stopped.has_value());
    CHECK(*service->running());
    const auto killed = service->kill();
    REQUIRE_FALSE(killed.has_value());
    CHECK(killed.error().context.find("not ours") != std::string::npos);
    // The scene's own clean-up must succeed.
    scene.stop = {"/bin/true"};
}

TEST_CASE("The output of a service is kept within its bound") {
    Scene scene(true);
    scene.start = {scene.script(
        "start", "echo first; head -c 3000000 /dev/zero | tr '\\0' x; echo; echo last")};
    scene.stop = {"/bin/true"};
    const auto service = scene.make();
    const auto started = service->start();
    REQUIRE(started.has_value());
    CHECK(started->size() < 66 * 1024);
    CHECK(started->find("first\n") != std::string::npos);
    CHECK(started->find("bytes left out") != std::string::npos);
    CHECK(started->compare(started->size() - 5, 5, "\nlast") == 0);
}

TEST_CASE("A service may go on writing to its output after its start") {
    Scene scene(true);
    // More than a pipe holds: it gets through only when somebody reads.
    scene.start = {
        scene.script("start",
                     "(read go < $HERE/go; head -c 1000000 /dev/zero; echo done > $HERE/fifo; "
                     "exec sleep 10000) &")};
    scene.stop = {"/bin/true"};
    const auto service = scene.make();
    REQUIRE(why(service->start()) == "");
    std::ofstream(scene.options().folder.parent_path() / "go") << "go" << std::endl;
    CHECK(scene.next_line() == "done");
    CHECK(*service->running());
}

TEST_CASE("A service inherits no descriptor and no systemd variable of the agent") {
    Scene scene(true);
    scene.start = {scene.script("start", "ls -l /proc/self/fd; echo \"socket=$NOTIFY_SOCKET\"")};
    scene.stop = {"/bin/true"};
    const base::UniqueFd open_file(
        ::open((scene.options().folder.parent_path() / "start").c_str(), O_RDONLY));
    ::setenv("NOTIFY_SOCKET", "/nowhere", 1);
    const auto service = scene.make();
    const auto started = service->start();
    ::unsetenv("NOTIFY_SOCKET");
    REQUIRE(started.has_value());
    CHECK(started->find("socket=\n") == std::string::npos);
    CHECK(started->find("/nowhere") == std::string::npos);
    CHECK(started->find(scene.options().folder.parent_path().string() + "/start\n") ==
          std::string::npos);
}

TEST_CASE("A service whose name is no name is refused") {
    for (const char* name : {"", "../x", "a/b", ".hidden", "a b"}) {
        ServiceWorkloadOptions options;
        options.name = name;
        options.start = {"/bin/true"};
        const auto service = hyperv::make_service_workload(options);
        const auto started = service->start();
        REQUIRE_FALSE(started.has_value());
        CHECK(started.error().code == base::Errc::bad_input);
        CHECK_FALSE(service->preflight().empty());
    }
}
