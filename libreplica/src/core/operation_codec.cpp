#include "core/operation_codec.hpp"

#include <safepair/base/bytes.hpp>
#include <safepair/replica/limits.hpp>

#include <cerrno>
#include <string_view>

namespace safepair::replica {

namespace {

/// Which fields follow; a field that has its default value is left out.
namespace field {
constexpr std::uint16_t file = 1;
constexpr std::uint16_t parent = 2;
constexpr std::uint16_t new_parent = 4;
constexpr std::uint16_t name = 8;
constexpr std::uint16_t new_name = 16;
constexpr std::uint16_t text = 32;
constexpr std::uint16_t offset = 64;
constexpr std::uint16_t length = 128;
constexpr std::uint16_t flags = 256;
constexpr std::uint16_t attributes = 512;
constexpr std::uint16_t time = 1024;
constexpr std::uint16_t durable = 2048;
constexpr std::uint16_t all = 4095;
}  // namespace field

constexpr auto kind_last = OperationKind::flush;
constexpr auto type_last = NodeType::block_device;

bool has_attributes(const Operation& operation) {
    return operation.valid != 0 || operation.kind == OperationKind::create ||
           operation.kind == OperationKind::set_attributes;
}

std::uint16_t fields_of(const Operation& operation) {
    std::uint16_t fields = 0;
    const auto add = [&fields](bool present, std::uint16_t one) {
        fields = static_cast<std::uint16_t>(fields | (present ? one : 0));
    };
    add(!operation.file.is_nil(), field::file);
    add(!operation.parent.is_nil(), field::parent);
    add(!operation.new_parent.is_nil(), field::new_parent);
    add(!operation.name.empty(), field::name);
    add(!operation.new_name.empty(), field::new_name);
    add(!operation.text.empty(), field::text);
    add(operation.offset != 0, field::offset);
    add(operation.length != 0, field::length);
    add(operation.flags != 0, field::flags);
    add(has_attributes(operation), field::attributes);
    add(operation.time != 0, field::time);
    add(operation.durable, field::durable);
    return fields;
}

void write_attributes(base::ByteWriter& writer, const Attributes& attributes) {
    writer.u8(static_cast<std::uint8_t>(attributes.type));
    writer.u32(attributes.mode);
    writer.u32(attributes.uid);
    writer.u32(attributes.gid);
    writer.u64(attributes.size);
    writer.i64(attributes.modified);
    writer.i64(attributes.accessed);
    writer.u64(attributes.rdev);
}

bool read_attributes(base::ByteReader& reader, Attributes& attributes) {
    const auto type = reader.u8();
    if (type > static_cast<std::uint8_t>(type_last)) {
        return false;
    }
    attributes.type = static_cast<NodeType>(type);
    attributes.mode = reader.u32();
    attributes.uid = reader.u32();
    attributes.gid = reader.u32();
    attributes.size = reader.u64();
    attributes.modified = reader.i64();
    attributes.accessed = reader.i64();
    attributes.rdev = reader.u64();
    return true;
}

bool is_namespace_kind(OperationKind kind) {
    switch (kind) {
        case OperationKind::create:
        case OperationKind::link:
        case OperationKind::rename:
        case OperationKind::unlink:
        case OperationKind::rmdir:
            return true;
        case OperationKind::write:
        case OperationKind::allocate:
        case OperationKind::set_attributes:
        case OperationKind::set_xattr:
        case OperationKind::remove_xattr:
        case OperationKind::flush:
            return false;
    }
    return false;
}

/// A name that would lead out of its directory never reaches a store.
bool good_name(std::string_view name, bool is_entry) {
    if (name.find('\0') != std::string_view::npos) {
        return false;
    }
    return !is_entry || (name.find('/') == std::string_view::npos && name != "." && name != "..");
}

base::Error corrupt(const char* what) {
    return base::error(base::Errc::corrupt, std::string("operation: ") + what);
}

}  // namespace

std::vector<std::byte> encode_operation(const Operation& operation) {
    const auto fields = fields_of(operation);
    base::ByteWriter writer;
    writer.u8(static_cast<std::uint8_t>(operation.kind));
    writer.u16(fields);
    if ((fields & field::file) != 0) {
        writer.id(operation.file.bytes);
    }
    if ((fields & field::parent) != 0) {
        writer.id(operation.parent.bytes);
    }
    if ((fields & field::new_parent) != 0) {
        writer.id(operation.new_parent.bytes);
    }
    if ((fields & field::name) != 0) {
        writer.text(operation.name);
    }
    if ((fields & field::new_name) != 0) {
        writer.text(operation.new_name);
    }
    if ((fields & field::text) != 0) {
        writer.text(operation.text);
    }
    if ((fields & field::offset) != 0) {
        writer.u64(operation.offset);
    }
    if ((fields & field::length) != 0) {
        writer.u64(operation.length);
    }
    if ((fields & field::flags) != 0) {
        writer.u32(operation.flags);
    }
    if ((fields & field::attributes) != 0) {
        writer.u32(operation.valid);
        write_attributes(writer, operation.attributes);
    }
    if ((fields & field::time) != 0) {
        writer.i64(operation.time);
    }
    return writer.take();
}

base::Result<Operation> decode_operation(std::span<const std::byte> bytes) {
    base::ByteReader reader(bytes);
    Operation operation;
    const auto kind = reader.u8();
    const auto fields = reader.u16();
    if (!reader.ok() || kind > static_cast<std::uint8_t>(kind_last) ||
        (fields & ~unsigned{field::all}) != 0) {
        return corrupt("kind");
    }
    operation.kind = static_cast<OperationKind>(kind);
    operation.durable = (fields & field::durable) != 0;
    if ((fields & field::file) != 0) {
        operation.file = FileId{reader.id()};
    }
    if ((fields & field::parent) != 0) {
        operation.parent = FileId{reader.id()};
    }
    if ((fields & field::new_parent) != 0) {
        operation.new_parent = FileId{reader.id()};
    }
    if ((fields & field::name) != 0) {
        operation.name = reader.text(limits::name_bytes_max);
    }
    if ((fields & field::new_name) != 0) {
        operation.new_name = reader.text(limits::name_bytes_max);
    }
    if ((fields & field::text) != 0) {
        operation.text = reader.text(limits::link_target_bytes_max);
    }
    if ((fields & field::offset) != 0) {
        operation.offset = reader.u64();
    }
    if ((fields & field::length) != 0) {
        operation.length = reader.u64();
    }
    if ((fields & field::flags) != 0) {
        operation.flags = reader.u32();
    }
    if ((fields & field::attributes) != 0) {
        operation.valid = reader.u32();
        if (!read_attributes(reader, operation.attributes)) {
            return corrupt("node type");
        }
    }
    if ((fields & field::time) != 0) {
        operation.time = reader.i64();
    }
    if (!reader.ok()) {
        return corrupt("cut off");
    }
    operation.data = reader.raw(reader.remaining());
    if (operation.data.size() > limits::record_bytes_max) {
        return corrupt("data too long");
    }
    const bool is_entry = is_namespace_kind(operation.kind);
    if (!good_name(operation.name, is_entry) || !good_name(operation.new_name, is_entry) ||
        !good_name(operation.text, false)) {
        return corrupt("name");
    }
    return operation;
}

int check_limits(const Operation& operation) noexcept {
    if (operation.name.size() > limits::name_bytes_max ||
        operation.new_name.size() > limits::name_bytes_max ||
        operation.text.size() > limits::link_target_bytes_max) {
        return ENAMETOOLONG;
    }
    if (operation.data.size() > limits::record_bytes_max ||
        (operation.kind == OperationKind::set_xattr &&
         operation.data.size() > limits::xattr_bytes_max)) {
        return E2BIG;
    }
    const bool is_entry = is_namespace_kind(operation.kind);
    if (!good_name(operation.name, is_entry) || !good_name(operation.new_name, is_entry) ||
        !good_name(operation.text, false)) {
        return EINVAL;
    }
    return 0;
}

}  // namespace safepair::replica
