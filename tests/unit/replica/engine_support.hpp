#pragma once

#include "io/event_queue.hpp"
#include "io/folder.hpp"
#include "io/follower.hpp"
#include "io/leader.hpp"
#include "support/scratch_directory.hpp"

#include <safepair/base/ids.hpp>
#include <safepair/replica/data_channel.hpp>
#include <safepair/replica/door.hpp>
#include <safepair/replica/replicated_folder.hpp>

#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

/// A leader and a follower in one process, over real stores and a real connection.
namespace safepair::tests {

using namespace safepair::replica;

/// One answer that a thread can wait for.
class Reply {
  public:
    Completion completion() { return {&Reply::call, this}; }

    int wait();
    bool has_come() const;

  private:
    static void call(void* self, int error);

    mutable std::mutex mutex_;
    std::condition_variable came_;
    std::optional<int> error_;
};

/// Submits and waits.
int carry_out(Front& front, const Operation& operation);
int fence(Front& front, const Footprint& read);

Operation create(FileId parent, const std::string& name, NodeType type = NodeType::file);
/// The data is borrowed.
Operation write(FileId file, std::uint64_t offset, const std::string& data, bool durable = false);
Operation flush(FileId file);
std::string content(Store& store, FileId file);

/// Remembers what a folder told.
class Events final : public FolderEvents {
  public:
    void session_opened(SessionId session) override;
    void session_lost(SessionId session, const std::string& why, bool apply_failed) override;
    void resync_finished(SessionId session) override;
    void local_store_failed(const std::string& why) override;
    void note(const std::string& text) override;
    void peer_heard() override;

    /// Waits until something began with this; everything up to it is forgotten.
    std::string wait_for(const std::string& beginning);
    bool has(const std::string& beginning) const;

  private:
    void tell(std::string text);

    mutable std::mutex mutex_;
    std::condition_variable told_;
    std::vector<std::string> all_;
};

/// A store whose next operations can be made to fail or to wait.
class FaultStore final : public Store {
  public:
    explicit FaultStore(std::unique_ptr<Store> real) : real_(std::move(real)) {}

    /// Asked before each operation; an errno fails it. May block.
    void set_fault(std::function<int(const Operation&)> fault);

    base::Result<FileId> lookup(FileId directory, std::string_view name) override {
        return real_->lookup(directory, name);
    }

    base::Result<Attributes> attributes(FileId file) override { return real_->attributes(file); }

    base::Result<std::vector<Entry>> list(FileId directory) override {
        return real_->list(directory);
    }

    base::Result<std::string> read_link(FileId file) override { return real_->read_link(file); }

    base::Result<std::size_t> read(FileId file,
                                   std::uint64_t offset,
                                   std::span<std::byte> into) override {
        return real_->read(file, offset, into);
    }

    base::Result<std::vector<std::string>> xattr_names(FileId file) override {
        return real_->xattr_names(file);
    }

    base::Result<std::vector<std::byte>> xattr(FileId file, const std::string& name) override {
        return real_->xattr(file, name);
    }

    base::Result<Space> space() override;

    base::Result<std::vector<Extent>> data_extents(FileId file,
                                                   std::uint64_t offset,
                                                   std::uint64_t length) override {
        return real_->data_extents(file, offset, length);
    }

    base::Result<std::uint64_t> seek(FileId file, std::uint64_t offset, int whence) override {
        return real_->seek(file, offset, whence);
    }

    base::Result<void> hold(FileId file) override { return real_->hold(file); }

    void release(FileId file) noexcept override { real_->release(file); }

    [[nodiscard]] bool is_orphan(FileId file) const override { return real_->is_orphan(file); }

    [[nodiscard]] bool knows(FileId file) const override { return real_->knows(file); }

    base::Result<void> apply(const Operation& operation) override;

    void for_each(const std::function<void(FileId, NodeType, const std::vector<NameOf>&)>& visit)
        const override {
        real_->for_each(visit);
    }

    [[nodiscard]] std::vector<NameOf> names(FileId file) const override {
        return real_->names(file);
    }

    [[nodiscard]] std::string path_of(FileId file) const override { return real_->path_of(file); }

    base::Result<void> stage(FileId parent, const std::string& name) override {
        return real_->stage(parent, name);
    }

    base::Result<void> unstage(FileId file, FileId parent, const std::string& name) override {
        return real_->unstage(file, parent, name);
    }

    base::Result<void> clear_stage() override { return real_->clear_stage(); }

    base::Result<void> copy_out(FileId file, const std::filesystem::path& target) override {
        return real_->copy_out(file, target);
    }

    /// What space() says is free; nullopt: the truth.
    void set_free(std::optional<std::uint64_t> bytes);

  private:
    std::unique_ptr<Store> real_;
    mutable std::mutex mutex_;
    std::function<int(const Operation&)> fault_;
    std::optional<std::uint64_t> free_;
};

/// A gate that a thread can be made to wait at.
class Gate {
  public:
    void wait_until_open();
    void wait_until_somebody_waits();
    void open();

  private:
    std::mutex mutex_;
    std::condition_variable changed_;
    bool open_ = false;
    int waiting_ = 0;
};

/// Both ends of one module. The follower accepts as soon as connect() is called.
class Pair final : private ChannelAcceptor {
  public:
    explicit Pair(Durability durability = Durability::flush_durable, FolderFaults faults = {});
    ~Pair() override;

    void connect(SyncMode mode = SyncMode::checksum);
    /// Connects and waits until both have the same.
    void synchronise(SyncMode mode = SyncMode::checksum);
    /// Waits for everything in flight, sets times, and compares. Empty when equal.
    std::string difference();
    /// Everything the follower received is given up, and it begins anew on the same folder.
    void restart_follower();

    ScratchDirectory leader_directory{"safepair-leader"};
    ScratchDirectory follower_directory{"safepair-follower"};
    std::unique_ptr<FaultStore> leader_store;
    std::unique_ptr<FaultStore> follower_store;
    Events leader_events;
    Events follower_events;
    std::unique_ptr<Leader> leader;
    std::unique_ptr<Follower> follower;
    SessionId session;

  private:
    bool accept(const ChannelHello& hello, base::UniqueFd connection) override;
    void make_follower(DirtyMap dirty);

    ChannelKey key_{};
    std::unique_ptr<DataListener> listener_;
    std::unique_ptr<EventQueue> leader_queue_;
    std::unique_ptr<EventQueue> follower_queue_;
};

}  // namespace safepair::tests
