#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include <safepair/base/result.hpp>
#include <safepair/replica/dirty_map.hpp>
#include <safepair/replica/operation.hpp>

/// The seam between a resync, which knows what differs, and the session beneath it, which knows how things travel.
namespace safepair::replica {

/// One thing that a resync does to the follower's copy only. Applied in the module's one sequence (R12); an error there
/// ends the session (R13). A block addresses a FileId, never changes a size, and is dropped when the id is gone.
struct ResyncRecord {
    enum class Kind : std::uint8_t {
        operation,    ///< `operation`, as Store::apply
        block,        ///< `operation` is a write, or an allocate that punches a hole: dropped when the file is gone, cut at its size
        stage,        ///< Store::stage(operation.parent, operation.name)
        unstage,      ///< Store::unstage(operation.file, operation.parent, operation.name)
        clear_stage,  ///< Store::clear_stage()
    };
    Kind kind = Kind::block;
    Operation operation;
};

/// What a resync needs of the session. Blocking calls; a worker thread only.
class ResyncLink {
  public:
    /// Keeps application operations out until it is destroyed.
    class Lock {
      public:
        virtual ~Lock() = default;
    };
    using Answer = std::function<void(base::Result<std::vector<std::byte>>)>;

    virtual ~ResyncLink() = default;

    /// The lock that an application write to this range takes; waits for those in flight. Held from before the read until
    /// the record is sent (R12).
    [[nodiscard]] virtual std::unique_ptr<Lock> lock_range(FileId file, std::uint64_t offset, std::uint64_t length) = 0;
    /// Keeps every namespace, size and attribute operation of the folder out, and every write.
    [[nodiscard]] virtual std::unique_ptr<Lock> lock_everything() = 0;
    /// Enqueues for the follower; waits while too much is in flight. Data is borrowed until it returns.
    /// Errors: Errc::peer_unreachable when the session is gone.
    [[nodiscard]] virtual base::Result<void> send(const ResyncRecord& record) = 0;
    /// A question that the follower's ResyncTarget answers after everything sent before it was applied. `answer` comes once,
    /// from the session's thread; it must not block. At most limits::record_bytes_max each way.
    virtual void ask(std::span<const std::byte> question, Answer answer) = 0;
    /// From here on every application operation is shipped as well as applied (during the names phase nothing was). Called
    /// under lock_everything(). Returns the leader's map at this moment: what the application wrote since the resync was
    /// given its snapshot was not shipped, and is in it.
    [[nodiscard]] virtual DirtyMap attach_application() = 0;
    /// Everything sent so far is applied and durable on the follower, and everything written here is durable here.
    [[nodiscard]] virtual base::Result<void> flush_both() = 0;
    /// The session was dropped: stop as soon as possible.
    [[nodiscard]] virtual bool cancelled() const = 0;
};

/// The follower's half: answers questions about its copy. Called on the thread that applies records, in sequence.
class ResyncResponder {
  public:
    virtual ~ResyncResponder() = default;
    /// Errors end the session.
    [[nodiscard]] virtual base::Result<std::vector<std::byte>> answer(std::span<const std::byte> question) = 0;
};

}  // namespace safepair::replica
