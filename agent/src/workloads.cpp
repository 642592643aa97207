#include "workloads.hpp"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <cerrno>
#include <thread>
#include <utility>

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

extern char** environ;  // NOLINT: POSIX name

namespace safepair::agent {

namespace {

enum class Output : std::uint8_t { shown, hidden };

/// Runs argv[0] found in PATH, output to our own or nowhere; the exit status, or -1.
int run(std::vector<std::string> words, Output output = Output::shown) {
    std::vector<char*> argv;
    argv.reserve(words.size() + 1);
    for (auto& word : words) {
        argv.push_back(word.data());
    }
    argv.push_back(nullptr);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    if (output == Output::hidden) {
        posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
        posix_spawn_file_actions_adddup2(&actions, STDOUT_FILENO, STDERR_FILENO);
    }
    pid_t child = 0;
    const int failed = posix_spawnp(&child, argv[0], &actions, nullptr, argv.data(), environ);
    posix_spawn_file_actions_destroy(&actions);
    if (failed != 0) {
        return -1;
    }
    int status = 0;
    while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

std::string with_prefix(const AddressConfig& address) {
    return fmt::format("{}/{}", address.address, address.prefix);
}

}  // namespace

base::Result<std::unique_ptr<hyperv::Workload>> make_workload(
    const ModuleConfig& config,
    const std::filesystem::path& state_directory,
    const std::function<base::Result<hyperv::VirtualMachines*>(const std::string& uri)>& machines) {
    if (config.vm) {
        SAFEPAIR_TRY(auto* driver, machines(config.vm->uri));
        hyperv::VmWorkloadOptions options;
        options.vm.name = config.vm->name;
        options.vm.folder = config.folder;
        options.vm.state_directory = state_directory;
        options.normal_stop = config.vm->normal_stop;
        options.force_stop = config.vm->force_stop;
        options.normal_stop_deadline = config.vm->normal_stop_deadline;
        options.force_stop_deadline = config.vm->force_stop_deadline;
        return hyperv::make_vm_workload(std::move(options), *driver);
    }
    hyperv::ServiceWorkloadOptions options;
    options.name = config.name;
    options.start = config.service->start;
    options.stop = config.service->stop;
    options.folder = config.folder;
    options.start_deadline = config.service->start_deadline;
    options.stop_deadline = config.service->stop_deadline;
    return hyperv::make_service_workload(std::move(options));
}

base::Result<void> add_addresses(const std::vector<AddressConfig>& addresses) {
    for (const auto& address : addresses) {
        const auto text = with_prefix(address);
        if (run({"ip", "address", "replace", text, "dev", address.interface}) != 0) {
            return base::error(
                base::Errc::refused,
                fmt::format("address {} cannot be added to {}", text, address.interface));
        }
        // The service need not wait for the repetitions. By value only: this thread may outlive
        // whoever asked.
        std::thread([address, text] {
            if (run({"arping",
                     "-q",
                     "-U",
                     "-c",
                     "3",
                     "-w",
                     "3",
                     "-I",
                     address.interface,
                     address.address}) < 0) {
                spdlog::warn(
                    "arping is missing: neighbours learn {} only when their ARP entry expires",
                    text);
            }
        }).detach();
    }
    return {};
}

void remove_addresses(const std::vector<AddressConfig>& addresses) noexcept {
    for (const auto& address : addresses) {
        // It says so when the address is not there, which is what we want.
        run({"ip", "address", "del", with_prefix(address), "dev", address.interface},
            Output::hidden);
    }
}

}  // namespace safepair::agent
