#pragma once

#include <safepair/base/prng.hpp>
#include <safepair/cluster/event.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

/// A model of the replicated folder on two nodes: a few blocks, each holding the number of the
/// write that filled it last. It keeps the promises of replica::ReplicatedFolder and nothing more,
/// and it knows every write ever answered, so it notices when one is lost.
namespace safepair::cluster::pairs {

enum class Side : std::uint8_t { a, b };

inline constexpr std::array both_sides{Side::a, Side::b};

[[nodiscard]] constexpr Side other(Side side) { return side == Side::a ? Side::b : Side::a; }

[[nodiscard]] constexpr std::size_t index(Side side) { return static_cast<std::size_t>(side); }

inline constexpr std::size_t block_count = 16;
/// 0: never written.
using WriteNumber = std::uint32_t;

struct Write {
    std::size_t block = 0;
    /// What the block held where it was written: the write follows from it.
    WriteNumber before = 0;
    Side by = Side::a;
    bool answered = false;
    /// Lost without anybody's fault: two failures at once, or an operator who said so.
    bool excused = false;
    bool archived = false;
};

/// What the model needs of the world around it.
class DataWorld {
  public:
    DataWorld() = default;
    DataWorld(const DataWorld&) = delete;
    DataWorld& operator=(const DataWorld&) = delete;
    virtual ~DataWorld() = default;
    virtual void post(Side side, Event event) = 0;
    virtual void schedule(base::Duration delay, std::function<void()> job) = 0;
    [[nodiscard]] virtual base::Instant now() const = 0;
    [[nodiscard]] virtual bool data_flows(Side from) const = 0;
    /// Up and not asleep.
    [[nodiscard]] virtual bool runs(Side side) const = 0;
    [[nodiscard]] virtual bool record_says_alone(Side side) const = 0;
    [[nodiscard]] virtual bool record_says_consistent(Side side) const = 0;
    [[nodiscard]] virtual bool record_says_primary(Side side) const = 0;
    virtual void broken(const std::string& promise) = 0;
};

enum class Door : std::uint8_t { closed, leader, follower };
/// How a leader answers writes.
enum class Answers : std::uint8_t {
    alone,      ///< at once
    finishing,  ///< from both, because the resync is about to end
    in_sync,    ///< from both
    held,
};

struct Record {
    enum class What : std::uint8_t {
        block,
        write,
        barrier,
        flush,
        cleared,
        keepalive,
        ack,
        flush_ack,
        barrier_ack,
        reset,
    };
    What what = What::keepalive;
    std::uint64_t sequence = 0;
    std::size_t block = 0;
    WriteNumber write = 0;
};

struct Unanswered {
    WriteNumber write = 0;
    std::uint64_t sequence = 0;
    bool on_both = false;
    /// Life of the other node's process when it was sent there.
    unsigned other_life = 0;
};

/// One node's copy, and the engine's memory beside it.
struct Copy {
    std::array<WriteNumber, block_count> data{};
    std::array<WriteNumber, block_count> flushed{};
    /// The dirty map.
    std::set<std::size_t> dirty;
    bool map_usable = true;
    Door door = Door::closed;
    /// Closed cleanly: the plain folder is in place and the map is on the disk.
    bool plain = true;

    // as leader
    Answers answers = Answers::alone;
    bool frozen = false;
    SessionId session;
    /// Written in this session and not yet known to be flushed on both; with the sequence number of
    /// the last write.
    std::map<std::size_t, std::uint64_t> hot;
    std::deque<Unanswered> unanswered;

    // as follower
    SessionId accepted;
    std::uint64_t received = 0;
    std::uint64_t applied = 0;
    std::deque<Record> unapplied;
    bool apply_fails = false;
    /// This process has received everything since the last resync ended (R1).
    bool whole_follower = false;
    /// Served in this boot of the system, and nothing was received since (R1).
    bool whole_leader = false;

    [[nodiscard]] MapChanged map_state() const {
        return MapChanged{map_usable, !dirty.empty() || !map_usable};
    }
};

struct Channel {
    SessionId id;
    Side leader = Side::a;
    std::array<bool, 2> open{};
    /// By receiver.
    std::array<std::deque<Record>, 2> wire;
    std::array<bool, 2> moving{};
    std::array<base::Instant, 2> heard{};
    std::uint64_t sent = 0;
    std::set<std::size_t> to_copy;
};

class PairData {
  public:
    PairData(DataWorld& world, std::uint64_t seed) : world_(world), prng_(seed) {}

    [[nodiscard]] Copy& copy(Side side) { return copies_[index(side)]; }

    [[nodiscard]] const Copy& copy(Side side) const { return copies_[index(side)]; }

    // The folder's calls; named as in replica::ReplicatedFolder.
    void open_leader(Side side);
    void open_follower(Side side);
    void close(Side side, bool clean);
    void accept_session(Side side, SessionId session);
    void connect_session(Side side, SessionId session, SyncMode mode);
    void drop_session(Side side, SessionId session);
    void release_held(Side side);
    void freeze(Side side);
    void thaw(Side side);
    void fail_held(Side side);
    /// nullopt: not yet. An error text: never.
    [[nodiscard]] std::optional<std::uint64_t> quiesced(Side side, std::string& error);
    [[nodiscard]] bool verify_applied(Side side, SessionId session, std::uint64_t sequence);
    [[nodiscard]] bool finish_resync(Side side, SessionId session);
    void archive_local(Side side);

    /// The service on `side` writes one block.
    void write(Side side, std::size_t block);
    /// The local store of a leader fails: every answer is held from here on.
    void fail_store(Side side);
    /// A follower could not apply or flush what it received: it is not worth more than what the
    /// other has (R13).
    void distrust(Side side);
    /// The data channel breaks, noticed on both sides.
    void break_channel();
    /// The process dies; `power`: the system too, with what it had not flushed.
    void crash(Side side, bool power);
    /// Keepalives, time-outs, flushes. Called regularly.
    void tick();

    /// What answered writes are missing in the copy of `side` (0: none).
    [[nodiscard]] WriteNumber missing(Side side) const;
    [[nodiscard]] std::string describe(WriteNumber write) const;
    /// An operator declares this copy the good one.
    void give_up_what_is_missing(Side side);
    /// The leader's session to `side`'s peer, when it is in sync: whether the follower lacks
    /// nothing but what is in flight.
    void check_follower(Side follower);
    /// The follower's end of the data channel is open.
    [[nodiscard]] bool follows(Side side);
    [[nodiscard]] bool equal() const;

    [[nodiscard]] std::size_t unanswered(Side side) const { return copy(side).unanswered.size(); }

    [[nodiscard]] std::uint64_t answered() const { return answered_; }

    /// Blocks sent by resyncs so far.
    [[nodiscard]] std::uint64_t blocks_copied() const { return blocks_copied_; }

    /// Blocks looked at by resyncs so far.
    [[nodiscard]] std::uint64_t blocks_compared() const { return blocks_compared_; }

    [[nodiscard]] std::uint64_t archived() const { return archived_; }

    base::Duration delay = std::chrono::milliseconds(2);
    base::Duration io_timeout = std::chrono::seconds(2);
    /// Per resync block.
    base::Duration copy_pause = std::chrono::milliseconds(5);

  private:
    [[nodiscard]] Channel* channel(SessionId session);
    [[nodiscard]] Channel* open_channel(Side leader);
    void send(Channel& through, Side to, Record record);
    void move(SessionId session, Side to);
    void deliver(Channel& through, Side to, const Record& record);
    void follower_receives(Channel& through, Side side, const Record& record);
    void leader_receives(Channel& through, Side side, const Record& record);
    void lose(Channel& through, Side side, const std::string& why, bool apply_failed = false);
    void apply_later(Side side, SessionId session);
    bool apply_one(Side side);
    void put(Side side, std::size_t block, WriteNumber write, bool resync);
    void copy_next(SessionId session);
    void stop_answering(Side side);
    void answer_ready(Side side);
    void answer(Side side, const Unanswered& one);
    [[nodiscard]] bool holds(const Copy& copy, WriteNumber write) const;
    [[nodiscard]] bool follows_from(WriteNumber later, WriteNumber earlier) const;

    DataWorld& world_;
    base::Prng prng_;
    std::array<Copy, 2> copies_;
    std::array<unsigned, 2> life_{};
    std::map<SessionId, Channel> channels_;
    std::vector<Write> writes_{Write{}};
    std::uint64_t answered_ = 0;
    std::uint64_t blocks_copied_ = 0;
    std::uint64_t blocks_compared_ = 0;
    std::uint64_t archived_ = 0;
    base::Instant next_flush_{};
};

}  // namespace safepair::cluster::pairs
