#include "resync_support.hpp"

#include "support/catch.hpp"

#include <algorithm>
#include <array>
#include <cstring>

#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <sys/xattr.h>

namespace safepair::tests {

namespace {

constexpr std::int64_t base_time = 1'700'000'000'000'000'000;

std::span<const std::byte> bytes_of(const std::string& text) {
    return std::as_bytes(std::span(text.data(), text.size()));
}

std::string content_of(Store& store, FileId file, std::uint64_t size) {
    std::string text(size, '\0');
    const auto got = store.read(file, 0, std::as_writable_bytes(std::span(text)));
    return got ? text.substr(0, *got) : got.error().message();
}

std::vector<std::pair<std::string, FileId>> names_of(Store& store) {
    std::vector<std::pair<std::string, FileId>> names;
    store.for_each([&](FileId file, NodeType, const std::vector<NameOf>& all) {
        for (const auto& name : all) {
            names.emplace_back(base::to_string(name.parent) + "/" + name.name, file);
        }
    });
    std::sort(names.begin(), names.end());
    return names;
}

std::string xattrs_of(Store& store, FileId file) {
    std::string all;
    const auto names = store.xattr_names(file);
    if (!names) {
        return names.error().message();
    }
    for (const auto& name : *names) {
        const auto value = store.xattr(file, name);
        all += name + "=";
        for (const auto byte : value.value_or({})) {
            all += std::to_string(static_cast<int>(byte)) + ",";
        }
    }
    return all;
}

std::string object_difference(Store& left, Store& right, FileId file) {
    const auto a = left.attributes(file);
    const auto b = right.attributes(file);
    if (!a || !b) {
        return "attributes unreadable";
    }
    if (a->type != b->type || a->rdev != b->rdev) {
        return "type";
    }
    if (a->mode != b->mode) {
        return "mode " + std::to_string(a->mode) + " " + std::to_string(b->mode);
    }
    if (a->uid != b->uid || a->gid != b->gid) {
        return "owner";
    }
    if (a->type != NodeType::directory && a->links != b->links) {
        return "links";
    }
    if (const auto x = xattrs_of(left, file), y = xattrs_of(right, file); x != y) {
        return "xattrs " + x + " " + y;
    }
    if (a->type == NodeType::symlink && *left.read_link(file) != *right.read_link(file)) {
        return "target";
    }
    if (a->type == NodeType::file) {
        if (a->size != b->size) {
            return "size " + std::to_string(a->size) + " " + std::to_string(b->size);
        }
        const auto x = content_of(left, file, a->size);
        const auto y = content_of(right, file, b->size);
        if (x != y) {
            const auto at = std::mismatch(x.begin(), x.end(), y.begin()).first - x.begin();
            return "content at " + std::to_string(at) + " of " + std::to_string(a->size);
        }
    }
    if (a->modified != b->modified) {
        return "mtime " + std::to_string(a->modified) + " " + std::to_string(b->modified);
    }
    return "";
}

void mark(DirtyMap& map, Store& store, const Operation& operation, std::uint64_t old_size) {
    switch (operation.kind) {
        case OperationKind::write:
            map.mark(operation.file, operation.offset, operation.data.size());
            break;
        case OperationKind::allocate:
            map.mark(operation.file, operation.offset, operation.length);
            break;
        case OperationKind::set_attributes:
            map.touch(operation.file);
            if ((operation.valid & attribute::size) != 0) {
                const auto size = operation.attributes.size;
                const auto low = std::min(size, old_size);
                map.mark(operation.file, low, std::max(size, old_size) - low);
            }
            break;
        case OperationKind::set_xattr:
        case OperationKind::remove_xattr:
            map.touch(operation.file);
            break;
        case OperationKind::create:
            map.touch(operation.file);
            map.note_tree_change();
            break;
        default:
            map.note_tree_change();
            break;
    }
    static_cast<void>(store);
}

}  // namespace

bool has_trusted_xattrs() {
    const ScratchDirectory probe;
    if (lsetxattr(probe.path().c_str(), "trusted.safepair.probe", "1", 1, 0) == 0) {
        return true;
    }
    WARN("SKIPPED: no trusted xattrs in " << probe.path() << " (needs root)");
    return false;
}

// Copy

Copy::Copy() { reopen(); }

std::vector<FileId> Copy::reopen() {
    store_.reset();
    std::vector<FileId> fresh;
    auto opened = open_posix_store(directory_.path(), &fresh);
    if (!opened) {
        FAIL(opened.error().message());
    }
    store_ = std::move(*opened);
    return fresh;
}

int Copy::apply(const Operation& operation) {
    const auto before = store_->attributes(operation.file);
    const auto done = store_->apply(operation);
    if (!done) {
        return done.error().code.value();
    }
    mark(map, *store_, operation, before ? before->size : 0);
    return 0;
}

FileId Copy::create(FileId parent, const std::string& name, NodeType type, std::uint32_t mode) {
    Operation operation;
    operation.kind = OperationKind::create;
    operation.parent = parent;
    operation.name = name;
    operation.file = base::random_id<FileId>();
    operation.attributes.type = type;
    operation.attributes.mode = mode;
    operation.text = type == NodeType::symlink ? "some/target of " + name : "";
    operation.attributes.rdev = type == NodeType::character_device ? 0x103 : 0;
    operation.time = base_time;
    REQUIRE(apply(operation) == 0);
    return operation.file;
}

FileId Copy::file(FileId parent, const std::string& name, const std::string& content) {
    const auto made = create(parent, name, NodeType::file);
    REQUIRE(write(made, 0, content) == 0);
    return made;
}

FileId Copy::directory(FileId parent, const std::string& name) {
    return create(parent, name, NodeType::directory, 0755);
}

int Copy::write(FileId file, std::uint64_t offset, const std::string& content) {
    Operation operation;
    operation.kind = OperationKind::write;
    operation.file = file;
    operation.offset = offset;
    operation.data = bytes_of(content);
    return apply(operation);
}

int Copy::truncate(FileId file, std::uint64_t size) {
    Operation operation;
    operation.kind = OperationKind::set_attributes;
    operation.file = file;
    operation.valid = attribute::size;
    operation.attributes.size = size;
    return apply(operation);
}

int Copy::punch(FileId file, std::uint64_t offset, std::uint64_t length) {
    Operation operation;
    operation.kind = OperationKind::allocate;
    operation.file = file;
    operation.offset = offset;
    operation.length = length;
    operation.flags = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
    return apply(operation);
}

int Copy::rename(FileId parent,
                 const std::string& name,
                 FileId new_parent,
                 const std::string& new_name,
                 std::uint32_t flags) {
    Operation operation;
    operation.kind = OperationKind::rename;
    operation.parent = parent;
    operation.name = name;
    operation.new_parent = new_parent;
    operation.new_name = new_name;
    operation.flags = flags;
    return apply(operation);
}

int Copy::link(FileId file, FileId parent, const std::string& name) {
    Operation operation;
    operation.kind = OperationKind::link;
    operation.file = file;
    operation.parent = parent;
    operation.name = name;
    return apply(operation);
}

int Copy::remove(FileId parent, const std::string& name) {
    Operation operation;
    const auto attributes = store_->attributes(find(parent, name));
    operation.kind = attributes && attributes->type == NodeType::directory ? OperationKind::rmdir
                                                                           : OperationKind::unlink;
    operation.parent = parent;
    operation.name = name;
    return apply(operation);
}

int Copy::set_xattr(FileId file, const std::string& name, const std::string& value) {
    Operation operation;
    operation.kind = OperationKind::set_xattr;
    operation.file = file;
    operation.name = name;
    operation.data = bytes_of(value);
    return apply(operation);
}

int Copy::chmod(FileId file, std::uint32_t mode) {
    Operation operation;
    operation.kind = OperationKind::set_attributes;
    operation.file = file;
    operation.valid = attribute::mode;
    operation.attributes.mode = mode;
    return apply(operation);
}

std::string Copy::read(FileId file) {
    const auto attributes = store_->attributes(file);
    return attributes ? content_of(*store_, file, attributes->size) : attributes.error().message();
}

FileId Copy::find(FileId parent, const std::string& name) {
    const auto found = store_->lookup(parent, name);
    return found ? *found : FileId{};
}

std::string sample_acl(unsigned permissions) {
    // linux/posix_acl_xattr.h: version 2; user, user 1234, group, mask, other.
    constexpr std::uint32_t nobody = 0xFFFFFFFF;

    struct Entry {
        std::uint16_t tag;
        std::uint16_t bits;
        std::uint32_t id;
    };

    const auto bits = static_cast<std::uint16_t>(permissions & 7U);
    const std::array<Entry, 5> entries{Entry{1, 6, nobody},
                                       Entry{2, bits, 1234},
                                       Entry{4, 4, nobody},
                                       Entry{16, bits, nobody},
                                       Entry{32, 0, nobody}};
    std::string value("\x02\0\0\0", 4);
    value.append(reinterpret_cast<const char*>(entries.data()), sizeof entries);
    return value;
}

std::string difference(Store& left, Store& right) {
    const auto a = names_of(left);
    const auto b = names_of(right);
    if (a != b) {
        const auto [x, y] = std::mismatch(a.begin(), a.end(), b.begin(), b.end());
        return "names: " + (x == a.end() ? "none" : x->first) + " | " +
               (y == b.end() ? "none" : y->first);
    }
    auto root = object_difference(left, right, root_file);
    if (!root.empty()) {
        return "root: " + root;
    }
    for (const auto& [name, file] : a) {
        auto found = object_difference(left, right, file);
        if (!found.empty()) {
            return left.path_of(file) + ": " + found;
        }
    }
    return "";
}

// Random operations

namespace {

const std::vector<std::string>& name_pool() {
    static const std::vector<std::string> names{"a",
                                                "b",
                                                "c",
                                                "d",
                                                "e",
                                                "f",
                                                " ",
                                                "-rf",
                                                "x\ny",
                                                "\xff\xfe",
                                                "caf\xc3\xa9",
                                                "...",
                                                "\\",
                                                std::string(255, 'n')};
    return names;
}

FileId random_object(base::Prng& prng, Store& store, bool wants_directory) {
    std::vector<FileId> all{root_file};
    store.for_each([&](FileId file, NodeType type, const std::vector<NameOf>&) {
        if (!wants_directory || type == NodeType::directory) {
            all.push_back(file);
        }
    });
    // for_each has no order of its own.
    std::sort(all.begin(), all.end());
    return all[prng.below(all.size())];
}

NameOf random_name(base::Prng& prng, Store& store) {
    const auto names = names_of(store);
    if (names.empty() || prng.chance(1, 20)) {
        return {root_file, "a"};
    }
    const auto& chosen = names[prng.below(names.size())];
    for (const auto& name : store.names(chosen.second)) {
        if (base::to_string(name.parent) + "/" + name.name == chosen.first) {
            return name;
        }
    }
    return {root_file, "a"};
}

void randomize_data_operation(base::Prng& prng,
                              Store& store,
                              std::vector<std::byte>& data,
                              Operation& operation) {
    operation.file = random_object(prng, store, false);
    operation.offset = prng.below(5) * 60'000 + prng.below(1000);
    switch (prng.below(4)) {
        case 0:
            operation.kind = OperationKind::set_attributes;
            operation.valid = attribute::size;
            operation.attributes.size = prng.below(4) * 70'000;
            break;
        case 1:
            operation.kind = OperationKind::allocate;
            operation.flags = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
            operation.length = 1 + prng.below(150'000);
            break;
        default:
            operation.kind = OperationKind::write;
            data.assign(1 + prng.below(100'000), static_cast<std::byte>(prng.below(256)));
            operation.data = data;
            break;
    }
}

void randomize_attribute_operation(base::Prng& prng,
                                   Store& store,
                                   std::vector<std::byte>& data,
                                   Operation& operation) {
    operation.file = random_object(prng, store, false);
    switch (prng.below(5)) {
        case 0:
            operation.kind = OperationKind::set_attributes;
            operation.valid = attribute::mode;
            operation.attributes.mode = static_cast<std::uint32_t>(prng.below(010000));
            break;
        case 1:
            operation.kind = OperationKind::set_attributes;
            operation.valid = attribute::owner | attribute::group;
            operation.attributes.uid = static_cast<std::uint32_t>(prng.below(3));
            operation.attributes.gid = static_cast<std::uint32_t>(prng.below(3));
            break;
        case 2:
            operation.kind = OperationKind::remove_xattr;
            operation.name = prng.chance(1, 2) ? "trusted.one" : "system.posix_acl_default";
            break;
        case 3: {
            operation.kind = OperationKind::set_xattr;
            operation.name =
                prng.chance(1, 2) ? "system.posix_acl_access" : "system.posix_acl_default";
            const auto acl = sample_acl(static_cast<unsigned>(prng.below(8)));
            const auto bytes = bytes_of(acl);
            data.assign(bytes.begin(), bytes.end());
            operation.data = data;
            break;
        }
        default:
            operation.kind = OperationKind::set_xattr;
            operation.name = prng.chance(1, 2) ? "trusted.one" : "trusted.two";
            data.assign(prng.below(40), static_cast<std::byte>(prng.below(256)));
            operation.data = data;
            break;
    }
}

void randomize_name_operation(base::Prng& prng, Store& store, Operation& operation) {
    const auto name = random_name(prng, store);
    operation.parent = name.parent;
    operation.name = name.name;
    operation.new_parent = random_object(prng, store, true);
    operation.new_name = name_pool()[prng.below(name_pool().size())];
    switch (prng.below(8)) {
        case 0:
            operation.kind = OperationKind::unlink;
            break;
        case 1:
            operation.kind = OperationKind::rmdir;
            break;
        case 2:
            operation.kind = OperationKind::link;
            operation.file = random_object(prng, store, false);
            operation.parent = operation.new_parent;
            operation.name = operation.new_name;
            break;
        case 3: {
            operation.kind = OperationKind::rename;
            const auto other = random_name(prng, store);
            operation.new_parent = other.parent;
            operation.new_name = other.name;
            operation.flags = RENAME_EXCHANGE;
            break;
        }
        default:
            operation.kind = OperationKind::rename;
            break;
    }
}

}  // namespace

Operation random_operation(base::Prng& prng, Store& store, std::vector<std::byte>& data) {
    Operation operation;
    operation.time = base_time + static_cast<std::int64_t>(prng.below(1'000'000'000));
    const auto kind = prng.below(10);
    if (kind < 3) {
        operation.kind = OperationKind::create;
        operation.parent = random_object(prng, store, true);
        operation.name = name_pool()[prng.below(name_pool().size())];
        for (auto& byte : operation.file.bytes) {
            byte = static_cast<std::uint8_t>(prng.below(256));
        }
        constexpr std::array types{NodeType::file,
                                   NodeType::file,
                                   NodeType::file,
                                   NodeType::directory,
                                   NodeType::directory,
                                   NodeType::directory,
                                   NodeType::symlink,
                                   NodeType::fifo,
                                   NodeType::socket,
                                   NodeType::character_device};
        auto& attributes = operation.attributes;
        attributes.type = types[prng.below(types.size())];
        attributes.mode = static_cast<std::uint32_t>(prng.below(01000));
        attributes.rdev = attributes.type == NodeType::character_device ? 0x103 : 0;
        operation.text = attributes.type == NodeType::symlink ? "../" + operation.name : "";
    } else if (kind < 6) {
        randomize_data_operation(prng, store, data, operation);
    } else if (kind < 7) {
        randomize_attribute_operation(prng, store, data, operation);
    } else {
        randomize_name_operation(prng, store, operation);
    }
    return operation;
}

// FakeLink

class FakeLink::Held final : public ResyncLink::Lock {
  public:
    Held(FakeLink& link, FileId file, std::uint64_t begin, std::uint64_t end, bool everything)
        : link_(link), file_(file), begin_(begin), end_(end), everything_(everything) {
        link_.held_.push_back(this);
    }

    ~Held() override {
        link_.held_.erase(std::find(link_.held_.begin(), link_.held_.end(), this));
        link_.gap();
    }

    Held(const Held&) = delete;
    Held& operator=(const Held&) = delete;

    [[nodiscard]] bool covers(const ResyncRecord& record) const {
        if (everything_) {
            return true;
        }
        const auto& operation = record.operation;
        const auto length =
            operation.kind == OperationKind::write ? operation.data.size() : operation.length;
        return record.kind == ResyncRecord::Kind::block && operation.file == file_ &&
               operation.offset >= begin_ && operation.offset + length <= end_;
    }

  private:
    FakeLink& link_;
    FileId file_;
    std::uint64_t begin_;
    std::uint64_t end_;
    bool everything_;
};

FakeLink::FakeLink(Copy& leader, Copy& follower)
    : leader_(leader),
      follower_(follower),
      target_(follower.store(), [this] { return follower_.map; }) {}

std::unique_ptr<ResyncLink::Lock> FakeLink::lock_range(FileId file,
                                                       std::uint64_t offset,
                                                       std::uint64_t length) {
    gap();
    return std::make_unique<Held>(*this, file, offset, offset + length, false);
}

std::unique_ptr<ResyncLink::Lock> FakeLink::lock_everything() {
    gap();
    return std::make_unique<Held>(*this, FileId{}, 0, 0, true);
}

base::Result<void> FakeLink::send(const ResyncRecord& record) {
    if (fail_after == 0) {
        return base::error(base::Errc::peer_unreachable, "the test cut the link");
    }
    fail_after -= fail_after > 0 ? 1 : 0;
    const bool locked = std::any_of(
        held_.begin(), held_.end(), [&](const Held* lock) { return lock->covers(record); });
    if (!locked) {
        complaints.push_back("sent without a lock: " +
                             leader_.store().path_of(record.operation.file));
    }
    ++(record.kind == ResyncRecord::Kind::block ? blocks_sent : names_sent);
    enqueue(record, false);
    while (queue_.size() > lag) {
        apply_first();
    }
    return {};
}

void FakeLink::ask(std::span<const std::byte> question, Answer answer) {
    gap();
    ++questions;
    drain();
    if (question.size() > limits::record_bytes_max) {
        complaints.emplace_back("question too long");
    }
    auto answered = target_.answer(question);
    if (answered && answered->size() > limits::record_bytes_max) {
        complaints.emplace_back("answer too long");
    }
    answer(std::move(answered));
    gap();
}

DirtyMap FakeLink::attach_application() {
    if (held_.empty()) {
        complaints.emplace_back("attached without a lock");
    }
    attached_ = true;
    return leader_.map;
}

base::Result<void> FakeLink::flush_both() {
    drain();
    flushed = true;
    return {};
}

void FakeLink::application(const Operation& operation) {
    ResyncRecord record;
    record.kind = ResyncRecord::Kind::operation;
    record.operation = operation;
    if (leader_.apply(operation) != 0) {
        return;
    }
    if (attached_) {
        enqueue(record, true);
    }
    const bool is_data = operation.kind == OperationKind::write ||
                         operation.kind == OperationKind::allocate ||
                         operation.kind == OperationKind::set_attributes;
    if (!is_data) {
        return;
    }
    Operation times;
    times.kind = OperationKind::set_attributes;
    times.file = operation.file;
    times.valid = attribute::modified;
    times.attributes.modified = operation.time;
    REQUIRE(leader_.apply(times) == 0);
    if (attached_) {
        record.operation = times;
        enqueue(record, true);
    }
}

void FakeLink::drain() {
    while (!queue_.empty()) {
        apply_first();
    }
}

void FakeLink::enqueue(const ResyncRecord& record, bool application) {
    Queued queued{
        record, {record.operation.data.begin(), record.operation.data.end()}, application};
    queue_.push_back(std::move(queued));
    longest_queue = std::max(longest_queue, queue_.size());
}

void FakeLink::apply_first() {
    auto queued = std::move(queue_.front());
    queue_.pop_front();
    queued.record.operation.data = queued.data;
    const auto applied = queued.application ? follower_.store().apply(queued.record.operation)
                                            : apply_resync_record(follower_.store(), queued.record);
    if (!applied) {
        complaints.push_back(applied.error().message());
    }
}

void FakeLink::gap() {
    if (at_gap && held_.empty() && !in_gap_) {
        in_gap_ = true;
        at_gap();
        in_gap_ = false;
    }
}

ResyncResult resync(FakeLink& link, Copy& leader, Copy& follower, SyncMode mode) {
    ResyncOptions options;
    options.mode = mode;
    options.now = [] { return base::Instant{}; };
    DirtyMap merged;
    Resync run(options, leader.store(), leader.map, link, [&](const DirtyMap& map) {
        merged = map;
        return base::Result<void>();
    });
    const auto result = run.run();
    if (!result) {
        FAIL(result.error().message());
    }
    CHECK(link.flushed);
    for (const auto& complaint : link.complaints) {
        FAIL_CHECK(complaint);
    }
    CHECK_FALSE(run.progress().running);
    CHECK(run.progress().bytes_done == run.progress().bytes_total);
    leader.map.clear();
    follower.map.clear();
    return *result;
}

ResyncResult resync(Copy& leader, Copy& follower, SyncMode mode) {
    FakeLink link(leader, follower);
    return resync(link, leader, follower, mode);
}

}  // namespace safepair::tests
