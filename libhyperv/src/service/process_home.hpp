#pragma once

#include <safepair/base/result.hpp>
#include <safepair/base/time.hpp>
#include <safepair/base/unique_fd.hpp>

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include <poll.h>

namespace safepair::hyperv {

/// Tells when the last process of a home ended. One thread.
class HomeWatch {
  public:
    virtual ~HomeWatch() = default;

    /// What poll(2) has to wait for; valid until the next call of populated().
    [[nodiscard]] virtual std::vector<pollfd> entries() = 0;
    /// Also arms the watch for the next change.
    [[nodiscard]] virtual bool populated() = 0;
};

/// Where the processes of one service live, so that all of them can be found, frozen and killed,
/// whatever they did to get away from their parents. Calls from any thread.
class ProcessHome {
  public:
    virtual ~ProcessHome() = default;

    /// Makes the home; what lives in it stays as it is, also frozen.
    [[nodiscard]] virtual base::Result<void> create() = 0;
    /// Opens the directory that a process can be born in; none: the environment of environment()
    /// marks it instead.
    [[nodiscard]] virtual base::Result<base::UniqueFd> birthplace() = 0;
    /// What its processes carry in their environment.
    [[nodiscard]] virtual std::vector<std::string> environment() const = 0;
    /// The cgroup directory, empty when there is none.
    [[nodiscard]] virtual std::string cgroup() const = 0;
    [[nodiscard]] virtual std::vector<int> processes() = 0;
    [[nodiscard]] virtual bool populated() = 0;
    [[nodiscard]] virtual base::Result<void> freeze() = 0;
    [[nodiscard]] virtual base::Result<void> thaw() = 0;
    virtual void terminate() = 0;
    /// Errc::timed_out when something is left after `limit`, which only a process waiting in the
    /// kernel achieves.
    [[nodiscard]] virtual base::Result<void> kill(base::Duration limit) = 0;
    [[nodiscard]] virtual std::unique_ptr<HomeWatch> watch() = 0;
    /// Forgets an empty home.
    virtual void remove() = 0;
};

/// The mount point of cgroup v2; empty when there is none.
[[nodiscard]] std::filesystem::path cgroup2_mount_point();

/// A cgroup v2 directory.
[[nodiscard]] std::unique_ptr<ProcessHome> make_cgroup_home(std::filesystem::path directory);

/// Without cgroup v2: the processes whose environment holds SAFEPAIR_SERVICE=`mark`, whoever shares
/// a session with one of them, and their descendants (proc(5)). One that clears its environment and
/// leaves its session in the same moment escapes, which a cgroup does not allow.
[[nodiscard]] std::unique_ptr<ProcessHome> make_marked_home(std::string mark);

}  // namespace safepair::hyperv
