#pragma once

#include "core/frame_codec.hpp"

#include <safepair/base/result.hpp>
#include <safepair/base/unique_fd.hpp>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <optional>
#include <span>
#include <vector>

namespace safepair::replica {

/// Frames over one connected stream socket. One thread receives; any thread sends. Senders take
/// turns, so that numbers and bytes have the same order; a sender waits in the kernel while the
/// socket is full, and is woken by shut_down().
///
/// A plain blocking socket instead of Asio: the thread that has the data sends it, and the thread
/// that waits for frames handles them, so that a record costs no wake-up beyond the two that the
/// kernel needs.
class RecordChannel {
  public:
    /// `fd`: connected, blocking. A receive that sees nothing for limits::io_timeout fails.
    explicit RecordChannel(base::UniqueFd fd);

    /// The right to send; others wait while it exists.
    class Turn {
      public:
        explicit Turn(RecordChannel& channel) : channel_(channel), lock_(channel.send_mutex_) {}

        Turn(RecordChannel& channel, std::try_to_lock_t)
            : channel_(channel), lock_(channel.send_mutex_, std::try_to_lock) {}

        [[nodiscard]] bool mine() const noexcept { return lock_.owns_lock(); }

        /// `checksum` is that of fields and data together. Errors: Errc::peer_unreachable.
        [[nodiscard]] base::Result<void> send(FrameKind kind,
                                              std::uint64_t sequence,
                                              std::span<const std::byte> fields,
                                              std::span<const std::byte> data,
                                              std::uint32_t checksum);

      private:
        RecordChannel& channel_;
        std::unique_lock<std::mutex> lock_;
    };

    /// A turn for one frame without data.
    [[nodiscard]] base::Result<void> send(FrameKind kind,
                                          std::uint64_t sequence,
                                          std::span<const std::byte> payload);
    /// The same, unless somebody is sending now.
    void send_if_idle(FrameKind kind, std::span<const std::byte> payload);

    struct Frame {
        FrameHeader header;
        /// Borrowed until the next receive().
        std::span<const std::byte> payload;
    };

    /// Waits for a whole frame. nullopt: the other end closed. Errors: Errc::corrupt,
    /// Errc::timed_out, Errc::peer_unreachable.
    [[nodiscard]] base::Result<std::optional<Frame>> receive();
    /// A whole frame lies in the buffer already.
    [[nodiscard]] bool has_frame() const noexcept;

    /// Both directions end now; everybody who waits is woken. Thread-safe, idempotent.
    void shut_down() noexcept;

    [[nodiscard]] std::uint64_t sent_bytes() const noexcept {
        return sent_.load(std::memory_order_relaxed);
    }

  private:
    [[nodiscard]] std::size_t buffered() const noexcept { return end_ - begin_; }

    [[nodiscard]] base::Result<bool> fill(std::size_t wanted);

    const base::UniqueFd fd_;
    std::mutex send_mutex_;
    std::atomic<std::uint64_t> sent_{0};

    // Of the receiving thread. Invariant: begin_ <= end_ <= buffer_.size().
    std::vector<std::byte> buffer_;
    std::size_t begin_ = 0;
    std::size_t end_ = 0;
};

/// The checksum of a record's payload, for Turn::send.
[[nodiscard]] std::uint32_t record_checksum(std::span<const std::byte> fields,
                                            std::span<const std::byte> data) noexcept;

}  // namespace safepair::replica
