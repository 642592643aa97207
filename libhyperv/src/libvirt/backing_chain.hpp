#pragma once

#include <safepair/base/result.hpp>

#include <string>
#include <vector>

namespace safepair::hyperv {

/// The files that the disk image `path` stands on, nearest first, itself not included; from
/// `qemu-img info`.
[[nodiscard]] base::Result<std::vector<std::string>> backing_chain(const std::string& path);

/// The same from what `qemu-img info --backing-chain --output=json` wrote.
[[nodiscard]] base::Result<std::vector<std::string>> parse_backing_chain(const std::string& report);

}  // namespace safepair::hyperv
