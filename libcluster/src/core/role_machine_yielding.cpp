// R14: the role is gone for good. Kill first, then answer what is held, then close the door.
#include "core/role_state.hpp"

namespace safepair::cluster {

void RoleMachine::State::begin_yielding(Reason why, std::string words) {
    cancel_everything();
    phase = Phase::yielding;
    yield_reason = why;
    yield_text = words;
    yield_sticky = false;
    yield_blocked = false;
    become(Role::wait, Readiness::transient, why, std::move(words));
}

void RoleMachine::State::yield(Reason why, std::string words) {
    // Who asked for a stop still gets one.
    const bool stops = std::exchange(leaving, false) && leave;
    stop_after_yield = stop_after_yield || stops;
    if (!stops) {
        finish_command(Outcome::failed, words);
    }
    emit(FreezeStorage{});
    emit(PauseService{});
    drop_link();
    leave.reset();
    handover.reset();
    suspension.reset();
    holding = false;
    alone_saving = false;
    base_superseded = false;
    proof_session = {};
    service_ready = false;
    begin_yielding(why, std::move(words));
    if (service_up || start_in_flight) {
        kill_for_good([this] { yield_close(); });
    } else {
        emit(FailHeld{});
        yield_close();
    }
}

void RoleMachine::State::yield_close() {
    if (!storage_touched) {
        yielded();
        return;
    }
    close_storage(
        false,
        [this] { yielded(); },
        [this](const std::string&, const std::string& why) {
            text = std::string(to_string(reason)) + ", and the folder cannot be closed: " + why;
            later(limits::retry_pause_min, [this] { yield_close(); });
        });
}

void RoleMachine::State::yielded() {
    const auto end = [this] {
        yield_marks_outdated = false;
        if (stop_after_yield) {
            stop_after_yield = false;
            phase = Phase::stopping;
            stopped(false, Reason::operator_command, "stopped");
            return;
        }
        if (std::exchange(yield_blocked, false)) {
            phase = Phase::waiting;
            return;
        }
        enter_waiting(yield_reason, yield_text, yield_sticky);
    };
    if (!yield_marks_outdated) {
        end();
        return;
    }
    // Without a boot it does not count as whole after a restart either: what failed here may be
    // good on the other node.
    save(
        [](Lineage& next) {
            next.outdated = true;
            next.boot = {};
        },
        end);
}

}  // namespace safepair::cluster
