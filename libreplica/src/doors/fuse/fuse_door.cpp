#include "doors/fuse/kernel_wire.hpp"
#include "doors/fuse/mount.hpp"
#include "doors/fuse/session.hpp"

#include <safepair/replica/door.hpp>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

namespace safepair::replica {

namespace fuse_door {

namespace {

/// How long a forced close lets the kernel write dirty pages of mappings before they are given up.
/// They were never acknowledged to anybody.
constexpr int last_writes_milliseconds = 2000;

/// Reads and handles messages until the kernel ends the session.
void serve(const std::shared_ptr<Session>& session) {
    auto* library = session->library();
    fuse_buf message{};
    while (fuse_session_exited(library) == 0) {
        const int got = fuse_session_receive_buf(library, &message);
        if (got == -EINTR || got == -EAGAIN) {
            continue;
        }
        if (got <= 0) {
            break;
        }
        if (session->enter()) {
            begin_message(message);
            fuse_session_process_buf(library, &message);
            session->leave();
        } else {
            refuse_message(session->device(), message, ENOTCONN);
        }
    }
    std::free(message.mem);
}

class FuseDoor final : public Door {
  public:
    FuseDoor(std::shared_ptr<Session> session, Mount mount, unsigned workers)
        : session_(std::move(session)), mount_(std::move(mount)) {
        for (unsigned i = 0; i < std::max(workers, 1U); ++i) {
            workers_.emplace_back([shared = session_] { serve(shared); });
        }
    }

    ~FuseDoor() override { [[maybe_unused]] const auto closed = close(true); }

    base::Result<void> close(bool force) override {
        const std::lock_guard lock(mutex_);
        if (closed_) {
            return {};
        }
        if (force) {
            end_by_force();
        } else {
            SAFEPAIR_CHECK(mount_.unmount());
            session_->refuse_all();
        }
        const bool ended = mount_.abort_connection();
        for (auto& worker : workers_) {
            // A copy of the mount in another namespace that cannot be ended: its worker refuses
            // everything, needs the session's memory only, and goes with that copy.
            if (ended) {
                worker.join();
            } else {
                worker.detach();
            }
        }
        session_->end();
        closed_ = true;
        return {};
    }

  private:
    void end_by_force() {
        // Something waits already, so the front holds answers, and the kernel's last writes would
        // only wait with it.
        const bool unmounted = session_->waiting() == 0 && unmount_soon();
        session_->refuse_all();
        if (!unmounted) {
            mount_.force_unmount();
        }
    }

    /// Unmounts on a thread of its own, because that waits for answers to the kernel's last writes;
    /// true when it is done in time. Otherwise refusing the writes ends the thread.
    bool unmount_soon() {
        const base::UniqueFd done(eventfd(0, EFD_CLOEXEC));
        if (!done) {
            return false;
        }
        bool unmounted = false;
        std::thread polite([this, &unmounted, event = base::UniqueFd(dup(done.get()))] {
            unmounted = mount_.try_unmount();
            if (!unmounted) {
                session_->write_back();
            }
            eventfd_write(event.get(), 1);
        });
        pollfd waited{done.get(), POLLIN, 0};
        if (::poll(&waited, 1, last_writes_milliseconds) != 1) {
            session_->refuse_all();
            mount_.force_unmount();
        }
        polite.join();
        return unmounted;
    }

    const std::shared_ptr<Session> session_;
    const Mount mount_;
    std::mutex mutex_;
    std::vector<std::thread> workers_;  // guarded by mutex_
    bool closed_ = false;               // guarded by mutex_
};

}  // namespace

}  // namespace fuse_door

base::Result<std::unique_ptr<Door>> mount_fuse_door(const FuseOptions& options, Front& front) {
    SAFEPAIR_TRY(auto device, fuse_door::open_device());
    const int number = device.get();
    auto session = std::make_shared<fuse_door::Session>(options, front);
    SAFEPAIR_CHECK(session->attach(std::move(device)));
    SAFEPAIR_TRY(auto mount, fuse_door::Mount::make(options, number));
    return std::unique_ptr<Door>(std::make_unique<fuse_door::FuseDoor>(
        std::move(session), std::move(mount), options.workers));
}

}  // namespace safepair::replica
