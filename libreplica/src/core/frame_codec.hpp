#pragma once

#include <safepair/base/ids.hpp>
#include <safepair/base/result.hpp>
#include <safepair/replica/limits.hpp>
#include <safepair/replica/operation.hpp>
#include <safepair/replica/store.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

/// The frames of the data channel after its handshake. Format: docs/formats/wire.md.
namespace safepair::replica {

enum class FrameKind : std::uint8_t {
    welcome = 1,          ///< first frame of the follower
    operation = 2,        ///< an operation of the application
    resync = 3,           ///< a record of a resync: kind, operation
    flush = 4,            ///< make durable what came before
    question = 5,         ///< of the resync; bytes
    answer = 6,           ///< to the question with this sequence number
    acknowledgement = 7,  ///< what the follower carried out
    heartbeat = 8,        ///< both ways when nothing else was said
    complete = 9,         ///< the follower's copy is whole: it forgets its own map
};

inline constexpr std::uint8_t wire_version = 1;
inline constexpr std::size_t frame_header_bytes = 28;
/// Room for everything of an operation but its data.
inline constexpr std::size_t fields_bytes_max = 8192;
inline constexpr std::size_t payload_bytes_max = limits::record_bytes_max + fields_bytes_max;
/// Acknowledgements in one frame.
inline constexpr std::size_t acknowledgements_max = 4096;

struct FrameHeader {
    FrameKind kind = FrameKind::heartbeat;
    /// Of numbered frames (operation, resync, flush, question, complete) and answers; 0 otherwise.
    std::uint64_t sequence = 0;
    std::uint32_t payload_bytes = 0;
    std::uint32_t payload_checksum = 0;
};

/// True for the kinds that take the next number of the module's one sequence (R12).
[[nodiscard]] bool is_numbered(FrameKind kind) noexcept;

using HeaderBytes = std::array<std::byte, frame_header_bytes>;
[[nodiscard]] HeaderBytes encode_header(const FrameHeader& header) noexcept;
/// Checks the header's own checksum and every limit, so that a damaged length is never waited for.
/// Errors: Errc::corrupt.
[[nodiscard]] base::Result<FrameHeader> decode_header(std::span<const std::byte> bytes);
/// Errors: Errc::corrupt.
[[nodiscard]] base::Result<void> check_payload(const FrameHeader& header,
                                               std::span<const std::byte> payload);

struct Acknowledgement {
    std::uint64_t sequence = 0;
    /// 0, or the errno of what failed; nothing comes after it.
    std::uint32_t error = 0;
    /// On stable storage, not only in the kernel.
    bool flushed = false;
    friend bool operator==(const Acknowledgement&, const Acknowledgement&) = default;
};

[[nodiscard]] std::vector<std::byte> encode_acknowledgements(std::span<const Acknowledgement> all);
[[nodiscard]] base::Result<std::vector<Acknowledgement>> decode_acknowledgements(
    std::span<const std::byte> payload);

struct FlushRequest {
    /// Nil root: everything.
    FileId file;
    bool data_only = false;
    /// Acknowledge on receipt (durability `received`); it is carried out all the same.
    bool answer_on_receipt = false;
    friend bool operator==(const FlushRequest&, const FlushRequest&) = default;
};

[[nodiscard]] std::vector<std::byte> encode_flush(const FlushRequest& request);
[[nodiscard]] base::Result<FlushRequest> decode_flush(std::span<const std::byte> payload);

struct Welcome {
    base::SessionId session;
    std::uint64_t term = 0;
    Space space;
};

[[nodiscard]] std::vector<std::byte> encode_welcome(const Welcome& welcome);
[[nodiscard]] base::Result<Welcome> decode_welcome(std::span<const std::byte> payload);

/// Payload of a heartbeat: the sender's space.
[[nodiscard]] std::vector<std::byte> encode_space(const Space& space);
[[nodiscard]] base::Result<Space> decode_space(std::span<const std::byte> payload);

}  // namespace safepair::replica
