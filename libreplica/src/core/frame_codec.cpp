#include "core/frame_codec.hpp"

#include "core/checksum.hpp"

#include <safepair/base/bytes.hpp>

#include <algorithm>
#include <cstring>

namespace safepair::replica {

namespace {

/// "SPR1" as it lies on the wire.
constexpr std::uint32_t magic = 0x31525053;
constexpr std::size_t checked_bytes = frame_header_bytes - 4;
constexpr auto kind_first = FrameKind::welcome;
constexpr auto kind_last = FrameKind::complete;
constexpr std::uint32_t error_max = 4095;
constexpr std::size_t acknowledgement_bytes = 13;

base::Error corrupt(const char* what) {
    return base::error(base::Errc::corrupt, std::string("frame: ") + what);
}

template <typename Integer>
void put(HeaderBytes& bytes, std::size_t at, Integer value) noexcept {
    for (std::size_t i = 0; i < sizeof(value); ++i) {
        bytes[at + i] = static_cast<std::byte>(value >> (8 * i));
    }
}

void write_space(base::ByteWriter& writer, const Space& space) {
    writer.u64(space.block_bytes);
    writer.u64(space.blocks);
    writer.u64(space.blocks_free);
    writer.u64(space.blocks_available);
    writer.u64(space.files);
    writer.u64(space.files_free);
}

Space read_space(base::ByteReader& reader) {
    Space space;
    space.block_bytes = reader.u64();
    space.blocks = reader.u64();
    space.blocks_free = reader.u64();
    space.blocks_available = reader.u64();
    space.files = reader.u64();
    space.files_free = reader.u64();
    return space;
}

}  // namespace

bool is_numbered(FrameKind kind) noexcept {
    switch (kind) {
        case FrameKind::operation:
        case FrameKind::resync:
        case FrameKind::flush:
        case FrameKind::question:
        case FrameKind::complete:
            return true;
        case FrameKind::welcome:
        case FrameKind::answer:
        case FrameKind::acknowledgement:
        case FrameKind::heartbeat:
            return false;
    }
    return false;
}

HeaderBytes encode_header(const FrameHeader& header) noexcept {
    HeaderBytes bytes{};
    put(bytes, 0, magic);
    bytes[4] = std::byte{wire_version};
    bytes[5] = static_cast<std::byte>(header.kind);
    put(bytes, 8, header.sequence);
    put(bytes, 16, header.payload_bytes);
    put(bytes, 20, header.payload_checksum);
    put(bytes, checked_bytes, crc32c(0, std::span(bytes).first(checked_bytes)));
    return bytes;
}

base::Result<FrameHeader> decode_header(std::span<const std::byte> bytes) {
    if (bytes.size() < frame_header_bytes) {
        return corrupt("header cut off");
    }
    base::ByteReader reader(bytes.first(frame_header_bytes));
    FrameHeader header;
    const auto found_magic = reader.u32();
    const auto version = reader.u8();
    const auto kind = reader.u8();
    const auto reserved = reader.u16();
    header.sequence = reader.u64();
    header.payload_bytes = reader.u32();
    header.payload_checksum = reader.u32();
    if (found_magic != magic) {
        return corrupt("magic");
    }
    if (reader.u32() != crc32c(0, bytes.first(checked_bytes))) {
        return corrupt("checksum of the header");
    }
    if (version != wire_version) {
        return corrupt("version");
    }
    if (kind < static_cast<std::uint8_t>(kind_first) ||
        kind > static_cast<std::uint8_t>(kind_last) || reserved != 0) {
        return corrupt("kind");
    }
    header.kind = static_cast<FrameKind>(kind);
    if (header.payload_bytes > payload_bytes_max) {
        return corrupt("payload too long");
    }
    const bool wants_sequence = is_numbered(header.kind) || header.kind == FrameKind::answer;
    if (wants_sequence != (header.sequence != 0)) {
        return corrupt("sequence number");
    }
    return header;
}

base::Result<void> check_payload(const FrameHeader& header, std::span<const std::byte> payload) {
    if (payload.size() != header.payload_bytes) {
        return corrupt("payload cut off");
    }
    if (crc32c(0, payload) != header.payload_checksum) {
        return corrupt("checksum of the payload");
    }
    return {};
}

std::vector<std::byte> encode_acknowledgements(std::span<const Acknowledgement> all) {
    base::ByteWriter writer;
    for (const auto& one : all) {
        writer.u64(one.sequence);
        writer.u32(one.error);
        writer.boolean(one.flushed);
    }
    return writer.take();
}

base::Result<std::vector<Acknowledgement>> decode_acknowledgements(
    std::span<const std::byte> payload) {
    const auto count = payload.size() / acknowledgement_bytes;
    if (count == 0 || count > acknowledgements_max ||
        payload.size() != count * acknowledgement_bytes) {
        return corrupt("acknowledgements");
    }
    base::ByteReader reader(payload);
    std::vector<Acknowledgement> all(count);
    for (auto& one : all) {
        one.sequence = reader.u64();
        one.error = reader.u32();
        one.flushed = reader.boolean();
        if (!reader.ok() || one.sequence == 0 || one.error > error_max) {
            return corrupt("acknowledgement");
        }
    }
    return all;
}

std::vector<std::byte> encode_flush(const FlushRequest& request) {
    base::ByteWriter writer;
    writer.id(request.file.bytes);
    writer.boolean(request.data_only);
    writer.boolean(request.answer_on_receipt);
    return writer.take();
}

base::Result<FlushRequest> decode_flush(std::span<const std::byte> payload) {
    base::ByteReader reader(payload);
    FlushRequest request;
    request.file = FileId{reader.id()};
    request.data_only = reader.boolean();
    request.answer_on_receipt = reader.boolean();
    if (!reader.finished()) {
        return corrupt("flush");
    }
    return request;
}

std::vector<std::byte> encode_welcome(const Welcome& welcome) {
    base::ByteWriter writer;
    writer.id(welcome.session.bytes);
    writer.u64(welcome.term);
    write_space(writer, welcome.space);
    return writer.take();
}

base::Result<Welcome> decode_welcome(std::span<const std::byte> payload) {
    base::ByteReader reader(payload);
    Welcome welcome;
    welcome.session = base::SessionId{reader.id()};
    welcome.term = reader.u64();
    welcome.space = read_space(reader);
    if (!reader.finished()) {
        return corrupt("welcome");
    }
    return welcome;
}

std::vector<std::byte> encode_space(const Space& space) {
    base::ByteWriter writer;
    write_space(writer, space);
    return writer.take();
}

base::Result<Space> decode_space(std::span<const std::byte> payload) {
    base::ByteReader reader(payload);
    const auto space = read_space(reader);
    if (!reader.finished()) {
        return corrupt("heartbeat");
    }
    return space;
}

}  // namespace safepair::replica
