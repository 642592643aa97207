#pragma once

#include "doors/fuse/handle_table.hpp"
#include "doors/fuse/inode_table.hpp"
#include "doors/fuse/notifier.hpp"
#include "doors/fuse/reply.hpp"

#include <safepair/base/result.hpp>
#include <safepair/base/unique_fd.hpp>
#include <safepair/replica/door.hpp>

#include <array>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <utility>

namespace safepair::replica::fuse_door {

class Session;

/// A request that waits for completions of the front. It deletes itself with the last one, which
/// may come long after the session ended; until then it keeps the session's memory alive.
class Waiting {
  public:
    Waiting(std::shared_ptr<Session> session, Reply reply, unsigned completions);
    virtual ~Waiting() = default;
    Waiting(const Waiting&) = delete;
    Waiting& operator=(const Waiting&) = delete;

    /// To be handed out exactly as often as announced.
    [[nodiscard]] Completion completion() noexcept { return {&Waiting::completed, this}; }

  protected:
    /// Everything completed and the session still serves. `error` is the first that was told.
    virtual void finish(Reply reply, int error) = 0;

  private:
    friend class Session;
    static void completed(void* context, int error) noexcept;

    std::shared_ptr<Session> session_;
    std::atomic<unsigned> outstanding_;
    std::atomic<int> error_ = 0;
    // Guarded by the session's mutex.
    Reply reply_;
    Waiting* previous_ = nullptr;
    Waiting* next_ = nullptr;
    bool listed_ = false;
};

/// `finish(Reply, int error)` as a Waiting.
template <typename Finish>
class WaitingFor final : public Waiting {
  public:
    WaitingFor(std::shared_ptr<Session> session, Reply reply, unsigned completions, Finish what)
        : Waiting(std::move(session), std::move(reply), completions), finish_(std::move(what)) {}

  private:
    void finish(Reply reply, int error) override { finish_(std::move(reply), error); }

    Finish finish_;
};

/// What the handlers of one mount share.
/// Threads: handlers run on the workers, completions anywhere, invalidations on the notifier. end()
/// leaves nothing running that uses the front; the object itself lives until the last late
/// completion.
class Session : public std::enable_shared_from_this<Session> {
  public:
    Session(const FuseOptions& options, Front& front);
    ~Session();
    Session(const Session&) = delete;
    Session& operator=(const Session&) = delete;

    /// Makes the libfuse session over an open /dev/fuse, whose descriptor it then owns.
    base::Result<void> attach(base::UniqueFd device);

    [[nodiscard]] fuse_session* library() const noexcept { return library_; }

    [[nodiscard]] int device() const noexcept { return device_; }

    [[nodiscard]] Front& front() noexcept { return front_; }

    [[nodiscard]] Store& store() noexcept { return front_.store(); }

    [[nodiscard]] InodeTable& inodes() noexcept { return inodes_; }

    [[nodiscard]] HandleTable& handles() noexcept { return handles_; }

    [[nodiscard]] Notifier& notifier() noexcept { return notifier_; }

    [[nodiscard]] bool read_only() const noexcept { return options_.read_only; }

    /// Direct I/O, always, for this file?
    [[nodiscard]] bool is_direct_by_name(FileId file);
    /// How long the kernel may believe a name, and attributes, without asking.
    [[nodiscard]] double entry_timeout() const noexcept;
    [[nodiscard]] double attribute_timeout() const noexcept;

    /// Ships `operation` and calls `finish(Reply, int error)` when it is done.
    template <typename Finish>
    void submit(Reply reply, const Operation& operation, Finish finish) {
        if (auto* waiting = wait(std::move(reply), 1, std::move(finish))) {
            front_.submit(operation, waiting->completion());
        }
    }

    /// The same for `first` and `second`, in this order, done together.
    template <typename Finish>
    void submit(Reply reply, const Operation& first, const Operation& second, Finish finish) {
        if (auto* waiting = wait(std::move(reply), 2, std::move(finish))) {
            front_.submit(first, waiting->completion());
            front_.submit(second, waiting->completion());
        }
    }

    /// Calls `finish(Reply)` when what was looked at may be told; tells an error itself.
    template <typename Finish>
    void fence(Reply reply, std::span<const Footprint> looked_at, Finish finish) {
        auto tell = [finish = std::move(finish)](Reply answer, int error) mutable {
            if (error != 0) {
                answer.error(error);
            } else {
                finish(std::move(answer));
            }
        };
        const auto count = static_cast<unsigned>(looked_at.size());
        if (auto* waiting = wait(std::move(reply), count, std::move(tell))) {
            for (const auto& footprint : looked_at) {
                front_.fence(footprint, waiting->completion());
            }
        }
    }

    template <typename Finish>
    void fence(Reply reply, const Footprint& looked_at, Finish finish) {
        fence(std::move(reply), std::span(&looked_at, 1), std::move(finish));
    }

    // What a worker does around each message.
    /// False when the session no longer serves; then the message is refused.
    [[nodiscard]] bool enter() noexcept;
    void leave() noexcept;

    /// Requests that wait for the front.
    [[nodiscard]] std::size_t waiting() const;
    /// Has the kernel write every dirty page and waits for it, so for our answers too.
    void write_back();
    /// Answers ENOTCONN to what waits and to whatever comes; returns when no handler and no
    /// completion is at work.
    void refuse_all();
    /// After refuse_all: stops the notifier and gives every open file back to the front.
    void end();

  private:
    friend class Waiting;

    template <typename Finish>
    Waiting* wait(Reply reply, unsigned completions, Finish finish) {
        auto waiting = std::make_unique<WaitingFor<Finish>>(
            shared_from_this(), std::move(reply), completions, std::move(finish));
        return add(*waiting) ? waiting.release() : nullptr;
    }

    /// False (and answered) when the session no longer serves.
    bool add(Waiting& waiting);
    /// The answer, when it is still to be given; then done_finishing() has to follow.
    bool claim(Waiting& waiting, Reply& reply) noexcept;
    void done_finishing() noexcept;
    void unlist(Waiting& waiting) noexcept;

    const FuseOptions options_;
    Front& front_;
    fuse_session* library_ = nullptr;
    int device_ = -1;
    InodeTable inodes_;
    HandleTable handles_;
    Notifier notifier_;

    std::atomic<bool> refusing_ = false;
    std::atomic<int> handling_ = 0;

    mutable std::mutex mutex_;
    std::condition_variable idle_;
    Waiting* first_ = nullptr;       // guarded by mutex_
    std::size_t waiting_count_ = 0;  // guarded by mutex_
    unsigned finishing_ = 0;         // guarded by mutex_
};

/// The errno of an error of Store or Front; EIO when it is none.
[[nodiscard]] int errno_of(const base::Error& error) noexcept;

}  // namespace safepair::replica::fuse_door
