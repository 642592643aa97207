// What the agent does for each action of a role machine, and how it can go wrong.
#include "unit/cluster/pair.hpp"

#include <algorithm>
#include <utility>

namespace safepair::cluster::pairs {

namespace {

constexpr Duration at_once{};

Duration milliseconds(std::int64_t count) { return std::chrono::milliseconds(count); }

}  // namespace

Duration Pair::length_of(Side side, std::optional<Effect> effect, Duration usual) {
    if (!effect) {
        return usual;
    }
    usual += node(side).slow[static_cast<std::size_t>(*effect)];
    if (!options_.random_delays) {
        return usual;
    }
    const auto stretched = usual.count() * static_cast<std::int64_t>(prng_.below(300)) / 100;
    return Duration(stretched) + (prng_.chance(1, 40)
                                      ? milliseconds(static_cast<std::int64_t>(prng_.below(2500)))
                                      : at_once);
}

bool Pair::fails(Side side, Effect effect) {
    auto& asked = node(side).fail_next[static_cast<std::size_t>(effect)];
    if (asked > 0) {
        --asked;
        return true;
    }
    return options_.failure_one_in != 0 && prng_.chance(1, options_.failure_one_in);
}

void Pair::on_lane(Side side,
                   Lane lane,
                   std::optional<Effect> effect,
                   Duration length,
                   std::function<void()> done,
                   std::function<void()> failed) {
    auto& mine = node(side);
    auto& free_at = mine.free_at[static_cast<std::size_t>(lane)];
    auto start = std::max(now_, free_at);
    if (lane == Lane::storage) {
        start = std::max(start, mine.free_at[static_cast<std::size_t>(Lane::session)]);
    }
    free_at = start + length_of(side, effect, length);
    const bool bad = effect && fails(side, *effect) && failed;
    schedule(
        free_at - now_,
        [this,
         side,
         life = mine.life,
         source = static_cast<Source>(lane),
         job = bad ? std::move(failed) : std::move(done)] { on_node(side, life, job, source); });
}

void Pair::perform(Side side, const SaveLineage& action) {
    auto& mine = node(side);
    mine.writing.push_back(action.lineage);
    const auto written = [this, side] {
        auto& owner = node(side);
        owner.record = owner.writing.front();
        owner.record_damaged = false;
        owner.writing.pop_front();
        record_saved(side);
    };
    on_lane(
        side,
        Lane::lineage,
        Effect::save,
        milliseconds(3),
        [this, side, written, id = action.id] {
            written();
            handle(side, LineageSaved{id});
        },
        [this, side, written, id = action.id] {
            // After an error either record may be on the disk.
            if (prng_.chance(1, 2)) {
                written();
            } else {
                node(side).writing.pop_front();
            }
            handle(side, LineageSaveFailed{id, "no space left on device"});
        });
}

void Pair::perform(Side side, const PublishStatus&) {
    auto& published = node(side).published;
    published.push_back(now_);
    while (now_ - published.front() > std::chrono::seconds(1)) {
        published.pop_front();
    }
    if (published.size() > 100) {
        broken("I9: a node tells its status more than 100 times in a second");
    }
    send_status(side);
}

void Pair::perform(Side side, const OpenStorage& action) {
    const std::string what =
        action.role == StorageRole::leader ? "open as leader" : "open as follower";
    asked_for(side, what, true);
    on_lane(
        side,
        Lane::storage,
        Effect::open,
        milliseconds(20),
        [this, side, action] {
            if (action.role == StorageRole::leader) {
                data_.open_leader(side);
            } else {
                data_.open_follower(side);
            }
            handle(side, StorageOpened{action.id});
        },
        [this, side, what, id = action.id] {
            failed_at(side, what);
            if (node(side).open_failure == "storage-error" &&
                data_.copy(side).door == Door::follower) {
                data_.distrust(side);
            }
            handle(side, StorageFailed{id, node(side).open_failure, "the folder cannot be opened"});
        });
}

void Pair::perform(Side side, const CloseStorage& action) {
    asked_for(side, "close", false);
    on_lane(
        side,
        Lane::storage,
        Effect::close,
        milliseconds(10),
        [this, side, action] {
            data_.close(side, action.clean);
            tell_map(side, true);
            handle(side, StorageClosed{action.id});
        },
        [this, side, id = action.id] {
            handle(side, StorageFailed{id, "storage-error", "the folder cannot be closed"});
        });
}

void Pair::tell_map(Side side, bool always) {
    if (!options_.reports_map) {
        return;
    }
    auto& mine = node(side);
    const auto state = data_.copy(side).map_state();
    const bool changed =
        state.usable != mine.map_told.usable || state.changed != mine.map_told.changed;
    if (changed || always) {
        mine.map_told = state;
        handle(side, state);
    }
}

void Pair::perform(Side side, const AcceptSession& action) {
    asked_for(side, "accept", false);
    on_lane(side, Lane::session, std::nullopt, at_once, [this, side, action] {
        data_.accept_session(side, action.session);
    });
}

void Pair::perform(Side side, const ConnectSession& action) {
    asked_for(side, "connect", false);
    on_lane(side, Lane::session, std::nullopt, at_once, [this, side, action] {
        data_.connect_session(side, action.session, action.mode);
    });
}

void Pair::perform(Side side, const DropSession& action) {
    on_lane(side, Lane::session, std::nullopt, at_once, [this, side, action] {
        data_.drop_session(side, action.session);
    });
}

void Pair::perform(Side side, const ReleaseHeld&) {
    on_lane(side, Lane::session, std::nullopt, at_once, [this, side] { data_.release_held(side); });
}

void Pair::perform(Side side, const FreezeStorage&) {
    ++node(side).times["freeze"];
    on_lane(side, Lane::session, std::nullopt, at_once, [this, side] { data_.freeze(side); });
}

void Pair::perform(Side side, const ThawStorage&) {
    on_lane(side, Lane::session, std::nullopt, at_once, [this, side] { data_.thaw(side); });
}

void Pair::perform(Side side, const FailHeld&) {
    on_lane(side, Lane::session, std::nullopt, at_once, [this, side] {
        if (node(side).guest == Guest::running && !node(side).kill_asked) {
            broken("R14: held requests were answered with errors while the service still runs");
        }
        data_.fail_held(side);
    });
}

void Pair::perform(Side side, const Quiesce& action) {
    on_lane(
        side,
        Lane::storage,
        Effect::quiesce,
        milliseconds(5),
        [this, side, id = action.id, life = node(side).life] { poll_quiesce(side, life, id, 0); },
        [this, side, id = action.id] {
            handle(side, QuiesceFailed{id, "timed out"});
        });
}

void Pair::poll_quiesce(Side side, unsigned life, std::uint64_t id, unsigned tries) {
    std::string error;
    const auto reached = data_.quiesced(side, error);
    if (reached) {
        handle(side, Quiesced{id, *reached});
    } else if (!error.empty() || tries > 200) {
        handle(side, QuiesceFailed{id, error.empty() ? "timed out" : error});
    } else {
        schedule(milliseconds(50), [this, side, life, id, tries] {
            on_node(side, life, [this, side, life, id, tries] {
                poll_quiesce(side, life, id, tries + 1);
            });
        });
    }
}

void Pair::perform(Side side, const VerifyApplied& action) {
    on_lane(side, Lane::storage, std::nullopt, milliseconds(5), [this, side, action] {
        handle(side,
               AppliedVerified{action.id,
                               data_.verify_applied(side, action.session, action.sequence)});
    });
}

void Pair::perform(Side side, const FinishResync& action) {
    const auto lost = [this, side, action] {
        handle(side, SessionLost{action.session, "the map could not be cleared", false});
    };
    on_lane(
        side,
        Lane::storage,
        Effect::finish,
        milliseconds(10),
        [this, side, action, lost] {
            if (data_.finish_resync(side, action.session)) {
                handle(side, MapCleared{action.id});
            } else {
                lost();
            }
        },
        lost);
}

void Pair::perform(Side side, const ArchiveLocal& action) {
    asked_for(side, "archive", true);
    on_lane(
        side,
        Lane::storage,
        Effect::archive,
        milliseconds(100),
        [this, side, action] {
            data_.archive_local(side);
            handle(side, ArchiveFinished{action.id});
        },
        [this, side, id = action.id] {
            failed_at(side, "archive");
            handle(side, ArchiveFailed{id, "archive-full"});
        });
}

// The service

void Pair::stop_guest(Side side) {
    auto& mine = node(side);
    ++mine.guest_life;
    mine.guest = Guest::off;
    mine.guest_paused = false;
}

void Pair::perform(Side side, const StartService& action) {
    if (action.cause != StartCause::restart) {
        check_service_start(side);
    } else {
        node(side).fair_line = node(side).record.current;
    }
    auto& mine = node(side);
    ++mine.times["start"];
    mine.kill_asked = false;
    mine.guard_armed = true;
    const auto begun = std::max(now_, mine.free_at[static_cast<std::size_t>(Lane::service)]);
    schedule(begun - now_, [this, side, life = mine.life] {
        on_node(side, life, [this, side] {
            if (node(side).guest == Guest::off) {
                node(side).guest = Guest::starting;
            }
        });
    });
    on_lane(
        side,
        Lane::service,
        Effect::start,
        milliseconds(500),
        [this, side, id = action.id] {
            auto& owner = node(side);
            if (owner.guest == Guest::starting) {
                owner.guest = Guest::running;
                owner.guard_armed = true;
                handle(side, ServiceStarted{id});
            } else {
                handle(side, ServiceFailed{id, "killed while it started"});
            }
        },
        [this, side, id = action.id] {
            stop_guest(side);
            handle(side, ServiceFailed{id, "it does not start"});
        });
}

void Pair::perform(Side side, const StopService& action) {
    ++node(side).times["stop"];
    on_lane(
        side,
        Lane::service,
        Effect::stop,
        milliseconds(300),
        [this, side, id = action.id] {
            // A guest whose writes hang does not shut down by itself.
            if (data_.unanswered(side) > 0 && node(side).guest == Guest::running &&
                data_.copy(side).answers == Answers::held) {
                handle(side, ServiceFailed{id, "it does not stop: its disk does not answer"});
                return;
            }
            stop_guest(side);
            node(side).guard_armed = false;
            handle(side, ServiceStopped{id});
        },
        [this, side, id = action.id] {
            handle(side, ServiceFailed{id, "it does not stop"});
        });
}

void Pair::perform(Side side, const KillService& action) {
    asked_for(side, "kill", false);
    node(side).kill_asked = true;
    const auto begun = std::max(now_, node(side).free_at[static_cast<std::size_t>(Lane::urgent)]);
    schedule(begun - now_, [this, side, life = node(side).life] {
        on_node(
            side, life, [this, side] { begin_kill(side); }, Source::urgent);
    });
    on_lane(
        side,
        Lane::urgent,
        Effect::kill,
        milliseconds(50),
        [this, side, id = action.id] {
            auto& mine = node(side);
            const auto& copy = data_.copy(side);
            const bool held =
                data_.unanswered(side) > 0 && (copy.frozen || copy.answers == Answers::held);
            if (mine.guest == Guest::dying && held) {
                handle(side, ServiceFailed{id, "it does not die: its disk does not answer"});
                return;
            }
            if (mine.guest == Guest::dying) {
                stop_guest(side);
                mine.guard_armed = false;
            }
            handle(side, ServiceStopped{id});
        },
        [this, side, id = action.id] {
            handle(side, ServiceFailed{id, "it cannot be killed"});
        });
}

/// From here on it executes no more, but the process is there until its last request is answered.
void Pair::begin_kill(Side side) {
    auto& mine = node(side);
    const bool missed = mine.guest == Guest::starting &&
                        (mine.kill_misses_start || (options_.random_delays && prng_.chance(1, 2)));
    if (mine.guest != Guest::off && !missed) {
        mine.guest = Guest::dying;
    }
}

void Pair::perform(Side side, const PauseService&) {
    ++node(side).times["pause"];
    on_lane(side, Lane::urgent, std::nullopt, milliseconds(5), [this, side] {
        node(side).guest_paused = node(side).guest != Guest::off;
    });
}

void Pair::perform(Side side, const ResumeService&) {
    on_lane(side, Lane::urgent, std::nullopt, milliseconds(5), [this, side] {
        node(side).guest_paused = false;
    });
}

void Pair::guest_exits(Side side, const std::string& why) {
    if (node(side).guest != Guest::running) {
        return;
    }
    note("-- " + node(side).name.value + ": the service ends: " + why);
    stop_guest(side);
    post(side, ServiceExited{why});
}

/// R4: the second process stops the service when the agent cannot.
void Pair::guard_tick(Side side) {
    auto& mine = node(side);
    if (!mine.guard_armed || !mine.powered || now_ < mine.guard_deadline ||
        mine.guest == Guest::off) {
        return;
    }
    note("-- " + mine.name.value + ": the guard stops the service");
    stop_guest(side);
    mine.guard_armed = false;
    mine.guard_fired = true;
}

void Pair::perform(Side side, const Reply& action) {
    static constexpr std::array outcomes{"done", "refused", "unsafe", "failed", "would wait"};
    note(node(side).name.value + " answers: " + outcomes[static_cast<std::size_t>(action.outcome)] +
         ": " + action.message);
    if (!replies_.emplace(action.command, action).second) {
        broken("a command was answered twice");
    }
}

void Pair::perform(Side side, const Transition& action) {
    note(node(side).name.value + " " + to_string(action.from) + " " +
         to_string(action.from_readiness) + " -> " + to_string(action.to) + " " +
         to_string(action.to_readiness) + " (" + to_string(action.reason) + ", " + action.actor +
         ", term " + std::to_string(action.term.counter) + ") " + action.text);
    check_transition(side, action);
    node(side).log.push_back(action);
}

}  // namespace safepair::cluster::pairs
