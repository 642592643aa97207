#pragma once

#include <safepair/base/result.hpp>

#include <filesystem>
#include <memory>

namespace safepair::guard {

/// The safe-guard process that watches a page. It outlives an agent that dies; an agent that ends
/// in order lets it go.
class GuardProcess {
  public:
    /// Adopts the safe-guard that already watches `page`, or starts `program` in a session of its
    /// own. When it returns, the page is being watched. The page must exist (GuardPage::create).
    /// Blocks up to 10 s.
    [[nodiscard]] static base::Result<std::unique_ptr<GuardProcess>> spawn(
        const std::filesystem::path& program, const std::filesystem::path& page);

    /// Asks safe-guard to end as soon as no module is armed. Does not wait.
    ~GuardProcess();
    GuardProcess(const GuardProcess&) = delete;
    GuardProcess& operator=(const GuardProcess&) = delete;

    [[nodiscard]] int pid() const noexcept { return pid_; }

    /// It was running already.
    [[nodiscard]] bool adopted() const noexcept { return adopted_; }

    /// Whether it still watches: false means that it ended, and spawn() should be called again.
    [[nodiscard]] bool alive() const;

  private:
    GuardProcess(std::filesystem::path page, int pid, bool adopted)
        : page_(std::move(page)), pid_(pid), adopted_(adopted) {}

    std::filesystem::path page_;
    int pid_ = 0;
    bool adopted_ = false;
};

}  // namespace safepair::guard
