// What each action of the role machine does to the world. Every effect that has a result posts it
// back as an event.
#include "module.hpp"
#include "workloads.hpp"

#include <safepair/base/system_time.hpp>

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <utility>

namespace safepair::agent {

namespace {

/// The longest a hand-over waits for what is in flight; the service is already stopped then.
constexpr base::Duration quiesce_deadline = std::chrono::seconds(60);
/// A guard needs some ten milliseconds to pause a service and longer to kill it; short timeouts get
/// a quarter of themselves.
constexpr base::Duration guard_margin_max = std::chrono::milliseconds(500);

replica::SyncMode to_replica(cluster::SyncMode mode) {
    switch (mode) {
        case cluster::SyncMode::none:
        case cluster::SyncMode::dirty_blocks:
            return replica::SyncMode::dirty_blocks;
        case cluster::SyncMode::checksum:
            return replica::SyncMode::checksum;
        case cluster::SyncMode::full:
            return replica::SyncMode::full;
    }
    return replica::SyncMode::checksum;
}

/// The machine-readable half of "folder-busy: /srv/vm1/disk.img is open in ...".
std::string reason_of(const base::Error& error) {
    const auto colon = error.context.find(':');
    const auto word = error.context.substr(0, colon);
    for (const char* known : {"folder-not-recognised", "folder-busy", "archive-full"}) {
        if (word == known) {
            return word;
        }
    }
    return "storage-error";
}

std::string words(cluster::Role role, cluster::Readiness readiness) {
    return fmt::format("{} {}", cluster::to_string(role), cluster::to_string(readiness));
}

}  // namespace

void Module::perform(const cluster::SaveLineage& action) {
    lineage_lane_.post([this, action] {
        if (auto saved = lineage_store_->save(action.lineage)) {
            post(cluster::LineageSaved{action.id});
        } else {
            log("error", "the lineage record cannot be written: " + saved.error().message());
            post(cluster::LineageSaveFailed{action.id, saved.error().message()});
        }
    });
}

void Module::perform(const cluster::PublishStatus&) { context_.publish(config_.name, status()); }

void Module::perform(const cluster::OpenStorage& action) {
    const auto before = session_lane_.last_ticket();
    const bool first_use = !machine_->view().lineage.initialised;
    storage_lane_.post([this, action, before, first_use] {
        session_lane_.wait_for(before);
        const auto opened = action.role == cluster::StorageRole::leader
                                ? folder_->open_leader(first_use)
                                : folder_->open_follower(first_use);
        if (opened) {
            post(cluster::StorageOpened{action.id});
        } else {
            post(cluster::StorageFailed{
                action.id, reason_of(opened.error()), opened.error().message()});
        }
    });
}

void Module::perform(const cluster::CloseStorage& action) {
    const auto before = session_lane_.last_ticket();
    storage_lane_.post([this, action, before] {
        session_lane_.wait_for(before);
        if (auto closed = folder_->close(action.clean)) {
            post(cluster::StorageClosed{action.id});
        } else {
            post(cluster::StorageFailed{
                action.id, reason_of(closed.error()), closed.error().message()});
        }
    });
}

void Module::perform(const cluster::AcceptSession& action) {
    session_lane_.post(
        [this, action] { folder_->accept_session(action.session, action.term.counter); });
}

void Module::perform(const cluster::ConnectSession& action) {
    // One network after the other: what cannot be reached on one may be reachable on the next.
    const auto& network = config_.networks[connect_attempts_++ % config_.networks.size()];
    replica::DataEndpoint endpoint;
    for (const auto& node : context_.cluster.nodes) {
        const auto found = node.addresses.find(network);
        if (found == node.addresses.end()) {
            continue;
        }
        if (node.name == action.follower.value) {
            endpoint.address = found->second;
        } else if (node.name == context_.node.value) {
            endpoint.local_address = found->second;
        }
    }
    endpoint.port = context_.cluster.ports.data;
    endpoint.key = context_.channel_key;
    session_lane_.post([this, action, endpoint] {
        folder_->connect_session(
            action.session, action.term.counter, endpoint, to_replica(action.mode));
    });
}

void Module::perform(const cluster::DropSession& action) {
    session_lane_.post([this, action] { folder_->drop_session(action.session); });
}

void Module::perform(const cluster::ReleaseHeld&) {
    session_lane_.post([this] { folder_->release_held(); });
}

void Module::perform(const cluster::FreezeStorage&) {
    session_lane_.post([this] { folder_->freeze(); });
}

void Module::perform(const cluster::ThawStorage&) {
    session_lane_.post([this] { folder_->thaw(); });
}

void Module::perform(const cluster::FailHeld&) {
    session_lane_.post([this] { folder_->fail_held(); });
}

void Module::perform(const cluster::Quiesce& action) {
    storage_lane_.post([this, action] {
        if (auto reached = folder_->quiesce(quiesce_deadline)) {
            post(cluster::Quiesced{action.id, *reached});
        } else {
            post(cluster::QuiesceFailed{action.id, reached.error().message()});
        }
    });
}

void Module::perform(const cluster::VerifyApplied& action) {
    storage_lane_.post([this, action] {
        const bool complete = folder_->verify_applied(action.session, action.sequence);
        post(cluster::AppliedVerified{action.id, complete});
    });
}

void Module::perform(const cluster::FinishResync& action) {
    storage_lane_.post([this, action] {
        if (auto cleared = folder_->finish_resync(action.session)) {
            post(cluster::MapCleared{action.id});
        } else {
            // The map stays: the next session copies a little more than it must, and nothing is
            // lost.
            log("warning", "the dirty map could not be cleared: " + cleared.error().message());
            post(cluster::SessionLost{action.session, cleared.error().message(), false});
        }
    });
}

void Module::perform(const cluster::ArchiveLocal& action) {
    storage_lane_.post([this, action] {
        if (auto archived = folder_->archive_local(action.name)) {
            post(cluster::ArchiveFinished{action.id});
        } else {
            post(cluster::ArchiveFailed{action.id, archived.error().message()});
        }
    });
}

void Module::log_workload(const char* what, const base::Result<std::string>& result) {
    if (result) {
        log("output", fmt::format("{} {}", config_.vm ? "VM" : "service", what), *result);
    } else {
        log("error",
            fmt::format(
                "{} {} failed: {}", config_.vm ? "VM" : "service", what, result.error().message()));
    }
}

base::Duration Module::guard_margin() const {
    return std::min<base::Duration>(guard_margin_max, config_.timeout / 4);
}

bool Module::arm_guard(std::uint64_t kills_before) {
    if (context_.guard == nullptr) {
        return true;
    }
    const auto target = workload_->guard_target();
    guard::Target armed;
    armed.cgroup = target.cgroup;
    armed.process = target.process;
    armed.fuse_connection = folder_->fuse_connection();
    for (const auto& address : config_.addresses) {
        armed.addresses.push_back(
            fmt::format("{}/{}@{}", address.address, address.prefix, address.interface));
    }
    const std::lock_guard lock(guard_mutex_);
    if (kills_ != kills_before) {
        // Killed meanwhile and disarmed; to arm it again would guard what does not run.
        return false;
    }
    if (!context_.guard->arm(
            config_.name, armed, base::boot_time_now() + config_.timeout - guard_margin())) {
        return false;
    }
    guard_armed_.store(true);
    return true;
}

void Module::disarm_guard() {
    const std::lock_guard lock(guard_mutex_);
    guard_armed_.store(false);
    if (context_.guard != nullptr) {
        context_.guard->disarm(config_.name);
    }
}

void Module::perform(const cluster::StartService& action) {
    std::uint64_t kills = 0;
    {
        const std::lock_guard lock(guard_mutex_);
        kills = kills_;
    }
    service_lane_.post([this, action, kills] {
        const auto fail = [this, &action](const std::string& why) {
            remove_addresses(config_.addresses);
            post(cluster::ServiceFailed{action.id, why});
        };
        if (context_.guard != nullptr && context_.guard->fired(config_.name)) {
            // The guard's work is done only when nothing of the old service is left.
            if (auto killed = workload_->kill(); !killed) {
                fail(killed.error().message());
                return;
            }
            disarm_guard();
        }
        if (auto added = add_addresses(config_.addresses); !added) {
            fail(added.error().message());
            return;
        }
        // Armed before it starts: a crash of ours in between must not leave it running unwatched.
        if (!arm_guard(kills)) {
            fail(
                "the start was given up: a kill came first, or safe-guard cannot watch the "
                "service");
            return;
        }
        const auto started = workload_->start();
        log_workload("start", started);
        if (!started) {
            fail(started.error().message());
            return;
        }
        // Again: the emulator's process is known only now.
        if (!arm_guard(kills)) {
            if (auto killed = workload_->kill(); !killed) {
                log("error", "the service could not be killed: " + killed.error().message());
            }
            fail("the service was killed or stopped by safe-guard while it started");
            return;
        }
        post(cluster::ServiceStarted{action.id});
    });
}

void Module::perform(const cluster::StopService& action) {
    service_lane_.post([this, action] {
        const auto stopped = workload_->stop();
        log_workload("stop", stopped);
        if (stopped) {
            remove_addresses(config_.addresses);
            disarm_guard();
            post(cluster::ServiceStopped{action.id});
        } else {
            post(cluster::ServiceFailed{action.id, stopped.error().message()});
        }
    });
}

void Module::perform(const cluster::KillService& action) {
    {
        // A start that is still queued or running must not arm the guard behind us.
        const std::lock_guard lock(guard_mutex_);
        ++kills_;
    }
    // On a lane of its own: it cuts short a start or stop that is still being waited for.
    urgent_lane_.post([this, action] {
        if (auto killed = workload_->kill()) {
            remove_addresses(config_.addresses);
            disarm_guard();
            post(cluster::ServiceStopped{action.id});
        } else {
            log("error", "the service could not be killed: " + killed.error().message());
            post(cluster::ServiceFailed{action.id, killed.error().message()});
        }
    });
}

void Module::perform(const cluster::PauseService&) {
    urgent_lane_.post([this] {
        if (auto paused = workload_->pause(); !paused) {
            log("warning", "the service could not be paused: " + paused.error().message());
        }
    });
}

void Module::perform(const cluster::ResumeService&) {
    urgent_lane_.post([this] {
        if (auto resumed = workload_->resume(); !resumed) {
            log("error", "the service could not be resumed: " + resumed.error().message());
        }
    });
}

void Module::perform(const cluster::Reply& action) {
    const auto found = replies_.find(action.command);
    if (found == replies_.end()) {
        return;
    }
    const auto handler = std::move(found->second);
    replies_.erase(found);
    handler(action.outcome, action.message);
}

void Module::perform(const cluster::Transition& action) {
    EventEntry entry;
    entry.time = base::wall_clock_now();
    entry.module = config_.name;
    entry.node = context_.node.value;
    entry.kind = "transition";
    entry.from = words(action.from, action.from_readiness);
    entry.to = words(action.to, action.to_readiness);
    entry.reason = cluster::to_string(action.reason);
    entry.actor = action.actor;
    entry.term_counter = action.term.counter;
    entry.term_node = action.term.node.value;
    entry.text = action.text;
    spdlog::info("{}: {} -> {} ({}, by {}, term {}) {}",
                 config_.name,
                 entry.from,
                 entry.to,
                 entry.reason,
                 entry.actor.empty() ? "heart" : entry.actor,
                 entry.term_counter,
                 entry.text);
    context_.events.append(std::move(entry));
}

}  // namespace safepair::agent
