#include "../../../libhyperv/src/core/domain_states.hpp"

#include "support/catch.hpp"

#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>

using namespace safepair;
using hyperv::GuestHeartbeat;
using hyperv::VmEvent;
using hyperv::VmState;

TEST_CASE("vm_state names every state of libvirt") {
    struct Row {
        int state;
        int reason;
        VmState expected;
        bool active;
    };

    const Row rows[] = {
        {VIR_DOMAIN_NOSTATE, 0, VmState::unknown, true},
        {VIR_DOMAIN_RUNNING, VIR_DOMAIN_RUNNING_BOOTED, VmState::running, true},
        {VIR_DOMAIN_BLOCKED, 0, VmState::running, true},
        {VIR_DOMAIN_PAUSED, VIR_DOMAIN_PAUSED_USER, VmState::paused, true},
        {VIR_DOMAIN_PAUSED, VIR_DOMAIN_PAUSED_IOERROR, VmState::paused, true},
        {VIR_DOMAIN_PAUSED, VIR_DOMAIN_PAUSED_STARTING_UP, VmState::starting, true},
        {VIR_DOMAIN_PAUSED, VIR_DOMAIN_PAUSED_SAVE, VmState::stopping, true},
        {VIR_DOMAIN_PAUSED, VIR_DOMAIN_PAUSED_CRASHED, VmState::crashed, true},
        {VIR_DOMAIN_SHUTDOWN, VIR_DOMAIN_SHUTDOWN_USER, VmState::stopping, true},
        {VIR_DOMAIN_SHUTOFF, VIR_DOMAIN_SHUTOFF_DESTROYED, VmState::off, false},
        {VIR_DOMAIN_SHUTOFF, VIR_DOMAIN_SHUTOFF_CRASHED, VmState::off, false},
        {VIR_DOMAIN_SHUTOFF, VIR_DOMAIN_SHUTOFF_SAVED, VmState::saved, false},
        {VIR_DOMAIN_CRASHED, VIR_DOMAIN_CRASHED_PANICKED, VmState::crashed, true},
        {VIR_DOMAIN_PMSUSPENDED, 0, VmState::paused, true},
        {99, 0, VmState::unknown, true},
    };
    for (const auto& row : rows) {
        DYNAMIC_SECTION("state " << row.state << " for reason " << row.reason) {
            CHECK(hyperv::vm_state(row.state, row.reason) == row.expected);
            CHECK(hyperv::is_active(hyperv::vm_state(row.state, row.reason)) == row.active);
        }
    }
    CHECK_FALSE(hyperv::is_active(VmState::absent));
}

TEST_CASE("vm_event tells an end, its kind and libvirt's word for it") {
    struct Row {
        int event;
        int detail;
        VmEvent::Kind kind;
        const char* word;
    };

    const Row rows[] = {
        {VIR_DOMAIN_EVENT_STOPPED,
         VIR_DOMAIN_EVENT_STOPPED_SHUTDOWN,
         VmEvent::Kind::stopped,
         "shutdown"},
        {VIR_DOMAIN_EVENT_STOPPED,
         VIR_DOMAIN_EVENT_STOPPED_DESTROYED,
         VmEvent::Kind::stopped,
         "destroyed"},
        {VIR_DOMAIN_EVENT_STOPPED,
         VIR_DOMAIN_EVENT_STOPPED_CRASHED,
         VmEvent::Kind::crashed,
         "crashed"},
        {VIR_DOMAIN_EVENT_STOPPED,
         VIR_DOMAIN_EVENT_STOPPED_FAILED,
         VmEvent::Kind::crashed,
         "emulator failed"},
        {VIR_DOMAIN_EVENT_STOPPED, VIR_DOMAIN_EVENT_STOPPED_SAVED, VmEvent::Kind::stopped, "saved"},
        {VIR_DOMAIN_EVENT_STOPPED,
         VIR_DOMAIN_EVENT_STOPPED_MIGRATED,
         VmEvent::Kind::stopped,
         "migrated"},
        {VIR_DOMAIN_EVENT_CRASHED,
         VIR_DOMAIN_EVENT_CRASHED_PANICKED,
         VmEvent::Kind::crashed,
         "guest panicked"},
        {VIR_DOMAIN_EVENT_STARTED,
         VIR_DOMAIN_EVENT_STARTED_BOOTED,
         VmEvent::Kind::started,
         "booted"},
        {VIR_DOMAIN_EVENT_STARTED,
         VIR_DOMAIN_EVENT_STARTED_RESTORED,
         VmEvent::Kind::started,
         "restored"},
        {VIR_DOMAIN_EVENT_SUSPENDED,
         VIR_DOMAIN_EVENT_SUSPENDED_IOERROR,
         VmEvent::Kind::paused,
         "io-error"},
        {VIR_DOMAIN_EVENT_SUSPENDED,
         VIR_DOMAIN_EVENT_SUSPENDED_PAUSED,
         VmEvent::Kind::paused,
         "paused"},
        {VIR_DOMAIN_EVENT_RESUMED,
         VIR_DOMAIN_EVENT_RESUMED_UNPAUSED,
         VmEvent::Kind::resumed,
         "resumed"},
        {VIR_DOMAIN_EVENT_DEFINED,
         VIR_DOMAIN_EVENT_DEFINED_UPDATED,
         VmEvent::Kind::redefined,
         "updated"},
        {VIR_DOMAIN_EVENT_UNDEFINED,
         VIR_DOMAIN_EVENT_UNDEFINED_REMOVED,
         VmEvent::Kind::redefined,
         "removed"},
    };
    for (const auto& row : rows) {
        DYNAMIC_SECTION("event " << row.event << " with detail " << row.detail) {
            const auto event = hyperv::vm_event("vm1", row.event, row.detail);
            REQUIRE(event.has_value());
            CHECK(event->kind == row.kind);
            CHECK(event->detail == row.word);
            CHECK(event->name == "vm1");
        }
    }
    CHECK_FALSE(hyperv::vm_event("vm1", VIR_DOMAIN_EVENT_SHUTDOWN, 0).has_value());
}

TEST_CASE("heartbeat_of does not blame a guest for what the hypervisor cannot do") {
    CHECK(hyperv::heartbeat_of(VIR_ERR_OK) == GuestHeartbeat::ok);
    CHECK(hyperv::heartbeat_of(VIR_ERR_AGENT_UNRESPONSIVE) == GuestHeartbeat::missing);
    CHECK(hyperv::heartbeat_of(VIR_ERR_AGENT_UNSYNCED) == GuestHeartbeat::missing);
    CHECK(hyperv::heartbeat_of(VIR_ERR_NO_SUPPORT) == GuestHeartbeat::none);
    CHECK(hyperv::heartbeat_of(VIR_ERR_OPERATION_INVALID) == GuestHeartbeat::unknown);
    CHECK(hyperv::heartbeat_of(VIR_ERR_RPC) == GuestHeartbeat::unknown);
}
