#include "follower.hpp"

#include "folder_files.hpp"

#include <array>
#include <utility>

#include <poll.h>
#include <sys/inotify.h>
#include <unistd.h>

namespace safepair::hyperv {

namespace {

/// For what neither an event nor the file tells.
constexpr base::Duration look_period = std::chrono::seconds(5);

/// Libvirt replaces its file by renaming another one over it.
base::UniqueFd watch_directory_of(const std::filesystem::path& source) {
    if (source.empty()) {
        return {};
    }
    base::UniqueFd fd(::inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
    if (fd && ::inotify_add_watch(
                  fd.get(), source.parent_path().c_str(), IN_MOVED_TO | IN_CLOSE_WRITE) < 0) {
        fd.reset();
    }
    return fd;
}

void clear(const base::UniqueFd& inotify) {
    std::array<char, 4096> events{};
    while (inotify && ::read(inotify.get(), events.data(), events.size()) > 0) {
    }
}

}  // namespace

Follower::Follower(FollowerOptions options)
    : options_(std::move(options)),
      inotify_(watch_directory_of(options_.source)),
      content_(options_.content),
      thread_([this] { run(); }) {}

Follower::~Follower() {
    disown();
    join();
}

void Follower::disown() noexcept {
    ours_.store(false);
    ending_.store(true);
    wake_.raise();
}

base::Result<void> Follower::finish() {
    ending_.store(true);
    wake_.raise();
    join();
    const auto looked = look();
    ours_.store(false);
    return looked;
}

void Follower::join() {
    if (thread_.joinable()) {
        thread_.join();
    }
}

base::Result<void> Follower::look() {
    if (!ours_.load()) {
        return {};
    }
    SAFEPAIR_TRY(auto now, options_.fetch());
    if (now == content_) {
        return {};
    }
    if (!ours_.load()) {
        return {};
    }
    SAFEPAIR_CHECK(write_atomically(options_.target, now));
    content_ = std::move(now);
    return {};
}

void Follower::run() {
    while (!ending_.load()) {
        // What fails is tried again at the next look, and finish() reports it.
        static_cast<void>(look());
        std::array<pollfd, 2> entries{pollfd{wake_.fd(), POLLIN, 0},
                                      pollfd{inotify_.get(), POLLIN, 0}};
        ::poll(entries.data(), entries.size(), poll_milliseconds(look_period));
        wake_.clear();
        clear(inotify_);
    }
    ended_.store(true);
}

}  // namespace safepair::hyperv
