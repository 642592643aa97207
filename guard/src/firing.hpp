#pragma once

#include "page_layout.hpp"

#include <safepair/base/unique_fd.hpp>

#include <cstdint>

/// What safe-guard does to one module. Nothing here allocates or waits for another process.
namespace safepair::guard {

/// Pause, kill, abort the FUSE connection, remove the addresses. Returns the bits of Step that
/// succeeded; a step without anything to do has succeeded.
[[nodiscard]] std::uint32_t fire(const Order& order) noexcept;

/// Kills what has appeared in the cgroup of a module after it was fired at: an agent that was
/// stopped in the middle of a start goes on with it when it is continued.
void enforce(const Order& order) noexcept;

/// Lets processes of the cgroup run again.
void thaw(const Order& order) noexcept;

}  // namespace safepair::guard
