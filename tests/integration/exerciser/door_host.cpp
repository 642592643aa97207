// safepair-door-host STORE MOUNT COMMAND...: serves the folder STORE through the FUSE door at
// MOUNT, alone, while COMMAND runs; exits with its status. The door and the store under load,
// without a network.

#include <safepair/replica/door.hpp>

#include <cerrno>
#include <condition_variable>
#include <cstdio>
#include <deque>
#include <filesystem>
#include <mutex>
#include <thread>

#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

using namespace safepair;

namespace {

/// Applies at once and answers from another thread, as a peer's acknowledgement would.
class LoneFront final : public replica::Front {
  public:
    explicit LoneFront(std::unique_ptr<replica::Store> store)
        : store_(std::move(store)), answering_([this] { answer(); }) {}

    ~LoneFront() override {
        {
            const std::lock_guard lock(mutex_);
            stopped_ = true;
        }
        filled_.notify_all();
        answering_.join();
    }

    void submit(const replica::Operation& operation, replica::Completion done) override {
        const auto applied = store_->apply(operation);
        {
            const std::lock_guard lock(mutex_);
            answers_.push_back({done, applied ? 0 : applied.error().code.value()});
        }
        filled_.notify_one();
    }

    void fence(const replica::Footprint& /*looked_at*/, replica::Completion done) override {
        done(0);
    }

    replica::Store& store() noexcept override { return *store_; }

    base::Result<replica::Space> space() override { return store_->space(); }

    void closed(replica::FileId /*file*/) noexcept override {}

  private:
    struct Answer {
        replica::Completion done;
        int error;
    };

    void answer() {
        std::unique_lock lock(mutex_);
        for (;;) {
            filled_.wait(lock, [this] { return stopped_ || !answers_.empty(); });
            if (answers_.empty()) {
                return;
            }
            const auto next = answers_.front();
            answers_.pop_front();
            lock.unlock();
            next.done(next.error);
            lock.lock();
        }
    }

    const std::unique_ptr<replica::Store> store_;
    std::mutex mutex_;
    std::condition_variable filled_;
    std::deque<Answer> answers_;  // guarded by mutex_
    bool stopped_ = false;        // guarded by mutex_
    std::thread answering_;
};

int run_command(char** command) {
    const pid_t child = fork();
    if (child == 0) {
        execvp(command[0], command);
        _exit(127);
    }
    int status = 0;
    while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : 126;
}

int complain(const base::Error& error) {
    std::printf("FAILED: %s\n", error.message().c_str());
    return 1;
}

}  // namespace

int main(int count, char** values) {
    if (count < 4) {
        std::fprintf(stderr, "usage: safepair-door-host STORE MOUNT COMMAND...\n");
        return 2;
    }
    std::error_code failed;
    const std::filesystem::path place(values[1]);
    std::filesystem::remove_all(place, failed);
    std::filesystem::create_directories(place, failed);
    std::filesystem::create_directories(values[2], failed);
    if (geteuid() != 0 || access("/dev/fuse", R_OK | W_OK) != 0 ||
        lsetxattr(values[1], "trusted.safepair.probe", "1", 1, 0) != 0) {
        std::printf(
            "SKIPPED: a FUSE mount over a store needs root, /dev/fuse and trusted xattrs\n");
        return 0;
    }
    auto store = replica::open_posix_store(place);
    if (!store) {
        return complain(store.error());
    }
    LoneFront front(std::move(*store));
    replica::FuseOptions options;
    options.mount_point = values[2];
    options.name = "safepair:door-host";
    auto door = replica::mount_fuse_door(options, front);
    if (!door) {
        return complain(door.error());
    }
    const int result = run_command(values + 3);
    if (const auto closed = (*door)->close(false); !closed) {
        return complain(closed.error());
    }
    return result;
}
