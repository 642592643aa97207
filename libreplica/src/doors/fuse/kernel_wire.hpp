#pragma once

#include "doors/fuse/library.hpp"

#include <cstddef>
#include <cstdint>

#include <sys/types.h>

struct iovec;

/// What the kernel's protocol (linux/fuse.h) has and libfuse 3.14 has no field for: parallel direct
/// writes in the answer to an open, the kill-privileges flag of a write, and the capability that
/// asks for that flag.
namespace safepair::replica::fuse_door {

/// Names the message that this thread hands to libfuse next.
void begin_message(const fuse_buf& message) noexcept;

/// Answers a message with `error` without libfuse, when it expects an answer.
void refuse_message(int device, const fuse_buf& message, int error) noexcept;

/// The WRITE of this thread's message comes from somebody who may not keep set-uid and set-gid
/// bits.
[[nodiscard]] bool write_kills_privileges() noexcept;

/// For fuse_session_custom_io: writev(2) that adds FUSE_HANDLE_KILLPRIV_V2 to the answer to INIT,
/// without which every write through the page cache costs one more crossing to look for
/// security.capability.
ssize_t write_answer(int device, iovec* parts, int count, void* unused);
ssize_t read_message(int device, void* into, size_t size, void* unused);

/// How an open file is served.
enum class Access : std::uint8_t {
    cached,    ///< through the page cache, written through
    parallel,  ///< direct I/O, writes to one file side by side
};

/// The answers to OPEN and CREATE. 0, or a negative errno when the kernel gave the request up.
int reply_open(fuse_req_t request, std::uint64_t handle, Access access) noexcept;
int reply_create(fuse_req_t request,
                 const fuse_entry_param& entry,
                 std::uint64_t handle,
                 Access access) noexcept;

}  // namespace safepair::replica::fuse_door
