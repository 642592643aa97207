#pragma once

#include <array>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

namespace safepair::base {

/// 128 bits, tagged so that identities of different kinds do not mix. All zeros means "none".
template <typename Tag>
struct Uuid {
    std::array<std::uint8_t, 16> bytes{};

    [[nodiscard]] bool is_nil() const noexcept { return bytes == std::array<std::uint8_t, 16>{}; }
    explicit operator bool() const noexcept { return !is_nil(); }
    friend auto operator<=>(const Uuid&, const Uuid&) = default;
};

/// 32 lower-case hexadecimal digits.
[[nodiscard]] std::string to_hex(const std::array<std::uint8_t, 16>& bytes);
/// The inverse of to_hex; dashes are skipped. nullopt when it is not exactly 32 hexadecimal digits.
[[nodiscard]] std::optional<std::array<std::uint8_t, 16>> from_hex(std::string_view text);

template <typename Tag>
[[nodiscard]] std::string to_string(const Uuid<Tag>& id) {
    return to_hex(id.bytes);
}

/// A file or directory of a module, equal on both nodes, surviving rename. The root directory is all zeros.
using FileId = Uuid<struct FileIdTag>;
/// One line of acknowledged data.
using GenerationId = Uuid<struct GenerationIdTag>;
/// One boot of an operating system (Linux: /proc/sys/kernel/random/boot_id).
using BootId = Uuid<struct BootIdTag>;
/// One life of an agent process.
using Incarnation = Uuid<struct IncarnationTag>;
/// One replication session between a leader and a follower (R2).
using SessionId = Uuid<struct SessionIdTag>;

/// A name that is a type of its own: NodeId, ModuleId. Compared bytewise.
template <typename Tag>
struct Name {
    std::string value;

    [[nodiscard]] bool empty() const noexcept { return value.empty(); }
    friend auto operator<=>(const Name&, const Name&) = default;
};

/// A machine of the cluster, by its configured name.
using NodeId = Name<struct NodeIdTag>;
/// A protected VM or application, by its configured name.
using ModuleId = Name<struct ModuleIdTag>;

/// 16 bytes from the operating system's random source (getrandom(2)). For shells only.
[[nodiscard]] std::array<std::uint8_t, 16> random_bytes16();

template <typename Id>
[[nodiscard]] Id random_id() {
    return Id{random_bytes16()};
}

}  // namespace safepair::base

template <typename Tag>
struct std::hash<safepair::base::Uuid<Tag>> {
    std::size_t operator()(const safepair::base::Uuid<Tag>& id) const noexcept {
        std::size_t value = 0;
        for (std::size_t i = 0; i < 8; ++i) {
            value = (value << 8U) | static_cast<std::size_t>(id.bytes[i] ^ id.bytes[i + 8]);
        }
        return value;
    }
};

template <typename Tag>
struct std::hash<safepair::base::Name<Tag>> {
    std::size_t operator()(const safepair::base::Name<Tag>& name) const noexcept {
        return std::hash<std::string>{}(name.value);
    }
};
