#include "wait_target.hpp"

#include "arguments.hpp"
#include "cli_support.hpp"
#include "rows.hpp"
#include "support/catch.hpp"

#include <optional>

namespace {

using namespace safepair;
using namespace safepair::cli;

struct State {
    v1::Role role;
    v1::Readiness readiness;
};

constexpr State stopped{v1::ROLE_STOP, v1::READINESS_NOT_READY};
constexpr State blocked{v1::ROLE_WAIT, v1::READINESS_NOT_READY};
constexpr State moving{v1::ROLE_WAIT, v1::READINESS_TRANSIENT};
constexpr State alone{v1::ROLE_ALONE, v1::READINESS_READY};
constexpr State alone_starting{v1::ROLE_ALONE, v1::READINESS_TRANSIENT};
constexpr State prim{v1::ROLE_PRIM, v1::READINESS_READY};
constexpr State prim_feeding{v1::ROLE_PRIM, v1::READINESS_TRANSIENT};
constexpr State second{v1::ROLE_SECOND, v1::READINESS_READY};
constexpr State second_syncing{v1::ROLE_SECOND, v1::READINESS_TRANSIENT};

v1::StatusReply pair(State here, State there) {
    return cli::tests::reply_of({cli::tests::row("vm1", "node1", here.role, here.readiness),
                                 cli::tests::row("vm1", "node2", there.role, there.readiness)});
}

}  // namespace

TEST_CASE("Waiting: each verb aims at its own states") {
    struct Row {
        v1::Verb verb;
        State here;
        State there;
        Progress progress;
        const char* because;
    };

    const std::vector<Row> rows{
        {v1::VERB_START, alone, stopped, Progress::reached, "leads alone"},
        {v1::VERB_START, prim, second, Progress::reached, "leads"},
        {v1::VERB_START, second, prim, Progress::reached, "follows"},
        {v1::VERB_START, second_syncing, prim_feeding, Progress::pending, "resynchronises"},
        {v1::VERB_START, alone_starting, stopped, Progress::pending, "service starts"},
        {v1::VERB_START, moving, stopped, Progress::pending, "listens"},
        {v1::VERB_START, blocked, stopped, Progress::blocked, "would wait"},
        {v1::VERB_START, stopped, stopped, Progress::missed, "stopped meanwhile"},
        {v1::VERB_STOP, stopped, alone, Progress::reached, "stopped"},
        {v1::VERB_STOP, moving, second, Progress::pending, "service stops"},
        {v1::VERB_STOP, blocked, second, Progress::pending, "not yet"},
        {v1::VERB_STOP, prim, second, Progress::pending, "not yet"},
        {v1::VERB_FORCESTOP, stopped, alone, Progress::reached, "stopped"},
        {v1::VERB_FORCESTOP, moving, alone, Progress::pending, "being killed"},
        {v1::VERB_RESTART, prim, second, Progress::reached, "runs"},
        {v1::VERB_RESTART, alone_starting, stopped, Progress::pending, "starts"},
        {v1::VERB_RESTART, stopped, alone, Progress::missed, "did not start again"},
        {v1::VERB_AS_PRIMARY, alone, stopped, Progress::reached, "leads alone"},
        {v1::VERB_AS_PRIMARY, prim, second, Progress::reached, "leads"},
        {v1::VERB_AS_PRIMARY, alone_starting, stopped, Progress::pending, "service starts"},
        {v1::VERB_AS_PRIMARY, second, prim, Progress::pending, "is not what was asked"},
        {v1::VERB_AS_PRIMARY, blocked, stopped, Progress::blocked, "folder busy"},
        {v1::VERB_AS_SECONDARY, second, prim, Progress::reached, "follows"},
        {v1::VERB_AS_SECONDARY, second_syncing, prim_feeding, Progress::pending, "resynchronises"},
        {v1::VERB_AS_SECONDARY, alone, stopped, Progress::missed, "took over"},
        {v1::VERB_AS_SECONDARY, blocked, stopped, Progress::blocked, "leader went"},
        {v1::VERB_SWAP, second, prim, Progress::reached, "roles changed places"},
        {v1::VERB_SWAP, second, alone, Progress::reached, "leads already, alone"},
        {v1::VERB_SWAP, second, prim_feeding, Progress::pending, "other one not Ready"},
        {v1::VERB_SWAP, second_syncing, prim_feeding, Progress::pending, "this one not Ready"},
        {v1::VERB_SWAP, prim, second, Progress::pending, "as before"},
        {v1::VERB_SWAP, stopped, alone, Progress::missed, "stopped instead"},
        {v1::VERB_SWAP, blocked, alone, Progress::blocked, "cannot follow"},
    };
    for (const auto& row : rows) {
        DYNAMIC_SECTION(verb_word(row.verb) << ": " << row.because) {
            CHECK(progress_of(row.verb, "vm1", "node1", pair(row.here, row.there)) == row.progress);
        }
    }
}

TEST_CASE("Waiting: a restarted service counts while the leader still feeds a resynchronisation") {
    auto reply = pair(prim_feeding, second_syncing);
    CHECK(progress_of(v1::VERB_RESTART, "vm1", "node1", reply) == Progress::pending);
    reply.mutable_modules(0)->set_service("running");
    CHECK(progress_of(v1::VERB_RESTART, "vm1", "node1", reply) == Progress::reached);
    CHECK(progress_of(v1::VERB_AS_PRIMARY, "vm1", "node1", reply) == Progress::pending);
}

TEST_CASE("Waiting: bad news about the other node counts only from itself") {
    auto reply = pair(prim, stopped);
    CHECK(progress_of(v1::VERB_START, "vm1", "node2", reply) == Progress::missed);
    // Without its folder the row is what node1 last heard of it.
    reply.mutable_modules(1)->clear_folder();
    CHECK(progress_of(v1::VERB_START, "vm1", "node2", reply) == Progress::pending);
    // Good news is never older than the command that brought it about.
    CHECK(progress_of(v1::VERB_STOP, "vm1", "node2", reply) == Progress::reached);
}

TEST_CASE("Waiting: a silent node or an unknown module is pending") {
    auto reply = pair(prim, stopped);
    reply.mutable_modules(1)->set_heard(false);
    CHECK(progress_of(v1::VERB_STOP, "vm1", "node2", reply) == Progress::pending);
    CHECK(progress_of(v1::VERB_STOP, "web", "node1", reply) == Progress::pending);
    // The new leader must be heard as well.
    auto swapped = pair(second, prim);
    swapped.mutable_modules(1)->set_heard(false);
    CHECK(progress_of(v1::VERB_SWAP, "vm1", "node1", swapped) == Progress::pending);
}
