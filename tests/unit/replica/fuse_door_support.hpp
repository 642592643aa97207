#pragma once

#include "support/catch.hpp"
#include "support/scratch_directory.hpp"

#include <safepair/replica/door.hpp>
#include <safepair/replica/store.hpp>

#include <algorithm>
#include <cerrno>
#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

namespace safepair::tests {

/// A Front over one real store that answers from a thread of its own, and can hold or fail answers.
/// An operation is applied when it is submitted and stays in flight until it is answered; fences
/// wait for what overlaps them.
class FakeFront final : public replica::Front {
  public:
    struct Seen {
        replica::Operation operation;
        std::vector<std::byte> data;
    };

    explicit FakeFront(std::unique_ptr<replica::Store> store)
        : store_(std::move(store)), answering_([this] { answer(); }) {}

    ~FakeFront() override {
        release();
        {
            const std::lock_guard lock(mutex_);
            stopped_ = true;
        }
        changed_.notify_all();
        answering_.join();
    }

    void submit(const replica::Operation& operation, replica::Completion done) override {
        std::unique_lock lock(mutex_);
        if (delayed_ == operation.kind) {
            arrived_ = true;
            changed_.notify_all();
            changed_.wait(lock, [this, &operation] { return delayed_ != operation.kind; });
        }
        int error = read_only_ ? EROFS : 0;
        if (const auto found = failures_.find(operation.kind); found != failures_.end()) {
            error = found->second;
        }
        Seen seen{operation, {operation.data.begin(), operation.data.end()}};
        seen.operation.data = {};
        seen_.push_back(std::move(seen));
        if (error == 0) {
            if (const auto applied = store_->apply(operation); !applied) {
                error = applied.error().code.value();
            }
        }
        auto flying = operation;
        flying.data = {};
        flying.length = std::max<std::uint64_t>(operation.length, operation.data.size());
        in_flight_.push_back({std::move(flying), done, error});
        lock.unlock();
        changed_.notify_all();
    }

    void fence(const replica::Footprint& looked_at, replica::Completion done) override {
        {
            const std::lock_guard lock(mutex_);
            if (overlaps(looked_at)) {
                fences_.push_back({looked_at, done});
                changed_.notify_all();
                return;
            }
        }
        done(0);
    }

    replica::Store& store() noexcept override { return *store_; }

    base::Result<replica::Space> space() override { return store_->space(); }

    void closed(replica::FileId file) noexcept override {
        {
            const std::lock_guard lock(mutex_);
            closed_.push_back(file);
        }
        changed_.notify_all();
    }

    // For the tests.

    /// Answers to operations of this kind are held until release().
    void hold(replica::OperationKind kind) {
        const std::lock_guard lock(mutex_);
        held_.push_back(kind);
    }

    /// Operations of this kind stop before they are applied, until release().
    void delay(replica::OperationKind kind) {
        const std::lock_guard lock(mutex_);
        delayed_ = kind;
        arrived_ = false;
    }

    void wait_for_delayed() {
        wait([this] { return arrived_; });
    }

    void release() {
        {
            const std::lock_guard lock(mutex_);
            held_.clear();
            delayed_.reset();
        }
        changed_.notify_all();
    }

    void fail(replica::OperationKind kind, int error) {
        const std::lock_guard lock(mutex_);
        failures_[kind] = error;
    }

    void make_read_only() {
        const std::lock_guard lock(mutex_);
        read_only_ = true;
    }

    void wait_for_in_flight(std::size_t count) {
        wait([this, count] { return in_flight_.size() >= count; });
    }

    void wait_for_fences(std::size_t count) {
        wait([this, count] { return fences_.size() >= count; });
    }

    void wait_for_closed(replica::FileId file) {
        wait([this, file] { return std::count(closed_.begin(), closed_.end(), file) > 0; });
    }

    [[nodiscard]] std::vector<Seen> seen(replica::OperationKind kind) const {
        const std::lock_guard lock(mutex_);
        std::vector<Seen> found;
        for (const auto& one : seen_) {
            if (one.operation.kind == kind) {
                found.push_back(one);
            }
        }
        return found;
    }

  private:
    struct Flying {
        replica::Operation operation;
        replica::Completion done;
        int error;
    };

    struct Fence {
        replica::Footprint looked_at;
        replica::Completion done;
    };

    void wait(const std::function<bool()>& reached) {
        std::unique_lock lock(mutex_);
        changed_.wait(lock, reached);
    }

    static bool overlaps(const Flying& flying, const replica::Footprint& footprint) {
        const auto& operation = flying.operation;
        using Kind = replica::Footprint::Kind;
        if (footprint.kind == Kind::names) {
            using replica::OperationKind;
            const auto kind = operation.kind;
            const bool moves =
                kind == OperationKind::rename && operation.new_parent == footprint.file;
            const bool names = kind == OperationKind::create || kind == OperationKind::link ||
                               kind == OperationKind::rename || kind == OperationKind::unlink ||
                               kind == OperationKind::rmdir;
            return moves || (names && operation.parent == footprint.file);
        }
        if (operation.file != footprint.file || operation.kind == replica::OperationKind::flush) {
            return false;
        }
        if (footprint.kind == Kind::data && operation.kind == replica::OperationKind::write) {
            return operation.offset < footprint.offset + footprint.length &&
                   footprint.offset < operation.offset + operation.length;
        }
        return true;
    }

    bool overlaps(const replica::Footprint& footprint) const {
        return std::any_of(in_flight_.begin(), in_flight_.end(), [&](const Flying& flying) {
            return overlaps(flying, footprint);
        });
    }

    bool is_held(const Flying& flying) const {
        return std::count(held_.begin(), held_.end(), flying.operation.kind) > 0;
    }

    void answer() {
        std::unique_lock lock(mutex_);
        for (;;) {
            const auto ready =
                std::find_if(in_flight_.begin(), in_flight_.end(), [this](const Flying& flying) {
                    return !is_held(flying);
                });
            if (ready != in_flight_.end()) {
                const auto flying = *ready;
                in_flight_.erase(ready);
                lock.unlock();
                flying.done(flying.error);
                lock.lock();
                changed_.notify_all();
                continue;
            }
            const auto open =
                std::find_if(fences_.begin(), fences_.end(), [this](const Fence& fence) {
                    return !overlaps(fence.looked_at);
                });
            if (open != fences_.end()) {
                const auto done = open->done;
                fences_.erase(open);
                lock.unlock();
                done(0);
                lock.lock();
                continue;
            }
            if (stopped_) {
                return;
            }
            changed_.wait(lock);
        }
    }

    const std::unique_ptr<replica::Store> store_;
    mutable std::mutex mutex_;
    std::condition_variable changed_;
    std::deque<Flying> in_flight_;
    std::deque<Fence> fences_;
    std::vector<replica::OperationKind> held_;
    std::map<replica::OperationKind, int> failures_;
    std::vector<Seen> seen_;
    std::vector<replica::FileId> closed_;
    std::optional<replica::OperationKind> delayed_;
    bool arrived_ = false;
    bool read_only_ = false;
    bool stopped_ = false;
    std::thread answering_;
};

/// A mounted door over a store in a scratch directory.
class MountedFolder {
  public:
    explicit MountedFolder(bool read_only = false, std::vector<std::string> direct = {}) {
        chmod(scratch_.path().c_str(), 0755);
        mkdir(store_path().c_str(), 0755);
        mkdir(mount_point().c_str(), 0755);
        auto store = replica::open_posix_store(store_path());
        if (!store) {
            FAIL(store.error().message());
        }
        front_ = std::make_unique<FakeFront>(std::move(*store));
        if (read_only) {
            front_->make_read_only();
        }
        options_.mount_point = mount_point();
        options_.name = "safepair:test";
        options_.read_only = read_only;
        options_.direct = std::move(direct);
        mount();
    }

    ~MountedFolder() {
        door_.reset();
        front_.reset();
    }

    MountedFolder(const MountedFolder&) = delete;
    MountedFolder& operator=(const MountedFolder&) = delete;

    void mount() {
        auto mounted = replica::mount_fuse_door(options_, *front_);
        if (!mounted) {
            FAIL(mounted.error().message());
        }
        door_ = std::move(*mounted);
    }

    [[nodiscard]] FakeFront& front() { return *front_; }

    [[nodiscard]] replica::Door& door() { return *door_; }

    [[nodiscard]] std::filesystem::path store_path() const { return scratch_ / "store"; }

    [[nodiscard]] std::filesystem::path mount_point() const { return scratch_ / "mount"; }

    [[nodiscard]] std::string operator/(const std::string& name) const {
        return (mount_point() / name).string();
    }

    [[nodiscard]] replica::FileId id(const std::string& name) {
        const auto found = front_->store().lookup(replica::root_file, name);
        return found ? *found : replica::FileId{};
    }

  private:
    ScratchDirectory scratch_{"safepair-door"};
    replica::FuseOptions options_;
    std::unique_ptr<FakeFront> front_;
    std::unique_ptr<replica::Door> door_;
};

/// Prints why these tests cannot run here.
inline bool can_mount() {
    const ScratchDirectory probe("safepair-door");
    if (geteuid() != 0 || access("/dev/fuse", R_OK | W_OK) != 0) {
        WARN("SKIPPED: a FUSE mount needs root and /dev/fuse");
        return false;
    }
    if (lsetxattr(probe.path().c_str(), "trusted.safepair.probe", "1", 1, 0) != 0) {
        WARN("SKIPPED: no trusted xattrs in " << probe.path());
        return false;
    }
    return true;
}

#define NEEDS_FUSE()                     \
    if (!safepair::tests::can_mount()) { \
        return;                          \
    }

/// 0 or the errno of a system call that returns -1 on failure.
template <typename T>
int error_of(T result) {
    return result == -1 ? errno : 0;
}

class OpenFile {
  public:
    OpenFile(const std::string& path, int flags, mode_t mode = 0644)
        : fd_(::open(path.c_str(), flags | O_CLOEXEC, mode)), error_(fd_ < 0 ? errno : 0) {}

    ~OpenFile() { close(); }

    OpenFile(const OpenFile&) = delete;
    OpenFile& operator=(const OpenFile&) = delete;

    void close() {
        if (fd_ >= 0) {
            ::close(fd_);
            fd_ = -1;
        }
    }

    [[nodiscard]] int get() const { return fd_; }

    [[nodiscard]] int error() const { return error_; }

    int write(std::uint64_t offset, const std::string& text) {
        const auto put = pwrite(fd_, text.data(), text.size(), static_cast<off_t>(offset));
        return put == -1 ? errno : (put == static_cast<ssize_t>(text.size()) ? 0 : -1);
    }

    std::string read(std::uint64_t offset, std::size_t count) {
        std::string text(count, '\0');
        const auto got = pread(fd_, text.data(), count, static_cast<off_t>(offset));
        if (got < 0) {
            return "errno " + std::to_string(errno);
        }
        text.resize(static_cast<std::size_t>(got));
        return text;
    }

  private:
    int fd_;
    int error_;
};

inline std::string read_file(const std::string& path) {
    OpenFile file(path, O_RDONLY);
    return file.error() != 0 ? "errno " + std::to_string(file.error()) : file.read(0, 1 << 20);
}

inline int write_file(const std::string& path, const std::string& text) {
    OpenFile file(path, O_WRONLY | O_CREAT | O_TRUNC);
    return file.error() != 0 ? file.error() : file.write(0, text);
}

inline struct stat stat_of(const std::string& path) {
    struct stat status {};

    REQUIRE(lstat(path.c_str(), &status) == 0);
    return status;
}

/// Runs `work` in a child process as another user; its result, which must be below 128. `work` may
/// use system calls only.
template <typename Work>
int as_user(uid_t user, gid_t group, Work work) {
    const pid_t child = fork();
    if (child == 0) {
        if (setresgid(group, group, group) != 0 || setresuid(user, user, user) != 0) {
            _exit(127);
        }
        _exit(work());
    }
    int status = 0;
    while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : 126;
}

}  // namespace safepair::tests
