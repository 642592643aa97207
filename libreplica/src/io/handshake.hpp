#pragma once

#include <safepair/base/result.hpp>
#include <safepair/base/time.hpp>
#include <safepair/base/unique_fd.hpp>
#include <safepair/replica/data_channel.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

/// The first bytes of a data channel: each end proves that it has the key, and both agree on
/// module, session and term. Format: docs/formats/wire.md, 2.
namespace safepair::replica {

using Nonce = std::array<std::uint8_t, 16>;
using Tag = std::array<std::uint8_t, 32>;

inline constexpr std::size_t challenge_bytes = 16 + 32;
inline constexpr std::size_t proof_bytes = 32;
/// In front of the hello: how many bytes follow.
inline constexpr std::size_t hello_length_bytes = 2;
inline constexpr std::size_t hello_bytes_max = 256;

/// A length and the leader's ChannelHello with its nonce.
[[nodiscard]] std::vector<std::byte> encode_hello(const ChannelHello& hello, const Nonce& nonce);

/// Of the whole thing, length and all. Errors: Errc::corrupt.
[[nodiscard]] base::Result<ChannelHello> decode_hello(std::span<const std::byte> bytes);

enum class End : std::uint8_t { leader, follower };
/// What `end` sends to prove itself; `hello` as it was sent.
[[nodiscard]] Tag make_tag(const ChannelKey& key,
                           End end,
                           std::span<const std::byte> hello,
                           const Nonce& follower_nonce);
/// In constant time.
[[nodiscard]] bool same_tag(const Tag& one, std::span<const std::byte> other);

/// Connects, and proves both ends. Blocks at most `patience`. The connection is blocking, without
/// delay, and is not the follower's consent yet: that is its first frame. Errors: errno of
/// connect(2), Errc::timed_out, Errc::refused when the other end has another key or closes.
[[nodiscard]] base::Result<base::UniqueFd> connect_channel(const DataEndpoint& peer,
                                                           const ChannelHello& hello,
                                                           base::Duration patience);
/// TCP_NODELAY, TCP_USER_TIMEOUT, a send buffer for a few of the largest records.
void tune_socket(int fd);

}  // namespace safepair::replica
