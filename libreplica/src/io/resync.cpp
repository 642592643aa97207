#include "io/resync.hpp"

#include "io/block_copier.hpp"
#include "io/digest_scan.hpp"
#include "io/resync_question.hpp"
#include "io/tree_listing.hpp"

#include <algorithm>
#include <thread>
#include <utility>

namespace safepair::replica {

namespace {

/// Objects whose times are set under one lock.
constexpr std::size_t times_batch = 512;
/// Goes with every write to a file, whoever writes (capabilities(7)).
const std::string capability_attribute = "security.capability";

base::Error cancelled() { return base::error(base::Errc::cancelled, "resync: the session ended"); }

}  // namespace

void pause_thread(base::Duration duration) { std::this_thread::sleep_for(duration); }

Resync::Resync(ResyncOptions options,
               Store& mine,
               DirtyMap dirty,
               ResyncLink& link,
               std::function<base::Result<void>(const DirtyMap&)> merge)
    : options_(std::move(options)),
      mine_(mine),
      dirty_(std::move(dirty)),
      link_(link),
      merge_(std::move(merge)),
      progress_(options_.now) {}

base::Result<ResyncResult> Resync::run() {
    progress_.begin(options_.mode);
    auto result = run_phases();
    progress_.end();
    return result;
}

base::Result<ResyncResult> Resync::run_phases() {
    SAFEPAIR_CHECK(merge_maps());
    SAFEPAIR_CHECK(sync_names());
    SAFEPAIR_TRY(const auto result, sync_data());
    SAFEPAIR_CHECK(link_.flush_both());
    return result;
}

// Before the application is held

base::Result<void> Resync::merge_maps() {
    DirtyMap theirs;
    std::uint32_t pieces = 1;
    for (std::uint32_t index = 0; index < pieces; ++index) {
        if (link_.cancelled()) {
            return cancelled();
        }
        Question question;
        question.kind = Question::Kind::map;
        question.index = index;
        SAFEPAIR_TRY(const auto bytes, PendingAnswer::ask(link_, question).wait());
        SAFEPAIR_TRY(const auto answer, decode_map_answer(bytes));
        SAFEPAIR_TRY(const auto piece, DirtyMap::decode(answer.piece));
        theirs.merge(piece);
        pieces = answer.pieces;
    }
    SAFEPAIR_CHECK(merge_(theirs));
    dirty_.merge(theirs);
    return {};
}

base::Result<Tree> Resync::fetch_tree() {
    Tree tree;
    bool last = false;
    for (std::uint32_t index = 0; !last; ++index) {
        if (link_.cancelled()) {
            return cancelled();
        }
        Question question;
        question.kind = Question::Kind::tree;
        question.index = index;
        SAFEPAIR_TRY(const auto bytes, PendingAnswer::ask(link_, question).wait());
        SAFEPAIR_TRY(last, decode_tree_page(bytes, tree));
    }
    const auto root = tree.find(root_file);
    if (root == tree.end() || root->second.type != NodeType::directory) {
        return base::error(base::Errc::corrupt, "resync answer: a tree without a root directory");
    }
    return tree;
}

// Names

base::Result<void> Resync::sync_names() {
    // Nothing was shipped yet, so the follower's tree stays as it was told.
    SAFEPAIR_TRY(const auto theirs, fetch_tree());
    auto lock = link_.lock_everything();
    SAFEPAIR_TRY(const auto mine, list_tree(mine_));
    SAFEPAIR_TRY(auto outcome, plan_names(mine, theirs, [this](const NamesStep& step) {
                     return send_step(step);
                 }));
    dirty_.merge(link_.attach_application());
    lock.reset();
    work_ = plan_blocks(options_.mode, mine, theirs, outcome.created, dirty_);
    retimed_ = std::move(outcome.retimed);
    return {};
}

base::Result<void> Resync::send_step(const NamesStep& step) {
    ResyncRecord record;
    record.operation = step.operation;
    switch (step.kind) {
        case NamesStep::Kind::operation:
            record.kind = ResyncRecord::Kind::operation;
            break;
        case NamesStep::Kind::stage:
            record.kind = ResyncRecord::Kind::stage;
            break;
        case NamesStep::Kind::unstage:
            record.kind = ResyncRecord::Kind::unstage;
            break;
        case NamesStep::Kind::clear_stage:
            record.kind = ResyncRecord::Kind::clear_stage;
            break;
        case NamesStep::Kind::set_xattrs:
            return send_xattrs(step.operation.file);
    }
    const bool is_link = step.operation.kind == OperationKind::create &&
                         step.operation.attributes.type == NodeType::symlink;
    if (is_link) {
        SAFEPAIR_TRY(record.operation.text, mine_.read_link(step.operation.file));
    }
    return link_.send(record);
}

base::Result<void> Resync::send_xattrs(FileId file) {
    SAFEPAIR_TRY(const auto names, mine_.xattr_names(file));
    for (const auto& name : names) {
        SAFEPAIR_TRY(const auto value, mine_.xattr(file, name));
        Operation operation;
        operation.kind = OperationKind::set_xattr;
        operation.file = file;
        operation.name = name;
        operation.data = value;
        SAFEPAIR_CHECK(send_operation(operation));
    }
    return {};
}

base::Result<void> Resync::send_operation(const Operation& operation) {
    ResyncRecord record;
    record.kind = ResyncRecord::Kind::operation;
    record.operation = operation;
    return link_.send(record);
}

// Data

base::Result<ResyncResult> Resync::sync_data() {
    std::uint64_t total = 0;
    for (const auto& item : work_) {
        total += total_bytes(item.ranges);
    }
    progress_.set_total(total);
    BlockCopier copier(
        mine_, link_, progress_, {options_.rate_bytes_per_second, options_.now, options_.sleep});
    ResyncResult result;
    for (const auto& item : work_) {
        if (item.compare) {
            continue;
        }
        progress_.set_file(mine_.path_of(item.file));
        const auto before = copier.copied_bytes();
        for (const auto& range : item.ranges) {
            SAFEPAIR_CHECK(copier.copy(item.file, range, item.fresh));
            progress_.add_done(range.end - range.begin);
        }
        const bool by_map = options_.mode == SyncMode::dirty_blocks && !item.fresh;
        result.changed_bytes += by_map ? total_bytes(item.ranges) : copier.copied_bytes() - before;
    }
    SAFEPAIR_TRY(const auto differing, DigestScan(mine_, link_, progress_, copier).run(work_));
    result.changed_bytes += differing;
    result.copied_bytes = copier.copied_bytes();
    SAFEPAIR_CHECK(sync_times(copier.copied_files()));
    return result;
}

// Times

base::Result<void> Resync::sync_times(const std::set<FileId>& copied) {
    retimed_.insert(copied.begin(), copied.end());
    auto next = retimed_.begin();
    while (next != retimed_.end()) {
        if (link_.cancelled()) {
            return cancelled();
        }
        const auto lock = link_.lock_everything();
        for (std::size_t i = 0; i < times_batch && next != retimed_.end(); ++i, ++next) {
            SAFEPAIR_CHECK(send_times(*next, copied.count(*next) != 0));
        }
    }
    return {};
}

base::Result<void> Resync::send_times(FileId file, bool copied) {
    if (file != root_file && mine_.names(file).empty()) {
        return {};
    }
    if (copied) {
        const auto capability = mine_.xattr(file, capability_attribute);
        if (capability) {
            Operation operation;
            operation.kind = OperationKind::set_xattr;
            operation.file = file;
            operation.name = capability_attribute;
            operation.data = *capability;
            SAFEPAIR_CHECK(send_operation(operation));
        }
    }
    SAFEPAIR_TRY(const auto attributes, mine_.attributes(file));
    Operation operation;
    operation.kind = OperationKind::set_attributes;
    operation.file = file;
    operation.valid = attribute::modified;
    operation.attributes.modified = attributes.modified;
    return send_operation(operation);
}

}  // namespace safepair::replica
