#pragma once

#include <safepair/base/time.hpp>
#include <safepair/base/unique_fd.hpp>

namespace safepair::hyperv {

/// A flag that a thread can wait for together with other descriptors (eventfd(2)). Stays raised
/// until cleared.
class Wake {
  public:
    Wake();

    void raise() const noexcept;
    void clear() const noexcept;

    /// Waits until it is raised, at most `limit` (negative: without limit). True when it was
    /// raised.
    bool wait(base::Duration limit) const noexcept;

    [[nodiscard]] int fd() const noexcept { return fd_.get(); }

  private:
    base::UniqueFd fd_;
};

/// What poll(2) takes: milliseconds rounded up, so that a wait never ends before its time;
/// negative: no limit.
[[nodiscard]] int poll_milliseconds(base::Duration limit) noexcept;

}  // namespace safepair::hyperv
