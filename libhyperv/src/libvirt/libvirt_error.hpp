#pragma once

#include <safepair/base/error.hpp>

#include <string>

namespace safepair::hyperv {

/// The error of the libvirt call that just failed on this thread: "`what`: libvirt's reason". The
/// border between libvirt's codes and ours.
[[nodiscard]] base::Error libvirt_error(const std::string& what);

/// Libvirt's code of the call that just failed on this thread.
[[nodiscard]] int libvirt_error_code() noexcept;

}  // namespace safepair::hyperv
