#pragma once

#include "host_uri.hpp"

#include <safepair/base/time.hpp>
#include <safepair/base/unique_fd.hpp>

#include <string>

// The process behind a VM, found without asking the hypervisor: it is what must end when the
// hypervisor does not answer.
namespace safepair::hyperv {

/// Its process id, 0 when there is none. Found by the hypervisor's pid file, or else among all
/// processes, taking only an emulator of this very host: two hosts on one machine may run the same
/// VM. `uuid` may be empty.
[[nodiscard]] int find_emulator(const HostPlaces& places,
                                const std::string& name,
                                const std::string& uuid);

/// Opens a process so that it cannot be mistaken for a later one; none when it is gone.
[[nodiscard]] base::UniqueFd open_process(int pid) noexcept;

/// False when it is gone.
bool send_signal(const base::UniqueFd& process, int signal) noexcept;

/// True when it ended, within `limit`.
[[nodiscard]] bool wait_for_end(const base::UniqueFd& process, base::Duration limit) noexcept;

}  // namespace safepair::hyperv
