// Actions with results: asked for once, answered once, late answers only noted.
#include "core/role_state.hpp"

#include <algorithm>

namespace safepair::cluster {

std::uint64_t RoleMachine::State::expect(Effect effect, Done done, Failed failed_continuation) {
    const auto id = next_id++;
    Pending waiting_for;
    waiting_for.effect = effect;
    waiting_for.epoch = epoch;
    waiting_for.done = std::move(done);
    waiting_for.failed = std::move(failed_continuation);
    pending.emplace(id, std::move(waiting_for));
    return id;
}

void RoleMachine::State::save(const std::function<void(Lineage&)>& change,
                              Done done,
                              Failed failed_continuation) {
    change(queued);
    if (!failed_continuation) {
        failed_continuation = [this](const std::string&, const std::string& why) {
            lineage_broken(why);
        };
    }
    const auto id = expect(Effect::save, std::move(done), std::move(failed_continuation));
    pending[id].lineage = queued;
    emit(SaveLineage{id, queued});
}

void RoleMachine::State::open_storage(StorageRole wanted, Done done, Failed failed_continuation) {
    storage_touched = true;
    const auto effect = wanted == StorageRole::leader ? Effect::open_leader : Effect::open_follower;
    const auto id = expect(effect, std::move(done), std::move(failed_continuation));
    emit(OpenStorage{id, wanted});
}

void RoleMachine::State::close_storage(bool clean, Done done, Failed failed_continuation) {
    const auto id = expect(Effect::close, std::move(done), std::move(failed_continuation));
    if (!clean && !map_reported && !std::exchange(map_survives_close, false)) {
        map_usable = false;
    }
    emit(CloseStorage{id, clean});
}

void RoleMachine::State::start_service(StartCause cause, Done done, Failed failed_continuation) {
    SAFEPAIR_ASSERT(durable.consistent && durable.initialised, "I4: inconsistent data never leads");
    SAFEPAIR_ASSERT(!durable.outdated, "I3: stale data never leads");
    if (in_flight(Effect::kill)) {
        // It would hit what is started now.
        later(options.pulse, [this, cause, done, failed_continuation] {
            start_service(cause, done, failed_continuation);
        });
        return;
    }
    start_in_flight = true;
    service_up = true;
    service_since = now;
    if (!map_reported && durable.peer_outdated) {
        changed_alone = true;
    }
    exited_early.reset();
    const auto started = [this, done = std::move(done)] {
        done();
        if (const auto why = std::exchange(exited_early, std::nullopt)) {
            service_exited(*why);
        }
    };
    const auto id = expect(Effect::start, started, std::move(failed_continuation));
    emit(StartService{id, cause});
}

void RoleMachine::State::stop_service(Done done, Failed failed_continuation) {
    const auto id = expect(Effect::stop, std::move(done), std::move(failed_continuation));
    emit(StopService{id});
}

void RoleMachine::State::kill_service(Done done) {
    const auto again = [this, done](const std::string&, const std::string& why) {
        text = "the service cannot be killed: " + why;
        later(limits::retry_pause_min, [this, done] { kill_service(done); });
    };
    const auto dead = [this, done, started_before = starts_succeeded] {
        if (start_in_flight) {
            // It was still being started: whatever comes of that is killed again.
            after_start = [this, done] { kill_service(done); };
        } else if (starts_succeeded != started_before) {
            // It may have come up just after it was killed.
            kill_service(done);
        } else {
            done();
        }
    };
    const auto id = expect(Effect::kill, dead, again);
    emit(KillService{id});
}

/// R14: killed first, then answered with errors, then seen dead: a process whose write is held
/// cannot die before its answer.
void RoleMachine::State::kill_for_good(Done done) {
    fail_held_later();
    kill_service([this, done = std::move(done)] {
        emit(FailHeld{});
        done();
    });
}

void RoleMachine::State::fail_held_later() {
    later(limits::retry_pause_min, [this] {
        if (in_flight(Effect::kill) || service_up || start_in_flight) {
            emit(FailHeld{});
            fail_held_later();
        }
    });
}

void RoleMachine::State::later(base::Duration pause, Done fire) {
    timers.push_back(Timer{now + pause, epoch, std::move(fire)});
}

void RoleMachine::State::cancel_everything() {
    ++epoch;
    timers.clear();
    after_start = {};
    claims = false;
}

void RoleMachine::State::succeeded(std::uint64_t id) {
    const auto found = pending.find(id);
    if (found == pending.end()) {
        return;
    }
    const auto result = std::move(found->second);
    pending.erase(found);
    note_result(id, result, true);
    if (result.epoch == epoch && result.done) {
        result.done();
    }
    if (result.effect == Effect::start) {
        start_resolved(result.epoch == epoch, true);
    }
}

void RoleMachine::State::failed(std::uint64_t id,
                                const std::string& failure,
                                const std::string& why) {
    const auto found = pending.find(id);
    if (found == pending.end()) {
        return;
    }
    const auto result = std::move(found->second);
    pending.erase(found);
    note_result(id, result, false);
    if (result.epoch == epoch && result.failed) {
        result.failed(failure, why);
    }
    if (result.effect == Effect::start) {
        start_resolved(result.epoch == epoch, false);
    }
}

/// The world changed, whoever still cares about the answer.
void RoleMachine::State::note_result(std::uint64_t id, const Pending& result, bool success) {
    switch (result.effect) {
        case Effect::save:
            if (success && id > durable_save) {
                durable = result.lineage;
                durable_save = id;
                doubtful.reset();
            } else if (!success) {
                doubtful = result.lineage;
                queued = newest_save_in_flight();
            }
            return;
        case Effect::open_leader:
        case Effect::open_follower:
            if (success) {
                storage = result.effect == Effect::open_leader ? StorageRole::leader
                                                               : StorageRole::follower;
            }
            return;
        case Effect::close:
            if (success) {
                storage.reset();
                storage_touched = false;
            }
            return;
        case Effect::start:
            start_in_flight = false;
            starts_succeeded += success ? 1 : 0;
            return;
        case Effect::stop:
        case Effect::kill:
            if (success) {
                service_up = start_in_flight;
                service_ready = false;
            }
            return;
        case Effect::quiesce:
        case Effect::verify:
        case Effect::finish_resync:
        case Effect::archive:
            return;
    }
}

bool RoleMachine::State::in_flight(Effect effect) const {
    return std::ranges::any_of(
        pending, [effect](const auto& entry) { return entry.second.effect == effect; });
}

/// What will be on the disk when every save asked for has succeeded.
Lineage RoleMachine::State::newest_save_in_flight() const {
    const auto newest = std::find_if(pending.rbegin(), pending.rend(), [](const auto& entry) {
        return entry.second.effect == Effect::save;
    });
    return newest == pending.rend() ? durable : newest->second.lineage;
}

/// The record on the disk says that the peer is behind, now and after every save in flight.
bool RoleMachine::State::surely_alone() const {
    return durable.peer_outdated && std::ranges::all_of(pending, [](const auto& entry) {
               return entry.second.effect != Effect::save || entry.second.lineage.peer_outdated;
           });
}

/// After a failed save either record may be on the disk. Nothing is decided or promised before that
/// is settled: a copy that already says "I may lead alone" and then denies it could lead stale
/// after the next restart.
void RoleMachine::State::settle_record() {
    if (!doubtful || in_flight(Effect::save) || now < doubt_until) {
        return;
    }
    save([](Lineage&) {},
         {},
         [this](const std::string&, const std::string&) {
             doubt_until = now + doubt_pause;
             doubt_pause = std::min(2 * doubt_pause, limits::retry_pause_max);
         });
}

/// A start that nobody waits for any more must not leave a service behind.
void RoleMachine::State::start_resolved(bool current, bool success) {
    if (after_start) {
        std::exchange(after_start, Done{})();
        return;
    }
    if (current) {
        return;
    }
    service_up = success;
    if (success && phase != Phase::leading && phase != Phase::opening && !in_flight(Effect::kill) &&
        !in_flight(Effect::stop)) {
        kill_service([] {});
    }
}

void RoleMachine::State::lineage_broken(const std::string& why) {
    const std::string words = "the lineage record cannot be written (" + why +
                              "). Make room or repair the disk of the state directory, then: "
                              "safectl forcestop, safectl start";
    switch (phase) {
        case Phase::leading:
        case Phase::handing_over:
            cancel_everything();
            emit(FreezeStorage{});
            emit(PauseService{});
            phase = Phase::frozen;
            leave.reset();
            handover.reset();
            finish_command(Outcome::failed, words);
            become(role, Readiness::not_ready, Reason::lineage_failed, words);
            return;
        case Phase::stopping:
        case Phase::stopped:
            finish_command(Outcome::failed, words);
            cancel_everything();
            if (follow && !follow->session.is_nil()) {
                emit(DropSession{follow->session});
            }
            follow.reset();
            close_and_stop(false, Reason::lineage_failed, words);
            return;
        case Phase::opening:
        case Phase::waiting:
        case Phase::joining:
        case Phase::following:
        case Phase::verifying:
        case Phase::yielding:
        case Phase::frozen:
            block(Reason::lineage_failed, words);
            return;
    }
}

}  // namespace safepair::cluster
