#pragma once

#include <safepair/base/result.hpp>
#include <safepair/base/time.hpp>

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

/// The page that an agent shares with safe-guard (R4): per module, until when its VM or service may
/// run without another sign of life, and how to stop it. Writing a deadline is one store; a writer
/// killed in the middle of anything leaves the last complete state readable, which is why a lock or
/// a message queue was not taken.
namespace safepair::guard {

/// How to stop a module without its agent.
struct Target {
    /// cgroup v2 directory that holds every process of it; empty when there is none. It need not
    /// exist yet.
    std::string cgroup;
    /// Process of the emulator, 0 when there is none (yet). Its start time is noted, so a reused
    /// number is harmless.
    int process = 0;
    /// Number of the FUSE connection to abort, 0 when there is none.
    unsigned fuse_connection = 0;
    /// Addresses to remove: "10.0.0.5/24@eth0".
    std::vector<std::string> addresses;
};

/// What safe-guard did at a deadline. Each step counts as done also when there was nothing left to
/// do.
struct Firing {
    base::Instant at{};
    bool paused = false;
    bool killed = false;
    bool fuse_aborted = false;
    bool addresses_removed = false;
};

/// The agent's side of the page. One agent at a time. Thread-safe.
class GuardPage {
  public:
    /// Maps the page at `path`, made afresh if there is none. What an earlier agent armed stays
    /// armed. Errors: Errc::corrupt when the file is something else, or of another version.
    [[nodiscard]] static base::Result<std::unique_ptr<GuardPage>> create(
        const std::filesystem::path& path);

    ~GuardPage();
    GuardPage(const GuardPage&) = delete;
    GuardPage& operator=(const GuardPage&) = delete;

    /// From now on `module` is stopped as `target` says when `deadline` passes. Called again to
    /// change the target. False: not guarded, because the page is full, a text is too long (names
    /// 63, cgroup 511, addresses 8 of 79 bytes), or an earlier deadline of the module has just
    /// passed; the module must not run then.
    bool arm(const std::string& module, const Target& target, base::Instant deadline);
    /// Moves the deadline. False when the module is not armed, was fired at, or its deadline has
    /// passed: a process that did not run in time cannot take the time back.
    bool extend(const std::string& module, base::Instant deadline);
    /// The module is proven off. Forgets a firing.
    void disarm(const std::string& module);
    /// Whether safe-guard stopped the module since it was first armed after the last disarm.
    [[nodiscard]] bool fired(const std::string& module) const;
    /// The last firing in that time.
    [[nodiscard]] std::optional<Firing> firing(const std::string& module) const;

  private:
    struct Mapping;
    explicit GuardPage(std::unique_ptr<Mapping> mapping);

    std::unique_ptr<Mapping> mapping_;
};

}  // namespace safepair::guard
