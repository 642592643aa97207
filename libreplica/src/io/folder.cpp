#include "io/folder.hpp"

#include "io/archive.hpp"

#include <cerrno>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <utility>

#include <sys/sysmacros.h>

namespace safepair::replica {

namespace {

/// Minor device number of what is mounted last at `path` (proc(5), mountinfo), 0 when nothing is.
unsigned minor_of_mount(const std::filesystem::path& path) {
    std::ifstream lines("/proc/self/mountinfo");
    unsigned found = 0;
    for (std::string line; std::getline(lines, line);) {
        std::istringstream words(line);
        std::string mount, parent, device, root, point;
        words >> mount >> parent >> device >> root >> point;
        std::string plain;
        for (std::size_t i = 0; i < point.size(); ++i) {
            if (point[i] == '\\' && i + 3 < point.size()) {
                plain +=
                    static_cast<char>(std::strtoul(point.substr(i + 1, 3).c_str(), nullptr, 8));
                i += 3;
            } else {
                plain += point[i];
            }
        }
        if (const auto colon = device.find(':');
            plain == path.native() && colon != std::string::npos) {
            found = static_cast<unsigned>(std::strtoul(device.c_str() + colon + 1, nullptr, 10));
        }
    }
    return found;
}

}  // namespace

Folder::Folder(FolderOptions options, FolderParts parts, FolderEvents& events)
    : options_(std::move(options)),
      parts_(std::move(parts)),
      place_(options_.folder),
      record_(options_.state_directory / "folder"),
      manifest_file_(options_.state_directory / "manifest"),
      map_file_(options_.state_directory / "dirty-map"),
      events_(events) {
    const auto recorded = record_.load();
    if (recorded && *recorded) {
        folder_id_ = **recorded;
        if (const auto map = map_file_.load(*folder_id_); map && *map) {
            saved_ = {true, !(*map)->empty()};
        }
    }
}

Folder::~Folder() { [[maybe_unused]] const auto closed = close(false); }

std::shared_ptr<Leader> Folder::leader() const {
    const std::lock_guard lock(mutex_);
    return leader_;
}

std::shared_ptr<Follower> Folder::follower() const {
    const std::lock_guard lock(mutex_);
    return follower_;
}

MapState Folder::map_state() const {
    const std::lock_guard lock(mutex_);
    if (leader_) {
        return {usable_, !leader_->dirty().empty()};
    }
    if (follower_) {
        return {usable_ || follower_->completed(), !follower_->dirty().empty()};
    }
    if (known_) {
        return {known_->usable, !known_->dirty.empty()};
    }
    return saved_;
}

base::Result<void> Folder::recover() {
    const std::lock_guard control(control_mutex_);
    return place_.remove_dead_mount();
}

// Roles

base::Result<void> Folder::open_leader(bool first_use) {
    const std::lock_guard control(control_mutex_);
    if (leader()) {
        return {};
    }
    if (follower()) {
        SAFEPAIR_CHECK(leave_follower(true));
    } else {
        SAFEPAIR_CHECK(prepare(first_use));
    }
    return start_leader();
}

base::Result<void> Folder::open_follower(bool first_use) {
    const std::lock_guard control(control_mutex_);
    if (follower()) {
        return {};
    }
    if (leader()) {
        SAFEPAIR_CHECK(leave_leader(false));
    } else {
        SAFEPAIR_CHECK(prepare(first_use));
    }
    return start_follower();
}

base::Result<void> Folder::start_leader() {
    SAFEPAIR_CHECK(forget_saved_map());
    LeaderOptions engine;
    engine.module = options_.module;
    engine.node = options_.node;
    engine.durability = options_.durability;
    engine.faults = options_.faults;
    engine.make_resync = parts_.make_resync;
    std::shared_ptr<Leader> fresh;
    {
        const std::lock_guard lock(mutex_);
        auto known = std::exchange(known_, std::nullopt).value_or(KnownMap{});
        usable_ = known.usable;
        fresh = std::make_shared<Leader>(engine, *store_, std::move(known.dirty), events_);
        leader_ = fresh;
    }
    if (auto mounted = mount(*fresh, false); !mounted) {
        [[maybe_unused]] const auto left = leave_leader(false);
        return mounted;
    }
    return {};
}

base::Result<void> Folder::start_follower() {
    SAFEPAIR_CHECK(forget_saved_map());
    std::shared_ptr<Follower> fresh;
    {
        const std::lock_guard lock(mutex_);
        auto known = std::exchange(known_, std::nullopt).value_or(KnownMap{});
        usable_ = known.usable;
        fresh = std::make_shared<Follower>(
            *store_, std::move(known.dirty), events_, parts_.make_responder);
        follower_ = fresh;
    }
    if (auto mounted = mount(*fresh, true); !mounted) {
        [[maybe_unused]] const auto left = leave_follower(false);
        return mounted;
    }
    return {};
}

base::Result<void> Folder::mount(Front& front, bool read_only) {
    FuseOptions fuse;
    fuse.mount_point = place_.folder();
    fuse.name = "safepair:" + options_.module;
    fuse.read_only = read_only;
    fuse.direct = options_.direct;
    SAFEPAIR_TRY(door_, parts_.mount(fuse, front));
    connection_.store(minor_of_mount(place_.folder()));
    return {};
}

base::Result<void> Folder::unmount(bool force) {
    if (!door_) {
        return {};
    }
    if (auto closed = door_->close(force); !closed) {
        const bool busy = closed.error().code == std::errc::device_or_resource_busy;
        return busy ? base::error(base::Errc::busy, "folder-busy: " + closed.error().message())
                    : closed.error();
    }
    door_.reset();
    connection_.store(0);
    return {};
}

/// Clean: nothing may be in use. Otherwise what is left is answered with EIO.
base::Result<void> Folder::leave_leader(bool clean) {
    const auto old = leader();
    if (!clean) {
        // Held answers would keep the processes, and those the mount.
        old->fail();
    }
    SAFEPAIR_CHECK(unmount(!clean));
    old->stop();
    const std::lock_guard lock(mutex_);
    known_ = KnownMap{old->uncertain(), usable_};
    leader_.reset();
    return {};
}

base::Result<void> Folder::leave_follower(bool finish) {
    const auto old = follower();
    if (finish) {
        SAFEPAIR_CHECK(old->finish());
    } else {
        old->stop();
    }
    SAFEPAIR_CHECK(unmount(true));
    const std::lock_guard lock(mutex_);
    known_ = KnownMap{old->uncertain(), usable_ || old->completed()};
    follower_.reset();
    return {};
}

base::Result<void> Folder::close(bool clean) {
    const std::lock_guard control(control_mutex_);
    if (leader()) {
        SAFEPAIR_CHECK(leave_leader(clean));
    } else if (const auto old = follower()) {
        SAFEPAIR_CHECK(leave_follower(clean));
        if (clean) {
            // Everything received is on this disk; what the leader has not flushed is in the
            // leader's map.
            const std::lock_guard lock(mutex_);
            known_->dirty = old->dirty();
        }
    }
    if (!store_) {
        return {};
    }
    if (clean) {
        SAFEPAIR_CHECK(give_back());
    }
    store_.reset();
    return {};
}

// Sessions

void Folder::accept_session(SessionId session, std::uint64_t term) {
    if (const auto engine = follower()) {
        engine->expect(session, term);
    }
}

bool Folder::accept(const ChannelHello& hello, base::UniqueFd connection) {
    const auto engine = follower();
    return engine && engine->accept(hello, std::move(connection));
}

void Folder::connect_session(SessionId session,
                             std::uint64_t term,
                             const DataEndpoint& peer,
                             SyncMode mode) {
    if (const auto engine = leader()) {
        engine->connect(session, term, peer, mode);
    } else {
        events_.session_lost(session, "this node does not serve the folder", false);
    }
}

void Folder::drop_session(SessionId session) {
    if (const auto engine = leader()) {
        engine->drop(session);
    } else if (const auto taker = follower()) {
        taker->drop(session);
    }
}

void Folder::release_held() {
    if (const auto engine = leader()) {
        engine->release_held();
    }
}

void Folder::freeze() {
    if (const auto engine = leader()) {
        engine->freeze();
    }
}

void Folder::thaw() {
    if (const auto engine = leader()) {
        engine->thaw();
    }
}

void Folder::fail_held() {
    if (const auto engine = leader()) {
        engine->fail();
    }
}

base::Result<std::uint64_t> Folder::quiesce(base::Duration deadline) {
    const auto engine = leader();
    if (!engine) {
        return base::error(base::Errc::not_primary, "quiesce");
    }
    return engine->quiesce(deadline);
}

bool Folder::verify_applied(SessionId session, std::uint64_t sequence) {
    const std::lock_guard control(control_mutex_);
    const auto engine = follower();
    return engine && engine->verify_applied(session, sequence);
}

base::Result<void> Folder::finish_resync(SessionId session) {
    const auto engine = leader();
    if (!engine) {
        return base::error(base::Errc::not_primary, "finish resync");
    }
    SAFEPAIR_CHECK(engine->finish_resync(session));
    const std::lock_guard lock(mutex_);
    usable_ = true;
    return {};
}

base::Result<void> Folder::archive_local(GenerationId name) {
    const std::lock_guard control(control_mutex_);
    const bool borrowed = !store_;
    if (borrowed) {
        SAFEPAIR_CHECK(prepare(true));
    }
    KnownMap known;
    {
        const std::lock_guard lock(mutex_);
        if (leader_) {
            known = {leader_->uncertain(), usable_};
        } else if (follower_) {
            known = {follower_->dirty(), usable_};
        } else {
            known = known_.value_or(KnownMap{});
        }
    }
    const auto target = place_.hidden() / ".safepair" / "archive" / base::to_string(name);
    std::error_code failed;
    std::filesystem::create_directories(target.parent_path(), failed);
    auto archived = archive_copy(*store_, known.usable ? &known.dirty : nullptr, target);
    if (borrowed) {
        give_back_unused();
    }
    if (!archived) {
        return archived.error();
    }
    events_.note("archived " + std::to_string(archived->files) + " objects (" +
                 std::to_string(archived->bytes) + " bytes) of this node's own changes as " +
                 base::to_string(name));
    return {};
}

FolderStats Folder::stats() const {
    FolderStats stats;
    const std::lock_guard lock(mutex_);
    if (leader_) {
        leader_->add_stats(stats);
    } else if (follower_) {
        follower_->add_stats(stats);
    } else if (known_) {
        stats.dirty_bytes = known_->dirty.bytes();
    }
    return stats;
}

}  // namespace safepair::replica
