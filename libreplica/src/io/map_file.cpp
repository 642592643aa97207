#include "io/map_file.hpp"

#include "io/durable_file.hpp"

#include <safepair/base/bytes.hpp>

#include <limits>
#include <utility>

namespace safepair::replica {

namespace {

constexpr std::string_view magic = "SPDIRTYM";
constexpr std::size_t piece_bytes = 1024 * 1024;

base::Result<DirtyMap> decode(std::span<const std::byte> body) {
    base::ByteReader reader(body);
    DirtyMap map;
    while (reader.ok() && reader.remaining() > 0) {
        const auto bytes = reader.blob(piece_bytes);
        if (reader.ok()) {
            SAFEPAIR_TRY(const auto piece, DirtyMap::decode(bytes));
            map.merge(piece);
        }
    }
    if (!reader.finished()) {
        return base::error(base::Errc::corrupt, "piece of the map");
    }
    return map;
}

}  // namespace

MapFile::MapFile(std::filesystem::path file) : file_(std::move(file)) {}

base::Result<void> MapFile::save(const DirtyMap& map, GenerationId folder) {
    base::ByteWriter body;
    for (const auto& piece : map.encode(piece_bytes)) {
        body.blob(piece);
    }
    return replace_file(file_, seal(magic, folder, body.bytes()));
}

base::Result<std::optional<DirtyMap>> MapFile::load(GenerationId folder) {
    SAFEPAIR_TRY(const auto bytes, read_whole_file(file_));
    if (!bytes) {
        return std::optional<DirtyMap>();
    }
    const auto context = "dirty map " + file_.string();
    const auto body = unseal(magic, folder, *bytes);
    if (!body) {
        return body.error().within(context);
    }
    auto map = decode(*body);
    if (!map) {
        return map.error().within(context);
    }
    return std::optional(std::move(*map));
}

base::Result<void> MapFile::remove() { return remove_file(file_); }

}  // namespace safepair::replica
