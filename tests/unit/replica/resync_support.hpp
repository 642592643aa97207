#pragma once

#include "io/resync.hpp"
#include "io/resync_target.hpp"
#include "support/scratch_directory.hpp"

#include <safepair/base/prng.hpp>
#include <safepair/replica/dirty_map.hpp>
#include <safepair/replica/store.hpp>

#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <vector>

/// Two copies of a folder in one process, and a link between them on which the application comes
/// along at chosen points.
namespace safepair::tests {

using namespace safepair::replica;

/// False, with the word for ctest, when the temporary directory cannot keep identities.
bool has_trusted_xattrs();

/// One copy, the operations on it, and the map of what they changed.
class Copy {
  public:
    Copy();
    /// As after a restart: scans.
    std::vector<FileId> reopen();

    Store& store() { return *store_; }

    const std::filesystem::path& path() const { return directory_.path(); }

    /// 0 or errno; what was done is in the map, as the engine would have it.
    int apply(const Operation& operation);
    FileId create(FileId parent, const std::string& name, NodeType type, std::uint32_t mode = 0644);
    FileId file(FileId parent, const std::string& name, const std::string& content);
    FileId directory(FileId parent, const std::string& name);
    int write(FileId file, std::uint64_t offset, const std::string& content);
    int truncate(FileId file, std::uint64_t size);
    int punch(FileId file, std::uint64_t offset, std::uint64_t length);
    int rename(FileId parent,
               const std::string& name,
               FileId new_parent,
               const std::string& new_name,
               std::uint32_t flags = 0);
    int link(FileId file, FileId parent, const std::string& name);
    int remove(FileId parent, const std::string& name);
    int set_xattr(FileId file, const std::string& name, const std::string& value);
    int chmod(FileId file, std::uint32_t mode);
    std::string read(FileId file);
    FileId find(FileId parent, const std::string& name);

    DirtyMap map;

  private:
    ScratchDirectory directory_{"safepair-resync"};
    std::unique_ptr<Store> store_;
};

/// An access ACL (or, for a directory, a default one) that gives user 1234 some permissions.
std::string sample_acl(unsigned permissions);

/// Empty when the copies are equal in what R25 names; otherwise what differs first.
std::string difference(Store& left, Store& right);

/// A random operation that may or may not be possible.
Operation random_operation(base::Prng& prng, Store& store, std::vector<std::byte>& data);

/// Records travel through a queue and are applied when a question is asked, or when more than `lag`
/// wait.
class FakeLink final : public ResyncLink {
  public:
    FakeLink(Copy& leader, Copy& follower);

    std::unique_ptr<Lock> lock_range(FileId file,
                                     std::uint64_t offset,
                                     std::uint64_t length) override;
    std::unique_ptr<Lock> lock_everything() override;
    base::Result<void> send(const ResyncRecord& record) override;
    void ask(std::span<const std::byte> question, Answer answer) override;
    DirtyMap attach_application() override;
    base::Result<void> flush_both() override;

    bool cancelled() const override { return is_cancelled; }

    /// An application's operation: applied here, and shipped once attached. Its mtime is made
    /// equal, as the engine does.
    void application(const Operation& operation);
    void drain();

    /// Called whenever the application could get in between: no lock is held.
    std::function<void()> at_gap;
    std::size_t lag = 0;
    bool is_cancelled = false;
    /// The n-th send from now fails; negative: none.
    int fail_after = -1;
    std::size_t questions = 0;
    std::size_t blocks_sent = 0;
    std::size_t names_sent = 0;
    std::size_t longest_queue = 0;
    bool flushed = false;
    /// A record that was sent without the lock it needs, or an apply error.
    std::vector<std::string> complaints;

  private:
    class Held;

    struct Queued {
        ResyncRecord record;
        std::vector<std::byte> data;
        bool application = false;
    };

    void enqueue(const ResyncRecord& record, bool application);
    void apply_first();
    void gap();

    Copy& leader_;
    Copy& follower_;
    ResyncTarget target_;
    std::deque<Queued> queue_;
    std::vector<const Held*> held_;
    bool attached_ = false;
    bool in_gap_ = false;
};

/// A whole resync; fails the test on an error of resync or link. Both maps are empty afterwards.
ResyncResult resync(Copy& leader, Copy& follower, SyncMode mode);
ResyncResult resync(FakeLink& link, Copy& leader, Copy& follower, SyncMode mode);

}  // namespace safepair::tests
