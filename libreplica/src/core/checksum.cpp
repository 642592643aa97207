#include "core/checksum.hpp"

#include <climits>

#include <algorithm>

#include <isa-l/crc.h>

namespace safepair::replica {

std::uint32_t crc32c(std::uint32_t before, std::span<const std::byte> bytes) noexcept {
    // The library works on the inverted value, and has neither const nor lengths above an int.
    auto checksum = ~before;
    while (!bytes.empty()) {
        const auto count = std::min<std::size_t>(bytes.size(), INT_MAX);
        auto* first =
            const_cast<unsigned char*>(reinterpret_cast<const unsigned char*>(bytes.data()));
        checksum = crc32_iscsi(first, static_cast<int>(count), checksum);
        bytes = bytes.subspan(count);
    }
    return ~checksum;
}

}  // namespace safepair::replica
