#include "io/record_channel.hpp"

#include "core/checksum.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include <sys/socket.h>
#include <sys/time.h>
#include <sys/uio.h>

namespace safepair::replica {

namespace {

/// More than one record is read at once only up to here, so that what has to be moved to the front
/// stays small.
constexpr std::size_t read_ahead_bytes = 128 * 1024;
constexpr std::size_t buffer_bytes = frame_header_bytes + payload_bytes_max + read_ahead_bytes;

base::Error lost(const std::string& what) {
    return base::error(base::Errc::peer_unreachable, what);
}

}  // namespace

std::uint32_t record_checksum(std::span<const std::byte> fields,
                              std::span<const std::byte> data) noexcept {
    return crc32c(crc32c(0, fields), data);
}

RecordChannel::RecordChannel(base::UniqueFd fd) : fd_(std::move(fd)), buffer_(buffer_bytes) {
    timeval patience{};
    patience.tv_sec = std::chrono::duration_cast<std::chrono::seconds>(limits::io_timeout).count();
    setsockopt(fd_.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
}

base::Result<void> RecordChannel::Turn::send(FrameKind kind,
                                             std::uint64_t sequence,
                                             std::span<const std::byte> fields,
                                             std::span<const std::byte> data,
                                             std::uint32_t checksum) {
    FrameHeader header;
    header.kind = kind;
    header.sequence = sequence;
    header.payload_bytes = static_cast<std::uint32_t>(fields.size() + data.size());
    header.payload_checksum = checksum;
    const auto head = encode_header(header);

    // iovec has no const; the kernel only reads.
    const auto part = [](std::span<const std::byte> bytes) {
        return iovec{const_cast<std::byte*>(bytes.data()), bytes.size()};
    };
    std::array<iovec, 3> parts{part(head), part(fields), part(data)};
    msghdr message{};
    message.msg_iov = parts.data();
    message.msg_iovlen = parts.size();
    auto left = head.size() + fields.size() + data.size();
    channel_.sent_.fetch_add(left, std::memory_order_relaxed);
    while (left > 0) {
        const auto put = sendmsg(channel_.fd_.get(), &message, MSG_NOSIGNAL);
        if (put < 0) {
            if (errno == EINTR) {
                continue;
            }
            const int failure = errno;
            // Half a record would be followed by a whole one.
            channel_.shut_down();
            return lost("send: " + std::error_code(failure, std::generic_category()).message());
        }
        left -= static_cast<std::size_t>(put);
        auto skip = static_cast<std::size_t>(put);
        while (left > 0 && skip >= message.msg_iov->iov_len) {
            skip -= message.msg_iov->iov_len;
            ++message.msg_iov;
            --message.msg_iovlen;
        }
        if (left > 0) {
            message.msg_iov->iov_base = static_cast<std::byte*>(message.msg_iov->iov_base) + skip;
            message.msg_iov->iov_len -= skip;
        }
    }
    return {};
}

base::Result<void> RecordChannel::send(FrameKind kind,
                                       std::uint64_t sequence,
                                       std::span<const std::byte> payload) {
    const auto checksum = record_checksum(payload, {});
    Turn turn(*this);
    return turn.send(kind, sequence, payload, {}, checksum);
}

void RecordChannel::send_if_idle(FrameKind kind, std::span<const std::byte> payload) {
    // Whoever is sending tells the other end as well that we live.
    if (Turn turn(*this, std::try_to_lock); turn.mine()) {
        [[maybe_unused]] const auto sent =
            turn.send(kind, 0, payload, {}, record_checksum(payload, {}));
    }
}

bool RecordChannel::has_frame() const noexcept {
    if (buffered() < frame_header_bytes) {
        return false;
    }
    const auto header = decode_header(std::span(buffer_).subspan(begin_, frame_header_bytes));
    // A damaged header is told by receive().
    return !header || buffered() >= frame_header_bytes + header->payload_bytes;
}

/// False: the other end closed between two frames.
base::Result<bool> RecordChannel::fill(std::size_t wanted) {
    while (buffered() < wanted) {
        if (buffer_.size() - begin_ < wanted || begin_ == end_) {
            std::memmove(buffer_.data(), buffer_.data() + begin_, buffered());
            end_ -= begin_;
            begin_ = 0;
        }
        const auto missing = wanted - buffered();
        const auto room = std::min(buffer_.size() - end_, std::max(missing, read_ahead_bytes));
        const auto got = recv(fd_.get(), buffer_.data() + end_, room, 0);
        if (got < 0) {
            if (errno == EINTR) {
                continue;
            }
            if (errno == EAGAIN || errno == EWOULDBLOCK) {
                return base::error(base::Errc::timed_out, "nothing was received for too long");
            }
            return lost("receive: " + std::error_code(errno, std::generic_category()).message());
        }
        if (got == 0) {
            if (buffered() > 0) {
                return lost("closed within a record");
            }
            return false;
        }
        end_ += static_cast<std::size_t>(got);
    }
    return true;
}

base::Result<std::optional<RecordChannel::Frame>> RecordChannel::receive() {
    SAFEPAIR_TRY(const bool has_header, fill(frame_header_bytes));
    if (!has_header) {
        return std::optional<Frame>{};
    }
    SAFEPAIR_TRY(const auto header,
                 decode_header(std::span(buffer_).subspan(begin_, frame_header_bytes)));
    SAFEPAIR_TRY(const bool has_payload, fill(frame_header_bytes + header.payload_bytes));
    if (!has_payload) {
        return std::optional<Frame>{};
    }
    const auto payload = std::span<const std::byte>(buffer_).subspan(begin_ + frame_header_bytes,
                                                                     header.payload_bytes);
    SAFEPAIR_CHECK(check_payload(header, payload));
    begin_ += frame_header_bytes + header.payload_bytes;
    return std::optional<Frame>{Frame{header, payload}};
}

void RecordChannel::shut_down() noexcept { ::shutdown(fd_.get(), SHUT_RDWR); }

}  // namespace safepair::replica
