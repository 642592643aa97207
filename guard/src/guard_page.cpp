#include "firing.hpp"
#include "page_layout.hpp"
#include "process_identity.hpp"

#include <safepair/base/system_time.hpp>
#include <safepair/base/unique_fd.hpp>
#include <safepair/guard/guard_page.hpp>

#include <cerrno>
#include <mutex>
#include <set>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

namespace safepair::guard {

namespace {

base::Result<void> make_file(const std::filesystem::path& path) {
    auto fresh = path;
    fresh += ".new." + std::to_string(::getpid());
    const base::UniqueFd fd(::open(fresh.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
    if (!fd) {
        return base::error_from_errno(errno, "create guard page " + fresh.string());
    }
    const auto close_with = [&fresh](int errno_value, const char* what) {
        ::unlink(fresh.c_str());
        return base::error_from_errno(errno_value, what + fresh.string());
    };
    // Allocated, not only extended: a full file system must fail here and not at a later store.
    if (const int failure = ::posix_fallocate(fd.get(), 0, sizeof(Page)); failure != 0) {
        return close_with(failure, "allocate guard page ");
    }
    void* memory = ::mmap(nullptr, sizeof(Page), PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0);
    if (memory == MAP_FAILED) {
        return close_with(errno, "map guard page ");
    }
    auto* page = static_cast<Page*>(memory);
    page->version = page_version;
    page->bytes = sizeof(Page);
    page->magic = page_magic;
    ::munmap(memory, sizeof(Page));
    // Somebody may have been faster; then his file counts.
    if (::link(fresh.c_str(), path.c_str()) != 0 && errno != EEXIST) {
        return close_with(errno, "put in place guard page ");
    }
    ::unlink(fresh.c_str());
    return {};
}

}  // namespace

base::Result<MappedPage> MappedPage::open(const std::filesystem::path& path) {
    const base::UniqueFd fd(::open(path.c_str(), O_RDWR | O_CLOEXEC));

    struct stat state {};

    if (!fd || ::fstat(fd.get(), &state) != 0) {
        return base::error_from_errno(errno, "open guard page " + path.string());
    }
    const auto wrong = [&path](const char* what) {
        return base::error(base::Errc::corrupt, "guard page " + path.string() + ": " + what);
    };
    if (!S_ISREG(state.st_mode) || state.st_size != sizeof(Page)) {
        return wrong("not a guard page of this version (wrong size)");
    }
    void* memory = ::mmap(nullptr, sizeof(Page), PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0);
    if (memory == MAP_FAILED) {
        return base::error_from_errno(errno, "map guard page " + path.string());
    }
    MappedPage page(static_cast<Page*>(memory));
    if (page->magic != page_magic) {
        return wrong("not a guard page");
    }
    if (page->version != page_version || page->bytes != sizeof(Page)) {
        return wrong("of another version; end the old safe-guard and remove the file");
    }
    return page;
}

base::Result<MappedPage> MappedPage::create(const std::filesystem::path& path) {
    struct stat state {};

    if (::lstat(path.c_str(), &state) != 0 && errno == ENOENT) {
        SAFEPAIR_CHECK(make_file(path));
    }
    return open(path);
}

MappedPage::~MappedPage() {
    if (page_ != nullptr) {
        ::munmap(page_, sizeof(Page));
    }
}

struct GuardPage::Mapping {
    explicit Mapping(MappedPage mapped) : page(std::move(mapped)) {}

    /// The entry of `module` that is armed, with its order; nullptr when there is none.
    Entry* find(const std::string& module, Order& order) {
        for (auto& entry : page->entries) {
            // This process is the only writer, so reading cannot be disturbed.
            if (entry.order.load(order) && order.armed != 0 && view(order.module) == module) {
                return &entry;
            }
        }
        return nullptr;
    }

    /// An entry for a new module: a free one, else one that has done its work.
    Entry* find_room(Order& order) {
        Entry* fired = nullptr;
        Order candidate;
        for (auto& entry : page->entries) {
            if (!entry.order.load(candidate)) {
                continue;
            }
            if (candidate.armed == 0) {
                order = candidate;
                return &entry;
            }
            if (was_fired(entry, candidate)) {
                fired = &entry;
                order = candidate;
            }
        }
        return fired;
    }

    static bool was_fired(const Entry& entry, const Order& order) {
        return order.armed != 0 &&
               entry.fired_generation.load(std::memory_order_acquire) >= order.first_generation;
    }

    std::mutex mutex;
    const MappedPage page;  // the agent's half is written under mutex
    std::set<std::string>
        armed_here;  // guarded by mutex; modules armed by this process and not disarmed
};

namespace {

/// Whether the newest order was carried out.
bool fired_at_last(const Entry& entry, const Order& order) {
    return entry.fired_generation.load(std::memory_order_acquire) == order.generation;
}

bool has_passed(const Entry& entry) {
    return base::boot_time_now().time_since_epoch().count() >= entry.deadline.load();
}

/// False when a text is too long.
bool fill(Order& order, const std::string& module, const Target& target) {
    bool fits = assign(order.module, module) && assign(order.cgroup, target.cgroup) &&
                target.addresses.size() <= address_count_max;
    for (std::size_t i = 0; fits && i < target.addresses.size(); ++i) {
        fits = assign(order.addresses[i], target.addresses[i]);
    }
    order.address_count = static_cast<std::uint32_t>(target.addresses.size());
    order.fuse_connection = target.fuse_connection;
    order.process = target.process;
    order.process_start = process_start_ticks(target.process);
    order.armed = 1;
    return fits && !module.empty();
}

}  // namespace

base::Result<std::unique_ptr<GuardPage>> GuardPage::create(const std::filesystem::path& path) {
    auto mapped = MappedPage::create(path);
    if (!mapped.has_value()) {
        return mapped.error();
    }
    auto mapping = std::make_unique<Mapping>(std::move(*mapped));
    return std::unique_ptr<GuardPage>(
        new GuardPage(std::move(mapping)));  // NOLINT: private constructor
}

GuardPage::GuardPage(std::unique_ptr<Mapping> mapping) : mapping_(std::move(mapping)) {}

GuardPage::~GuardPage() = default;

bool GuardPage::arm(const std::string& module, const Target& target, base::Instant deadline) {
    Order order;
    if (!fill(order, module, target)) {
        return false;
    }
    const std::lock_guard lock(mapping_->mutex);
    Order before;
    Entry* entry = mapping_->find(module, before);
    const bool known = entry != nullptr;
    if (!known) {
        entry = mapping_->find_room(before);
    }
    if (entry == nullptr) {
        return false;
    }
    if (Mapping::was_fired(*entry, before)) {
        thaw(before);
    }
    order.generation = mapping_->page->last_generation.fetch_add(1) + 1;
    // What happened to an earlier agent's module is not this one's firing.
    order.first_generation =
        known && mapping_->armed_here.contains(module) ? before.first_generation : order.generation;
    mapping_->armed_here.insert(module);
    // A deadline that passed is about to be acted upon and stays: another target does not undo it.
    // Otherwise the deadline comes before the order: never a new order with an old deadline.
    const bool passed = known && !fired_at_last(*entry, before) && has_passed(*entry);
    if (!passed) {
        entry->deadline.store(deadline.time_since_epoch().count(), std::memory_order_release);
    }
    entry->order.store(order);
    return !passed;
}

bool GuardPage::extend(const std::string& module, base::Instant deadline) {
    const std::lock_guard lock(mapping_->mutex);
    Order order;
    Entry* entry = mapping_->find(module, order);
    if (entry == nullptr || fired_at_last(*entry, order) || has_passed(*entry)) {
        return false;
    }
    const auto before = entry->deadline.exchange(deadline.time_since_epoch().count());
    // Not scheduled between the question and the answer: the old deadline passed meanwhile and
    // counts.
    if (base::boot_time_now().time_since_epoch().count() >= before) {
        entry->deadline.store(before);
        return false;
    }
    return true;
}

void GuardPage::disarm(const std::string& module) {
    const std::lock_guard lock(mapping_->mutex);
    Order order;
    Entry* entry = mapping_->find(module, order);
    if (entry == nullptr) {
        return;
    }
    if (Mapping::was_fired(*entry, order)) {
        thaw(order);
    }
    order.armed = 0;
    entry->order.store(order);
    mapping_->armed_here.erase(module);
}

bool GuardPage::fired(const std::string& module) const { return firing(module).has_value(); }

std::optional<Firing> GuardPage::firing(const std::string& module) const {
    const std::lock_guard lock(mapping_->mutex);
    Order order;
    const Entry* entry = mapping_->find(module, order);
    if (entry == nullptr || !Mapping::was_fired(*entry, order)) {
        return std::nullopt;
    }
    const auto done = entry->done.load(std::memory_order_relaxed);
    Firing firing;
    firing.at = base::Instant(base::Duration(entry->fired_at.load(std::memory_order_relaxed)));
    firing.paused = (done & Step::paused) != 0;
    firing.killed = (done & Step::killed) != 0;
    firing.fuse_aborted = (done & Step::fuse_aborted) != 0;
    firing.addresses_removed = (done & Step::addresses_removed) != 0;
    return firing;
}

}  // namespace safepair::guard
