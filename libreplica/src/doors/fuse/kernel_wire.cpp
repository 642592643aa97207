#include "doors/fuse/kernel_wire.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#include <linux/fuse.h>
#include <sys/uio.h>
#include <unistd.h>

namespace safepair::replica::fuse_door {

namespace {

#ifndef FOPEN_PARALLEL_DIRECT_WRITES
#define FOPEN_PARALLEL_DIRECT_WRITES (1 << 6)
#endif

/// What is kept of the message in hand: libfuse rewrites parts of it before the handler sees it.
struct Current {
    std::uint32_t opcode = 0;
    std::uint64_t unique = 0;
    bool kills_privileges = false;
    bool offers_kill_privileges = false;
};

thread_local Current current;

template <typename T>
bool part(const fuse_buf& message, std::size_t offset, T& into) noexcept {
    if (message.size < offset + sizeof(T)) {
        return false;
    }
    std::memcpy(&into, static_cast<const std::byte*>(message.mem) + offset, sizeof(T));
    return true;
}

void put_seconds(double timeout, std::uint64_t& seconds, std::uint32_t& nanoseconds) noexcept {
    seconds = static_cast<std::uint64_t>(timeout);
    nanoseconds = static_cast<std::uint32_t>((timeout - std::floor(timeout)) * 1e9);
}

fuse_attr to_kernel(const struct stat& status) noexcept {
    fuse_attr attributes{};
    attributes.ino = status.st_ino;
    attributes.size = static_cast<std::uint64_t>(status.st_size);
    attributes.blocks = static_cast<std::uint64_t>(status.st_blocks);
    attributes.atime = static_cast<std::uint64_t>(status.st_atim.tv_sec);
    attributes.mtime = static_cast<std::uint64_t>(status.st_mtim.tv_sec);
    attributes.ctime = static_cast<std::uint64_t>(status.st_ctim.tv_sec);
    attributes.atimensec = static_cast<std::uint32_t>(status.st_atim.tv_nsec);
    attributes.mtimensec = static_cast<std::uint32_t>(status.st_mtim.tv_nsec);
    attributes.ctimensec = static_cast<std::uint32_t>(status.st_ctim.tv_nsec);
    attributes.mode = status.st_mode;
    attributes.nlink = static_cast<std::uint32_t>(status.st_nlink);
    attributes.uid = status.st_uid;
    attributes.gid = status.st_gid;
    attributes.rdev = static_cast<std::uint32_t>(status.st_rdev);
    attributes.blksize = static_cast<std::uint32_t>(status.st_blksize);
    return attributes;
}

fuse_open_out open_answer(std::uint64_t handle, Access access) noexcept {
    fuse_open_out answer{};
    answer.fh = handle;
    // Nobody but this mount changes the bytes, so what the page cache has stays right from one open
    // to the next; a direct open lets the kernel drop it.
    answer.open_flags = access == Access::parallel ? FOPEN_DIRECT_IO | FOPEN_PARALLEL_DIRECT_WRITES
                                                   : FOPEN_KEEP_CACHE;
    return answer;
}

}  // namespace

void begin_message(const fuse_buf& message) noexcept {
    current = {};
    fuse_in_header header{};
    if (!part(message, 0, header)) {
        return;
    }
    current.opcode = header.opcode;
    current.unique = header.unique;
    if (header.opcode == FUSE_WRITE) {
        fuse_write_in write{};
        current.kills_privileges = part(message, sizeof(header), write) &&
                                   (write.write_flags & FUSE_WRITE_KILL_SUIDGID) != 0;
    } else if (header.opcode == FUSE_INIT) {
        // Older kernels send less than the whole struct.
        std::uint32_t flags = 0;
        current.offers_kill_privileges =
            part(message, sizeof(header) + offsetof(fuse_init_in, flags), flags) &&
            (flags & FUSE_HANDLE_KILLPRIV_V2) != 0;
    }
}

void refuse_message(int device, const fuse_buf& message, int error) noexcept {
    fuse_in_header header{};
    if (!part(message, 0, header)) {
        return;
    }
    constexpr std::array<std::uint32_t, 3> unanswered{
        FUSE_FORGET, FUSE_BATCH_FORGET, FUSE_INTERRUPT};
    if (std::find(unanswered.begin(), unanswered.end(), header.opcode) != unanswered.end()) {
        return;
    }
    fuse_out_header answer{};
    answer.len = sizeof(answer);
    answer.error = -error;
    answer.unique = header.unique;
    // Fails when the kernel gave the request up, and then nobody waits for it.
    [[maybe_unused]] const auto written = ::write(device, &answer, sizeof(answer));
}

bool write_kills_privileges() noexcept {
    return current.opcode == FUSE_WRITE && current.kills_privileges;
}

ssize_t write_answer(int device, iovec* parts, int count, void* /*unused*/) {
    if (current.opcode == FUSE_INIT && current.offers_kill_privileges && count == 2 &&
        parts[1].iov_len >= offsetof(fuse_init_out, flags) + sizeof(std::uint32_t)) {
        const auto* header = static_cast<const fuse_out_header*>(parts[0].iov_base);
        if (header->unique == current.unique && header->error == 0) {
            static_cast<fuse_init_out*>(parts[1].iov_base)->flags |= FUSE_HANDLE_KILLPRIV_V2;
        }
    }
    return ::writev(device, parts, count);
}

ssize_t read_message(int device, void* into, size_t size, void* /*unused*/) {
    return ::read(device, into, size);
}

int reply_open(fuse_req_t request, std::uint64_t handle, Access access) noexcept {
    const auto answer = open_answer(handle, access);
    return fuse_reply_buf(request, reinterpret_cast<const char*>(&answer), sizeof(answer));
}

int reply_create(fuse_req_t request,
                 const fuse_entry_param& entry,
                 std::uint64_t handle,
                 Access access) noexcept {
    struct {
        fuse_entry_out entry;
        fuse_open_out open;
    } answer{};

    static_assert(sizeof(answer) == sizeof(fuse_entry_out) + sizeof(fuse_open_out));
    answer.entry.nodeid = entry.ino;
    answer.entry.generation = entry.generation;
    put_seconds(entry.entry_timeout, answer.entry.entry_valid, answer.entry.entry_valid_nsec);
    put_seconds(entry.attr_timeout, answer.entry.attr_valid, answer.entry.attr_valid_nsec);
    answer.entry.attr = to_kernel(entry.attr);
    answer.open = open_answer(handle, access);
    return fuse_reply_buf(request, reinterpret_cast<const char*>(&answer), sizeof(answer));
}

}  // namespace safepair::replica::fuse_door
