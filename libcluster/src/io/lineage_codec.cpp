#include "io/lineage_codec.hpp"

#include <safepair/cluster/limits.hpp>

namespace safepair::cluster {

void write(base::ByteWriter& writer, const Term& term) {
    writer.u64(term.counter);
    writer.text(term.node.value);
}

void write(base::ByteWriter& writer, const Lineage& lineage) {
    writer.boolean(lineage.initialised);
    writer.boolean(lineage.consistent);
    writer.boolean(lineage.outdated);
    writer.boolean(lineage.peer_outdated);
    writer.boolean(lineage.clean);
    writer.id(lineage.pending.bytes);
    writer.id(lineage.current.bytes);
    writer.id(lineage.base.bytes);
    for (const auto& generation : lineage.history) {
        writer.id(generation.bytes);
    }
    write(writer, lineage.term);
    writer.u8(static_cast<std::uint8_t>(lineage.last_role));
    writer.id(lineage.boot.bytes);
    writer.text(lineage.handed_to.value);
    writer.u8(static_cast<std::uint8_t>(lineage.alone_from));
    writer.u8(static_cast<std::uint8_t>(lineage.resync_mode));
    writer.boolean(lineage.full_sync_due);
}

NodeId read_node(base::ByteReader& reader) { return NodeId{reader.text(limits::name_bytes_max)}; }

Term read_term(base::ByteReader& reader) {
    Term term;
    term.counter = reader.u64();
    term.node = read_node(reader);
    return term;
}

bool read(base::ByteReader& reader, Lineage& lineage) {
    lineage.initialised = reader.boolean();
    lineage.consistent = reader.boolean();
    lineage.outdated = reader.boolean();
    lineage.peer_outdated = reader.boolean();
    lineage.clean = reader.boolean();
    lineage.pending.bytes = reader.id();
    lineage.current.bytes = reader.id();
    lineage.base.bytes = reader.id();
    for (auto& generation : lineage.history) {
        generation.bytes = reader.id();
    }
    lineage.term = read_term(reader);
    bool known = read_enum(reader, LastRole::secondary, lineage.last_role);
    lineage.boot.bytes = reader.id();
    lineage.handed_to = read_node(reader);
    known = read_enum(reader, LastRole::secondary, lineage.alone_from) && known;
    known = read_enum(reader, SyncMode::full, lineage.resync_mode) && known;
    lineage.full_sync_due = reader.boolean();
    return known;
}

}  // namespace safepair::cluster
