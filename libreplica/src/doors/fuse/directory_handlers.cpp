#include "doors/fuse/handlers.hpp"
#include "store/identity.hpp"

#include <cerrno>
#include <mutex>
#include <string>
#include <vector>

namespace safepair::replica::fuse_door {

namespace {

/// Lookups that the kernel will own once it has the reply that counts them; given back when it
/// never gets it.
class PendingLookups {
  public:
    explicit PendingLookups(InodeTable& table) : table_(&table) {}

    PendingLookups(PendingLookups&& other) noexcept
        : table_(other.table_), numbers_(std::move(other.numbers_)) {
        other.numbers_.clear();
    }

    PendingLookups(const PendingLookups&) = delete;
    PendingLookups& operator=(const PendingLookups&) = delete;
    PendingLookups& operator=(PendingLookups&&) = delete;

    ~PendingLookups() {
        for (const auto number : numbers_) {
            table_->forget(number, 1);
        }
    }

    void add(fuse_ino_t number) { numbers_.push_back(number); }

    void drop_last() {
        table_->forget(numbers_.back(), 1);
        numbers_.pop_back();
    }

    void keep() { numbers_.clear(); }

  private:
    InodeTable* table_;
    std::vector<fuse_ino_t> numbers_;
};

void opendir(Session& session, Reply reply, fuse_ino_t number, fuse_file_info* info) {
    const auto inode = session.inodes().find(number);
    if (inode == nullptr) {
        return reply.error(ESTALE);
    }
    // Access::parallel: directories are not in the page cache.
    const auto handle = session.handles().open(session.store(), inode, Access::parallel, false);
    if (!handle) {
        return reply.error(errno_of(handle.error()));
    }
    info->fh = HandleTable::number(*handle);
    if (fuse_reply_open(reply.take(), info) != 0) {
        session.handles().close(session.front(), *handle);
    }
}

void releasedir(Session& session, Reply reply, fuse_ino_t /*number*/, fuse_file_info* info) {
    session.handles().close(session.front(), &HandleTable::of(info->fh));
    reply.error(0);
}

/// What the directory holds, as of now; kept until reading starts over, so that positions stay what
/// they were while names come and go.
base::Result<void> take_snapshot(Session& session, Handle& handle) {
    const auto file = handle.inode->file;
    SAFEPAIR_TRY(handle.entries, session.store().list(file));
    const auto names = session.store().names(file);
    handle.parent = names.empty() ? root_file : names.front().parent;
    return {};
}

/// One READDIR or READDIRPLUS in the making. Position n is the n-th entry: ".", "..", then the
/// snapshot.
struct Listing {
    Session& session;
    Handle& handle;
    bool plus;
    std::size_t size;
    std::vector<char> buffer;
    std::vector<Footprint> looked_at;
    PendingLookups lookups;

    /// False when there is no room left for it.
    bool append(const char* name, const fuse_entry_param& entry, std::size_t position) {
        const auto used = buffer.size();
        const auto room = size - used;
        buffer.resize(size);
        const auto next = static_cast<off_t>(position + 1);
        // libfuse asks for a request here and uses nothing of it.
        const auto needed =
            plus ? fuse_add_direntry_plus(nullptr, buffer.data() + used, room, name, &entry, next)
                 : fuse_add_direntry(nullptr, buffer.data() + used, room, name, &entry.attr, next);
        buffer.resize(needed > room ? used : used + needed);
        return needed <= room;
    }

    bool append_dot(const char* name, FileId file, std::size_t position) {
        // No number: the kernel takes type and inode only.
        fuse_entry_param entry{};
        entry.attr.st_ino = visible_number(file);
        entry.attr.st_mode = type_bits(NodeType::directory);
        return append(name, entry, position);
    }

    bool append_entry(const Entry& found, std::size_t position) {
        fuse_entry_param entry{};
        entry.attr.st_ino = visible_number(found.file);
        entry.attr.st_mode = type_bits(found.type);
        if (!plus) {
            return append(found.name.c_str(), entry, position);
        }
        // Gone since the snapshot: told by name alone, as without READDIRPLUS.
        const auto attributes = session.store().attributes(found.file);
        const auto still = session.store().lookup(handle.inode->file, found.name);
        if (!attributes || !still || *still != found.file) {
            return append(found.name.c_str(), entry, position);
        }
        const auto inode = session.inodes().remember(found.file);
        lookups.add(inode->number);
        entry = to_entry(session, *inode, *attributes);
        if (!append(found.name.c_str(), entry, position)) {
            lookups.drop_last();
            return false;
        }
        looked_at.push_back({found.file, 0, 0, Footprint::Kind::metadata});
        return true;
    }

    void fill(std::size_t position) {
        const auto count = handle.entries.size() + 2;
        bool room = true;
        for (; room && position < count; ++position) {
            if (position == 0) {
                room = append_dot(".", handle.inode->file, position);
            } else if (position == 1) {
                room = append_dot("..", handle.parent, position);
            } else {
                room = append_entry(handle.entries[position - 2], position);
            }
        }
    }
};

void read_directory(Session& session,
                    Reply reply,
                    std::size_t size,
                    off_t offset,
                    const fuse_file_info* info,
                    bool plus) {
    auto& handle = HandleTable::of(info->fh);
    const Footprint names{handle.inode->file, 0, 0, Footprint::Kind::names};
    Listing listing{session, handle, plus, size, {}, {names}, PendingLookups(session.inodes())};
    {
        const std::lock_guard lock(handle.mutex);
        if (offset == 0) {
            if (auto taken = take_snapshot(session, handle); !taken) {
                return reply.error(errno_of(taken.error()));
            }
        }
        listing.buffer.reserve(size);
        listing.fill(static_cast<std::size_t>(offset));
    }
    session.fence(std::move(reply),
                  listing.looked_at,
                  [buffer = std::move(listing.buffer),
                   lookups = std::move(listing.lookups)](Reply answer) mutable {
                      if (fuse_reply_buf(answer.take(), buffer.data(), buffer.size()) == 0) {
                          lookups.keep();
                      }
                  });
}

void readdir(Session& session,
             Reply reply,
             fuse_ino_t /*number*/,
             std::size_t size,
             off_t offset,
             fuse_file_info* info) {
    read_directory(session, std::move(reply), size, offset, info, false);
}

void readdirplus(Session& session,
                 Reply reply,
                 fuse_ino_t /*number*/,
                 std::size_t size,
                 off_t offset,
                 fuse_file_info* info) {
    read_directory(session, std::move(reply), size, offset, info, true);
}

}  // namespace

void add_directory_handlers(fuse_lowlevel_ops& operations) {
    operations.opendir = guarded<&opendir>;
    operations.releasedir = guarded<&releasedir>;
    operations.readdir = guarded<&readdir>;
    operations.readdirplus = guarded<&readdirplus>;
}

}  // namespace safepair::replica::fuse_door
