#include "unit/cluster/pair_data.hpp"

#include <algorithm>
#include <utility>

namespace safepair::cluster::pairs {

namespace {

constexpr base::Duration retry_pause = std::chrono::milliseconds(50);
constexpr base::Duration apply_pause = std::chrono::milliseconds(3);
constexpr base::Duration connect_patience = std::chrono::seconds(1);
constexpr base::Duration flush_interval = std::chrono::milliseconds(300);

/// What the block will hold when everything received is applied.
WriteNumber newest_in(const Copy& copy, std::size_t block) {
    for (auto record = copy.unapplied.rbegin(); record != copy.unapplied.rend(); ++record) {
        const bool fills =
            record->what == Record::What::block || record->what == Record::What::write;
        if (fills && record->block == block) {
            return record->write;
        }
    }
    return copy.data[block];
}

bool is_numbered(Record::What what) {
    return what == Record::What::block || what == Record::What::write ||
           what == Record::What::barrier || what == Record::What::flush ||
           what == Record::What::cleared;
}

}  // namespace

bool PairData::follows_from(WriteNumber later, WriteNumber earlier) const {
    while (later > earlier) {
        later = writes_[later].before;
    }
    return later == earlier;
}

bool PairData::holds(const Copy& copy, WriteNumber write) const {
    return follows_from(newest_in(copy, writes_[write].block), write);
}

Channel* PairData::channel(SessionId session) {
    const auto found = channels_.find(session);
    return found == channels_.end() ? nullptr : &found->second;
}

Channel* PairData::open_channel(Side leader) {
    auto* found = channel(copy(leader).session);
    return found != nullptr && found->leader == leader && found->open[index(leader)] ? found
                                                                                     : nullptr;
}

// The folder's calls

void PairData::open_leader(Side side) {
    auto& mine = copy(side);
    if (mine.door == Door::follower) {
        while (apply_one(side)) {
        }
        // Whoever takes over from here was in sync: its map starts now.
        mine.map_usable = true;
        mine.flushed = mine.data;
    }
    mine.accepted = {};
    mine.whole_follower = false;
    mine.whole_leader = true;
    mine.door = Door::leader;
    mine.plain = false;
    mine.answers = Answers::alone;
    mine.frozen = false;
    mine.session = {};
    mine.hot.clear();
    mine.unanswered.clear();
}

void PairData::open_follower(Side side) {
    auto& mine = copy(side);
    mine.door = Door::follower;
    mine.plain = false;
    mine.frozen = false;
    mine.session = {};
    mine.unanswered.clear();
    mine.received = 0;
    mine.applied = 0;
}

void PairData::close(Side side, bool clean) {
    auto& mine = copy(side);
    while (apply_one(side)) {
    }
    for (auto& [id, through] : channels_) {
        if (through.open[index(side)]) {
            through.open[index(side)] = false;
            send(through, other(side), Record{Record::What::reset, 0, 0, 0});
        }
    }
    stop_answering(side);
    mine.unanswered.clear();
    mine.accepted = {};
    mine.door = Door::closed;
    if (clean) {
        mine.flushed = mine.data;
        mine.plain = true;
    }
}

void PairData::accept_session(Side side, SessionId session) {
    auto& mine = copy(side);
    mine.accepted = session;
    mine.received = 0;
    mine.applied = 0;
    mine.whole_follower = false;
    mine.whole_leader = false;
}

void PairData::connect_session(Side side, SessionId session, SyncMode mode) {
    auto& theirs = copy(other(side));
    const bool reachable = world_.data_flows(side) && world_.data_flows(other(side)) &&
                           world_.runs(other(side)) && theirs.door == Door::follower &&
                           theirs.accepted == session;
    const auto life = life_[index(side)];
    if (!reachable) {
        world_.schedule(connect_patience, [this, side, session, life] {
            if (life_[index(side)] == life) {
                world_.post(side, SessionLost{session, "cannot connect", false});
            }
        });
        return;
    }
    auto& mine = copy(side);
    mine.session = session;
    auto& through = channels_[session];
    through.id = session;
    through.leader = side;
    through.open = {true, true};
    through.heard = {world_.now(), world_.now()};
    if (mode != SyncMode::dirty_blocks) {
        for (std::size_t block = 0; block < block_count; ++block) {
            through.to_copy.insert(block);
        }
    }
    // R10: the leader takes over the follower's part before anything is overwritten.
    mine.dirty.insert(theirs.dirty.begin(), theirs.dirty.end());
    through.to_copy.insert(mine.dirty.begin(), mine.dirty.end());
    world_.post(side, SessionOpened{session});
    world_.post(other(side), SessionOpened{session});
    copy_next(session);
}

void PairData::drop_session(Side side, SessionId session) {
    auto& mine = copy(side);
    if (auto* through = channel(session); through != nullptr && through->open[index(side)]) {
        through->open[index(side)] = false;
        send(*through, other(side), Record{Record::What::reset, 0, 0, 0});
    }
    if (mine.session == session) {
        stop_answering(side);
    }
    if (mine.accepted == session) {
        mine.accepted = {};
    }
}

void PairData::release_held(Side side) {
    auto& mine = copy(side);
    if (mine.door == Door::leader && mine.answers == Answers::held) {
        mine.answers = Answers::alone;
        answer_ready(side);
    }
}

void PairData::freeze(Side side) { copy(side).frozen = true; }

void PairData::thaw(Side side) {
    copy(side).frozen = false;
    answer_ready(side);
}

void PairData::fail_held(Side side) {
    auto& mine = copy(side);
    for (const auto& one : mine.unanswered) {
        mine.dirty.insert(writes_[one.write].block);
    }
    mine.unanswered.clear();
}

std::optional<std::uint64_t> PairData::quiesced(Side side, std::string& error) {
    auto& mine = copy(side);
    auto* through = open_channel(side);
    if (through == nullptr || mine.answers != Answers::in_sync) {
        error = "the data channel is lost";
        return std::nullopt;
    }
    if (!mine.unanswered.empty() || !mine.hot.empty()) {
        if (!mine.hot.empty()) {
            send(*through, other(side), Record{Record::What::flush, 0, 0, 0});
        }
        return std::nullopt;
    }
    mine.flushed = mine.data;
    return through->sent;
}

bool PairData::verify_applied(Side side, SessionId session, std::uint64_t sequence) {
    while (apply_one(side)) {
    }
    const auto& mine = copy(side);
    return mine.accepted == session && mine.applied >= sequence;
}

bool PairData::finish_resync(Side side, SessionId session) {
    auto& mine = copy(side);
    auto* through = open_channel(side);
    if (through == nullptr || mine.session != session || mine.answers != Answers::in_sync) {
        return false;
    }
    mine.dirty.clear();
    mine.map_usable = true;
    send(*through, other(side), Record{Record::What::cleared, 0, 0, 0});
    return true;
}

void PairData::archive_local(Side side) {
    const auto& mine = copy(side);
    for (std::size_t block = 0; block < block_count; ++block) {
        if (mine.map_usable && !mine.dirty.contains(block)) {
            continue;
        }
        ++archived_;
        for (auto write = mine.data[block]; write != 0; write = writes_[write].before) {
            writes_[write].archived = true;
        }
    }
}

// The application's side

void PairData::write(Side side, std::size_t block) {
    auto& mine = copy(side);
    const auto number = static_cast<WriteNumber>(writes_.size());
    writes_.push_back(Write{block, mine.data[block], side, false, false, false});
    mine.data[block] = number;
    Unanswered one{number, 0, false, life_[index(other(side))]};
    auto* through = open_channel(side);
    if (through != nullptr) {
        send(*through, other(side), Record{Record::What::write, 0, block, number});
        one.sequence = through->sent;
    }
    const bool waits_for_both =
        mine.answers == Answers::finishing || mine.answers == Answers::in_sync;
    if (waits_for_both) {
        mine.hot[block] = one.sequence;
    } else {
        mine.dirty.insert(block);
    }
    mine.unanswered.push_back(one);
    answer_ready(side);
}

void PairData::answer_ready(Side side) {
    auto& mine = copy(side);
    if (mine.frozen || mine.answers == Answers::held) {
        return;
    }
    std::erase_if(mine.unanswered, [this, side, &mine](const Unanswered& one) {
        if (mine.answers != Answers::alone && !one.on_both) {
            return false;
        }
        answer(side, one);
        return true;
    });
}

void PairData::answer(Side side, const Unanswered& one) {
    auto& write = writes_[one.write];
    write.answered = true;
    ++answered_;
    // What the other node confirmed may be lost there before the confirmation arrives here.
    const bool same_life = one.other_life == life_[index(other(side))];
    if (!world_.record_says_alone(side) && same_life && !holds(copy(other(side)), one.write)) {
        world_.broken(
            "I2: a write was answered that only one node has, and its record does not say that it "
            "is alone");
    }
}

/// A session of a leader is over: what only one side may have becomes dirty, and answers wait
/// unless it was alone.
void PairData::stop_answering(Side side) {
    auto& mine = copy(side);
    mine.session = {};
    for (const auto& [block, sequence] : std::exchange(mine.hot, {})) {
        mine.dirty.insert(block);
    }
    for (const auto& one : mine.unanswered) {
        mine.dirty.insert(writes_[one.write].block);
    }
    if (mine.answers != Answers::alone) {
        mine.answers = Answers::held;
    }
}

void PairData::fail_store(Side side) {
    auto& mine = copy(side);
    if (mine.answers != Answers::alone) {
        for (const auto& [block, sequence] : std::exchange(mine.hot, {})) {
            mine.dirty.insert(block);
        }
        mine.answers = Answers::held;
        mine.whole_leader = false;
        give_up_what_is_missing(other(side));
    }
    world_.post(side, LocalStoreFailed{"input/output error"});
}

// The channel

void PairData::send(Channel& through, Side to, Record record) {
    if (is_numbered(record.what)) {
        record.sequence = ++through.sent;
    }
    through.wire[index(to)].push_back(record);
    if (!through.moving[index(to)]) {
        through.moving[index(to)] = true;
        world_.schedule(delay, [this, session = through.id, to] { move(session, to); });
    }
}

void PairData::move(SessionId session, Side to) {
    auto* through = channel(session);
    if (through == nullptr) {
        return;
    }
    auto& wire = through->wire[index(to)];
    if (!world_.data_flows(other(to)) || !world_.runs(to)) {
        world_.schedule(retry_pause, [this, session, to] { move(session, to); });
        return;
    }
    // What lies on the wire arrives together: TCP has no gaps between records.
    while (!wire.empty()) {
        const auto record = wire.front();
        wire.pop_front();
        deliver(*through, to, record);
    }
    through->moving[index(to)] = false;
}

void PairData::deliver(Channel& through, Side to, const Record& record) {
    if (!through.open[index(to)]) {
        if (record.what != Record::What::reset && through.open[index(other(to))]) {
            send(through, other(to), Record{Record::What::reset, 0, 0, 0});
        }
        return;
    }
    through.heard[index(to)] = world_.now();
    if (record.what == Record::What::reset) {
        lose(through, to, "closed by the other node");
    } else if (to == through.leader) {
        leader_receives(through, to, record);
    } else {
        follower_receives(through, to, record);
    }
}

void PairData::follower_receives(Channel& through, Side side, const Record& record) {
    auto& mine = copy(side);
    if (record.what == Record::What::keepalive) {
        send(through, through.leader, Record{Record::What::ack, mine.received, 0, 0});
        return;
    }
    mine.received = record.sequence;
    mine.unapplied.push_back(record);
    send(through, through.leader, Record{Record::What::ack, mine.received, 0, 0});
    apply_later(side, through.id);
}

void PairData::apply_later(Side side, SessionId session) {
    const auto life = life_[index(side)];
    world_.schedule(apply_pause, [this, side, session, life] {
        if (life_[index(side)] != life || copy(side).unapplied.empty()) {
            return;
        }
        if (!world_.runs(side)) {
            apply_later(side, session);
            return;
        }
        if (std::exchange(copy(side).apply_fails, false)) {
            distrust(side);
            if (auto* through = channel(session);
                through != nullptr && through->open[index(side)]) {
                lose(*through, side, "no space left on device", true);
            }
            return;
        }
        const auto record = copy(side).unapplied.front();
        apply_one(side);
        auto* through = channel(session);
        if (through == nullptr || !through->open[index(side)]) {
            return;
        }
        if (record.what == Record::What::flush) {
            send(*through, other(side), Record{Record::What::flush_ack, record.sequence, 0, 0});
        } else if (record.what == Record::What::barrier) {
            send(*through, other(side), Record{Record::What::barrier_ack, record.sequence, 0, 0});
        }
    });
}

bool PairData::apply_one(Side side) {
    auto& mine = copy(side);
    if (mine.unapplied.empty()) {
        return false;
    }
    const auto record = mine.unapplied.front();
    mine.unapplied.pop_front();
    mine.applied = record.sequence;
    switch (record.what) {
        case Record::What::block:
        case Record::What::write:
            put(side, record.block, record.write, record.what == Record::What::block);
            break;
        case Record::What::barrier:
            mine.whole_follower = true;
            mine.flushed = mine.data;
            break;
        case Record::What::flush:
            mine.flushed = mine.data;
            break;
        case Record::What::cleared:
            mine.dirty.clear();
            mine.map_usable = true;
            break;
        case Record::What::keepalive:
        case Record::What::ack:
        case Record::What::flush_ack:
        case Record::What::barrier_ack:
        case Record::What::reset:
            break;
    }
    return true;
}

void PairData::put(Side side, std::size_t block, WriteNumber write, bool resync) {
    auto& mine = copy(side);
    const auto old = mine.data[block];
    if (old == write) {
        return;
    }
    for (auto lost = old; lost != 0 && !follows_from(write, lost); lost = writes_[lost].before) {
        const auto& one = writes_[lost];
        if (one.answered && !one.excused && !one.archived) {
            world_.broken("P1: answered write " + std::to_string(lost) + " in block " +
                          std::to_string(block) + " was overwritten by " + std::to_string(write) +
                          " without an archive");
        }
    }
    mine.data[block] = write;
    blocks_copied_ += resync ? 1 : 0;
}

void PairData::leader_receives(Channel& through, Side side, const Record& record) {
    auto& mine = copy(side);
    if (mine.session != through.id) {
        return;
    }
    switch (record.what) {
        case Record::What::ack:
            for (auto& one : mine.unanswered) {
                one.on_both = one.on_both || (one.sequence != 0 && one.sequence <= record.sequence);
            }
            answer_ready(side);
            break;
        case Record::What::flush_ack:
            mine.flushed = mine.data;
            std::erase_if(mine.hot,
                          [&record](const auto& hot) { return hot.second <= record.sequence; });
            break;
        case Record::What::barrier_ack:
            if (mine.answers == Answers::finishing) {
                mine.answers = Answers::in_sync;
                world_.post(side, ResyncFinished{through.id});
            }
            break;
        case Record::What::block:
        case Record::What::write:
        case Record::What::barrier:
        case Record::What::flush:
        case Record::What::cleared:
        case Record::What::keepalive:
        case Record::What::reset:
            break;
    }
}

void PairData::lose(Channel& through, Side side, const std::string& why, bool apply_failed) {
    if (!std::exchange(through.open[index(side)], false)) {
        return;
    }
    if (copy(side).session == through.id) {
        stop_answering(side);
    }
    world_.post(side, SessionLost{through.id, why, apply_failed});
    send(through, other(side), Record{Record::What::reset, 0, 0, 0});
}

void PairData::copy_next(SessionId session) {
    auto* through = channel(session);
    if (through == nullptr || !through->open[index(through->leader)] ||
        copy(through->leader).session != session) {
        return;
    }
    const auto leader = through->leader;
    if (!world_.runs(leader)) {
        world_.schedule(retry_pause, [this, session] { copy_next(session); });
        return;
    }
    if (through->to_copy.empty()) {
        copy(leader).answers = Answers::finishing;
        send(*through, other(leader), Record{Record::What::barrier, 0, 0, 0});
        return;
    }
    const auto block = *through->to_copy.begin();
    through->to_copy.erase(through->to_copy.begin());
    ++blocks_compared_;
    send(*through, other(leader), Record{Record::What::block, 0, block, copy(leader).data[block]});
    world_.schedule(copy_pause, [this, session] { copy_next(session); });
}

void PairData::distrust(Side side) {
    if (std::exchange(copy(side).whole_follower, false)) {
        give_up_what_is_missing(other(side));
    }
}

void PairData::break_channel() {
    for (auto& [id, through] : channels_) {
        for (const auto side : both_sides) {
            lose(through, side, "connection reset");
        }
    }
}

void PairData::tick() {
    const bool flushes = world_.now() >= next_flush_;
    if (flushes) {
        next_flush_ = world_.now() + flush_interval;
    }
    for (auto& [id, through] : channels_) {
        for (const auto side : both_sides) {
            const bool alive = through.open[index(side)] && world_.runs(side);
            if (alive && world_.now() - through.heard[index(side)] > io_timeout) {
                lose(through, side, "no answer in time");
            }
        }
        if (through.open[index(through.leader)] && world_.runs(through.leader)) {
            const bool hot = !copy(through.leader).hot.empty();
            const auto what = flushes && hot ? Record::What::flush : Record::What::keepalive;
            send(through, other(through.leader), Record{what, 0, 0, 0});
        }
    }
    std::erase_if(channels_, [](const auto& entry) {
        const auto& through = entry.second;
        return !through.open[0] && !through.open[1] && through.wire[0].empty() &&
               through.wire[1].empty();
    });
    for (const auto side : both_sides) {
        if (flushes && copy(side).answers == Answers::alone && copy(side).door == Door::leader) {
            copy(side).flushed = copy(side).data;
        }
    }
}

// Crashes and what may be lost by them

void PairData::crash(Side side, bool power) {
    auto& mine = copy(side);
    const auto& theirs = copy(other(side));
    const bool was_whole = mine.whole_follower || mine.whole_leader;
    ++life_[index(side)];
    for (auto& [id, through] : channels_) {
        if (std::exchange(through.open[index(side)], false) && !power) {
            send(through, other(side), Record{Record::What::reset, 0, 0, 0});
        }
    }
    mine.unapplied.clear();
    if (power) {
        for (std::size_t block = 0; block < block_count; ++block) {
            if (prng_.chance(1, 2)) {
                mine.data[block] = mine.flushed[block];
            }
        }
        mine.flushed = mine.data;
    }
    if (!mine.plain) {
        mine.map_usable = false;
        mine.dirty.clear();
    }
    mine.door = Door::closed;
    mine.answers = Answers::alone;
    mine.frozen = false;
    mine.session = {};
    mine.hot.clear();
    mine.unanswered.clear();
    mine.accepted = {};
    mine.apply_fails = false;
    mine.whole_follower = false;
    mine.whole_leader = mine.whole_leader && !power && world_.record_says_primary(side);
    // What the other node has counts for nothing when this one's record leaves it behind, or when
    // its own resync was not recorded.
    const bool other_followed = theirs.whole_follower && world_.record_says_consistent(other(side));
    const bool other_counts =
        !world_.record_says_alone(side) &&
        (theirs.whole_leader || other_followed || world_.record_says_alone(other(side)));
    for (WriteNumber number = 1; number < writes_.size(); ++number) {
        auto& one = writes_[number];
        if (!one.answered || one.excused || one.archived) {
            continue;
        }
        const bool here = holds(mine, number);
        const bool there = holds(theirs, number);
        const bool second_failure =
            here && !there && was_whole && !mine.whole_leader && !world_.record_says_alone(side);
        one.excused = (!here && !(there && other_counts)) || second_failure;
    }
}

WriteNumber PairData::missing(Side side) const {
    for (WriteNumber number = 1; number < writes_.size(); ++number) {
        const auto& one = writes_[number];
        if (one.answered && !one.excused && !one.archived && !holds(copy(side), number)) {
            return number;
        }
    }
    return 0;
}

std::string PairData::describe(WriteNumber write) const {
    const auto& one = writes_[write];
    const auto block = one.block;
    return "write " + std::to_string(write) + " by node" + (one.by == Side::a ? "1" : "2") +
           " over " + std::to_string(one.before) + " in block " + std::to_string(block) +
           ", which holds " + std::to_string(copies_[0].data[block]) + " on node1 and " +
           std::to_string(copies_[1].data[block]) + " on node2";
}

void PairData::give_up_what_is_missing(Side side) {
    for (WriteNumber number = 1; number < writes_.size(); ++number) {
        writes_[number].excused = writes_[number].excused || !holds(copy(side), number);
    }
}

void PairData::check_follower(Side follower) {
    const auto leader = other(follower);
    const auto* through = open_channel(leader);
    if (through == nullptr || copy(leader).answers != Answers::in_sync ||
        !through->open[index(follower)]) {
        return;
    }
    if (!copy(leader).dirty.empty()) {
        world_.broken("I7: SECOND Ready while the leader's map for it is not empty");
    }
    for (std::size_t block = 0; block < block_count; ++block) {
        if (!copy(leader).hot.contains(block) &&
            copy(leader).data[block] != newest_in(copy(follower), block)) {
            world_.broken("I7: SECOND Ready, but block " + std::to_string(block) + " differs");
        }
    }
}

bool PairData::follows(Side side) {
    const auto* through = channel(copy(side).accepted);
    return through != nullptr && through->open[index(side)];
}

bool PairData::equal() const {
    for (std::size_t block = 0; block < block_count; ++block) {
        if (newest_in(copies_[0], block) != newest_in(copies_[1], block)) {
            return false;
        }
    }
    return true;
}

}  // namespace safepair::cluster::pairs
