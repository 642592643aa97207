#pragma once

#include <safepair/base/result.hpp>

#include <filesystem>

namespace safepair::guard {

struct LoopOptions {
    std::filesystem::path page;
    /// Written to and closed when the page is being watched; -1: none.
    int ready_fd = -1;
};

/// The whole of safe-guard: watches the page until it is asked to end and no module is armed.
/// Errors: Errc::busy when another one watches the page already; those of the page itself.
[[nodiscard]] base::Result<void> run_guard(const LoopOptions& options);

/// Takes the lock of the page `page`, which lasts as long as the descriptor. Errc::busy when
/// somebody holds it.
[[nodiscard]] base::Result<int> take_lock(const std::filesystem::path& page);

/// Whether somebody holds it, without taking it.
[[nodiscard]] base::Result<bool> is_locked(const std::filesystem::path& page);

/// The lock's file; it holds the number of the process that watches.
[[nodiscard]] std::filesystem::path lock_path(const std::filesystem::path& page);

}  // namespace safepair::guard
