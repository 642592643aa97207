#pragma once

#include <safepair/base/bytes.hpp>
#include <safepair/cluster/lineage.hpp>

/// The one spelling of a Lineage in bytes, used on disk and inside heartbeats
/// (docs/formats/lineage.md, section 2).
namespace safepair::cluster {

void write(base::ByteWriter& writer, const Term& term);
void write(base::ByteWriter& writer, const Lineage& lineage);

/// At most limits::name_bytes_max bytes.
[[nodiscard]] NodeId read_node(base::ByteReader& reader);
[[nodiscard]] Term read_term(base::ByteReader& reader);

/// False when a value is outside its range. A reader that failed is the caller's to notice.
[[nodiscard]] bool read(base::ByteReader& reader, Lineage& lineage);

/// Reads a byte that stands for an enumerator in [0, last]; false when it is above.
template <typename Enum>
[[nodiscard]] bool read_enum(base::ByteReader& reader, Enum last, Enum& value) {
    const auto byte = reader.u8();
    value = static_cast<Enum>(byte);
    return byte <= static_cast<std::uint8_t>(last);
}

}  // namespace safepair::cluster
