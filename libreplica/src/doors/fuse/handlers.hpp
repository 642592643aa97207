#pragma once

#include "doors/fuse/session.hpp"

#include <safepair/replica/store.hpp>

#include <cstdint>
#include <optional>
#include <utility>

/// The operations of the kernel, grouped by what they touch. A handler runs on a worker, looks at
/// the store, and leaves its answer to the completion of a fence or an operation; it never waits
/// for the other node.
namespace safepair::replica::fuse_door {

/// The table for fuse_session_new().
[[nodiscard]] const fuse_lowlevel_ops& handlers();

// Each adds its handlers to the table.
void add_name_handlers(fuse_lowlevel_ops& operations);
void add_attribute_handlers(fuse_lowlevel_ops& operations);
void add_data_handlers(fuse_lowlevel_ops& operations);
void add_directory_handlers(fuse_lowlevel_ops& operations);
void add_xattr_handlers(fuse_lowlevel_ops& operations);

/// What libfuse calls: a handler that throws loses only its request, which is answered EIO.
template <auto Handler>
struct Guarded;

template <typename... Arguments, void (*Handler)(Session&, Reply, Arguments...)>
struct Guarded<Handler> {
    static void call(fuse_req_t request, Arguments... arguments) noexcept {
        Reply reply(request);
        auto& session = *static_cast<Session*>(fuse_req_userdata(request));
        try {
            Handler(session, std::move(reply), arguments...);
        } catch (...) {
            reply.error(ENOMEM);
        }
    }
};

template <auto Handler>
inline constexpr auto guarded = &Guarded<Handler>::call;

// Shared by the groups.

[[nodiscard]] struct stat to_stat(FileId file, const Attributes& attributes) noexcept;

/// `inode` with one lookup counted for the kernel.
[[nodiscard]] fuse_entry_param to_entry(const Session& session,
                                        const Inode& inode,
                                        const Attributes& attributes) noexcept;

/// Answers with the entry of `file`, and takes the lookup back when the kernel gave the request up.
void reply_entry(Session& session,
                 Reply reply,
                 FileId file,
                 const Attributes& attributes,
                 double attribute_timeout);

/// Answers 0 or the error.
void reply_done(Reply reply, int error);

/// The mode of `inode` without set-uid and set-gid, when writing or truncating has to take such
/// bits away.
[[nodiscard]] std::optional<std::uint32_t> mode_to_kill(Session& session, Inode& inode);
[[nodiscard]] std::uint32_t without_privileges(std::uint32_t mode) noexcept;

/// The set_attributes that does it.
[[nodiscard]] Operation kill_operation(FileId file, std::uint32_t mode);

}  // namespace safepair::replica::fuse_door
