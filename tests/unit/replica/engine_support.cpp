#include "engine_support.hpp"

#include "resync_support.hpp"

#include <algorithm>

namespace safepair::tests {

// Reply

void Reply::call(void* self, int error) {
    auto& reply = *static_cast<Reply*>(self);
    const std::lock_guard lock(reply.mutex_);
    SAFEPAIR_ASSERT(!reply.error_, "an answer comes once");
    reply.error_ = error;
    reply.came_.notify_all();
}

int Reply::wait() {
    std::unique_lock lock(mutex_);
    came_.wait(lock, [this] { return error_.has_value(); });
    return *error_;
}

bool Reply::has_come() const {
    const std::lock_guard lock(mutex_);
    return error_.has_value();
}

int carry_out(Front& front, const Operation& operation) {
    Reply reply;
    front.submit(operation, reply.completion());
    return reply.wait();
}

int fence(Front& front, const Footprint& read) {
    Reply reply;
    front.fence(read, reply.completion());
    return reply.wait();
}

Operation create(FileId parent, const std::string& name, NodeType type) {
    Operation operation;
    operation.kind = OperationKind::create;
    operation.parent = parent;
    operation.name = name;
    operation.file = base::random_id<FileId>();
    operation.attributes.type = type;
    operation.attributes.mode = type == NodeType::directory ? 0755 : 0644;
    operation.time = base::wall_clock_now();
    return operation;
}

Operation write(FileId file, std::uint64_t offset, const std::string& data, bool durable) {
    Operation operation;
    operation.kind = OperationKind::write;
    operation.file = file;
    operation.offset = offset;
    operation.data = std::as_bytes(std::span(data));
    operation.time = base::wall_clock_now();
    operation.durable = durable;
    return operation;
}

Operation flush(FileId file) {
    Operation operation;
    operation.kind = OperationKind::flush;
    operation.file = file;
    return operation;
}

std::string content(Store& store, FileId file) {
    const auto attributes = store.attributes(file);
    if (!attributes) {
        return "?";
    }
    std::string text(attributes->size, '\0');
    const auto got = store.read(file, 0, std::as_writable_bytes(std::span(text)));
    text.resize(got ? *got : 0);
    return text;
}

// Events

void Events::tell(std::string text) {
    const std::lock_guard lock(mutex_);
    all_.push_back(std::move(text));
    told_.notify_all();
}

void Events::session_opened(SessionId) { tell("opened"); }

void Events::session_lost(SessionId, const std::string& why, bool apply_failed) {
    tell(std::string(apply_failed ? "lost, apply failed: " : "lost: ") + why);
}

void Events::resync_finished(SessionId) { tell("finished"); }

void Events::local_store_failed(const std::string& why) { tell("local failure: " + why); }

void Events::note(const std::string& text) { tell("note: " + text); }

void Events::peer_heard() {}

std::string Events::wait_for(const std::string& beginning) {
    std::unique_lock lock(mutex_);
    for (;;) {
        const auto found = std::find_if(all_.begin(), all_.end(), [&](const std::string& one) {
            return one.rfind(beginning, 0) == 0;
        });
        if (found != all_.end()) {
            auto text = *found;
            all_.erase(all_.begin(), found + 1);
            return text;
        }
        told_.wait(lock);
    }
}

bool Events::has(const std::string& beginning) const {
    const std::lock_guard lock(mutex_);
    return std::any_of(all_.begin(), all_.end(), [&](const std::string& one) {
        return one.rfind(beginning, 0) == 0;
    });
}

// FaultStore

void FaultStore::set_fault(std::function<int(const Operation&)> fault) {
    const std::lock_guard lock(mutex_);
    fault_ = std::move(fault);
}

void FaultStore::set_free(std::optional<std::uint64_t> bytes) {
    const std::lock_guard lock(mutex_);
    free_ = bytes;
}

base::Result<Space> FaultStore::space() {
    auto space = real_->space();
    const std::lock_guard lock(mutex_);
    if (space && free_) {
        space->blocks_available = *free_ / space->block_bytes;
    }
    return space;
}

base::Result<void> FaultStore::apply(const Operation& operation) {
    std::function<int(const Operation&)> fault;
    {
        const std::lock_guard lock(mutex_);
        fault = fault_;
    }
    if (const int error = fault ? fault(operation) : 0; error != 0) {
        return base::error_from_errno(error, "injected");
    }
    if (operation.kind == OperationKind::flush && operation.file == root_file) {
        // The whole file system of the machine is not ours to flush in a test.
        return {};
    }
    return real_->apply(operation);
}

// Gate

void Gate::wait_until_open() {
    std::unique_lock lock(mutex_);
    ++waiting_;
    changed_.notify_all();
    changed_.wait(lock, [this] { return open_; });
    --waiting_;
}

void Gate::wait_until_somebody_waits() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return waiting_ > 0; });
}

void Gate::open() {
    const std::lock_guard lock(mutex_);
    open_ = true;
    changed_.notify_all();
}

// Pair

Pair::Pair(Durability durability, FolderFaults faults) {
    const auto open = [](const ScratchDirectory& directory) {
        auto store = open_posix_store(directory.path());
        SAFEPAIR_ASSERT(store.has_value(), "a scratch directory can be opened");
        return std::make_unique<FaultStore>(std::move(*store));
    };
    leader_store = open(leader_directory);
    follower_store = open(follower_directory);
    auto listener = DataListener::start("127.0.0.1", 0, key_);
    SAFEPAIR_ASSERT(listener.has_value(), "a loopback port is free");
    listener_ = std::move(*listener);
    listener_->add("vm", *this);
    leader_queue_ = std::make_unique<EventQueue>(leader_events);
    follower_queue_ = std::make_unique<EventQueue>(follower_events);
    LeaderOptions options;
    options.module = "vm";
    options.node = "node1";
    options.durability = durability;
    options.faults = faults;
    options.make_resync = real_parts().make_resync;
    leader = std::make_unique<Leader>(options, *leader_store, DirtyMap{}, *leader_queue_);
    make_follower({});
}

Pair::~Pair() {
    leader_store->set_fault({});
    follower_store->set_fault({});
    listener_->remove("vm");
    leader.reset();
    follower.reset();
}

void Pair::make_follower(DirtyMap dirty) {
    follower = std::make_unique<Follower>(
        *follower_store, std::move(dirty), *follower_queue_, real_parts().make_responder);
}

void Pair::restart_follower() {
    follower->stop();
    auto dirty = follower->dirty();
    make_follower(std::move(dirty));
}

bool Pair::accept(const ChannelHello& hello, base::UniqueFd connection) {
    return follower->accept(hello, std::move(connection));
}

void Pair::connect(SyncMode mode) {
    session = base::random_id<SessionId>();
    follower->expect(session, 1);
    DataEndpoint peer;
    peer.address = "127.0.0.1";
    peer.port = listener_->port();
    peer.key = key_;
    leader->connect(session, 1, peer, mode);
}

void Pair::synchronise(SyncMode mode) {
    connect(mode);
    leader_events.wait_for("finished");
    [[maybe_unused]] const auto finished = leader->finish_resync(session);
}

std::string Pair::difference() {
    if (const auto quiet = leader->quiesce(std::chrono::minutes(1)); !quiet) {
        return quiet.error().message();
    }
    return tests::difference(*leader_store, *follower_store);
}

}  // namespace safepair::tests
