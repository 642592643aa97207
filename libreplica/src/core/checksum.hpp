#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace safepair::replica {

/// CRC-32C (RFC 3720, appendix B.4) in hardware where there is any. Give the checksum of what came
/// before to go on with it, 0 to begin.
[[nodiscard]] std::uint32_t crc32c(std::uint32_t before, std::span<const std::byte> bytes) noexcept;

}  // namespace safepair::replica
