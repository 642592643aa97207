#include "doors/fuse/session.hpp"

#include "doors/fuse/handlers.hpp"
#include "doors/fuse/kernel_wire.hpp"

#include <cerrno>
#include <new>

#include <fnmatch.h>

namespace safepair::replica::fuse_door {

namespace {

// On the leader every change of the tree comes through this mount, so the kernel is told of each by
// its own answer; the attributes are asked for again soon because their times are the store's.
constexpr double leader_entry_timeout = 60.0;
constexpr double leader_attribute_timeout = 1.0;

/// The kernel takes ENOSYS as "never ask again", and sees no error in what is not positive.
int told_errno(int error) noexcept { return error == ENOSYS || error <= 0 ? EIO : error; }

}  // namespace

// Waiting

Waiting::Waiting(std::shared_ptr<Session> session, Reply reply, unsigned completions)
    : session_(std::move(session)), outstanding_(completions), reply_(std::move(reply)) {}

void Waiting::completed(void* context, int error) noexcept {
    auto* self = static_cast<Waiting*>(context);
    if (error != 0) {
        int none = 0;
        self->error_.compare_exchange_strong(none, told_errno(error));
    }
    if (self->outstanding_.fetch_sub(1) != 1) {
        return;
    }
    const std::unique_ptr<Waiting> owner(self);
    Reply reply(nullptr);
    if (!self->session_->claim(*self, reply)) {
        return;
    }
    try {
        self->finish(std::move(reply), self->error_);
    } catch (const std::bad_alloc&) {
        // The reply went down with the stack and answered EIO.
    }
    self->session_->done_finishing();
}

// Session

Session::Session(const FuseOptions& options, Front& front) : options_(options), front_(front) {}

Session::~Session() {
    if (library_ != nullptr) {
        fuse_session_destroy(library_);
    }
}

base::Result<void> Session::attach(base::UniqueFd device) {
    std::string program = "safepair";
    std::array<char*, 2> arguments{program.data(), nullptr};
    fuse_args args{1, arguments.data(), 0};
    const auto& operations = handlers();
    library_ = fuse_session_new(&args, &operations, sizeof(operations), this);
    fuse_opt_free_args(&args);
    if (library_ == nullptr) {
        return base::error_from_errno(ENOMEM, "make a FUSE session for " + options_.name);
    }
    fuse_custom_io io{};
    io.writev = &write_answer;
    io.read = &read_message;
    device_ = device.get();
    if (fuse_session_custom_io(library_, &io, device_) != 0) {
        return base::error_from_errno(ENOMEM, "make a FUSE session for " + options_.name);
    }
    [[maybe_unused]] const int now_owned_by_library = device.release();
    notifier_.start(library_);
    return {};
}

bool Session::is_direct_by_name(FileId file) {
    if (options_.read_only) {
        return true;
    }
    if (options_.direct.empty()) {
        return false;
    }
    const auto path = store().path_of(file);
    for (const auto& glob : options_.direct) {
        if (fnmatch(glob.c_str(), path.c_str(), 0) == 0) {
            return true;
        }
    }
    return false;
}

double Session::entry_timeout() const noexcept {
    return options_.read_only ? 0.0 : leader_entry_timeout;
}

double Session::attribute_timeout() const noexcept {
    return options_.read_only ? 0.0 : leader_attribute_timeout;
}

bool Session::enter() noexcept {
    // Both sequentially consistent: either this sees the refusal, or refuse_all() sees this.
    handling_.fetch_add(1);
    if (!refusing_.load()) {
        return true;
    }
    leave();
    return false;
}

void Session::leave() noexcept {
    if (handling_.fetch_sub(1) == 1 && refusing_.load()) {
        const std::lock_guard lock(mutex_);
        idle_.notify_all();
    }
}

std::size_t Session::waiting() const {
    const std::lock_guard lock(mutex_);
    return waiting_count_;
}

bool Session::add(Waiting& waiting) {
    {
        const std::lock_guard lock(mutex_);
        if (!refusing_.load(std::memory_order_relaxed)) {
            waiting.next_ = first_;
            if (first_ != nullptr) {
                first_->previous_ = &waiting;
            }
            first_ = &waiting;
            waiting.listed_ = true;
            ++waiting_count_;
            return true;
        }
    }
    waiting.reply_.error(ENOTCONN);
    return false;
}

void Session::unlist(Waiting& waiting) noexcept {
    if (waiting.previous_ != nullptr) {
        waiting.previous_->next_ = waiting.next_;
    } else {
        first_ = waiting.next_;
    }
    if (waiting.next_ != nullptr) {
        waiting.next_->previous_ = waiting.previous_;
    }
    waiting.listed_ = false;
    --waiting_count_;
}

bool Session::claim(Waiting& waiting, Reply& reply) noexcept {
    const std::lock_guard lock(mutex_);
    if (!waiting.listed_) {
        return false;
    }
    unlist(waiting);
    reply = std::move(waiting.reply_);
    ++finishing_;
    return true;
}

void Session::done_finishing() noexcept {
    const std::lock_guard lock(mutex_);
    if (--finishing_ == 0 && refusing_.load(std::memory_order_relaxed)) {
        idle_.notify_all();
    }
}

void Session::write_back() {
    // syncfs(2) does not wait for a FUSE file system; dropping the pages does.
    for (const auto number : handles_.may_be_dirty()) {
        fuse_lowlevel_notify_inval_inode(library_, number, 0, 0);
    }
}

void Session::refuse_all() {
    std::unique_lock lock(mutex_);
    refusing_.store(true);
    while (first_ != nullptr) {
        auto& waiting = *first_;
        unlist(waiting);
        waiting.reply_.error(ENOTCONN);
    }
    idle_.wait(lock, [this] { return finishing_ == 0 && handling_.load() == 0; });
}

void Session::end() {
    fuse_session_exit(library_);
    notifier_.stop();
    handles_.close_all(front_);
}

int errno_of(const base::Error& error) noexcept {
    return error.code.category() == std::generic_category() ? told_errno(error.code.value()) : EIO;
}

}  // namespace safepair::replica::fuse_door
