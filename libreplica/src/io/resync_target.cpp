#include "io/resync_target.hpp"

#include "core/resync_codec.hpp"
#include "io/tree_listing.hpp"
#include "store/acl.hpp"

#include <safepair/replica/limits.hpp>

#include <algorithm>
#include <array>

#include <fcntl.h>
#include <linux/falloc.h>

namespace safepair::replica {

namespace {

constexpr std::array<const char*, 2> acl_attributes{access_acl_attribute, default_acl_attribute};

bool is_acl(const std::string& name) {
    return std::find(acl_attributes.begin(), acl_attributes.end(), name) != acl_attributes.end();
}

base::Result<void> create_bare(Store& store, const Operation& operation) {
    SAFEPAIR_CHECK(store.apply(operation));
    if (operation.attributes.type == NodeType::symlink) {
        return {};
    }
    SAFEPAIR_TRY(const auto names, store.xattr_names(operation.file));
    bool inherited = false;
    for (const auto& name : names) {
        if (is_acl(name)) {
            inherited = true;
            Operation removal;
            removal.kind = OperationKind::remove_xattr;
            removal.file = operation.file;
            removal.name = name;
            SAFEPAIR_CHECK(store.apply(removal));
        }
    }
    if (!inherited) {
        return {};
    }
    Operation mode;
    mode.kind = OperationKind::set_attributes;
    mode.file = operation.file;
    mode.valid = attribute::mode;
    mode.attributes = operation.attributes;
    return store.apply(mode);
}

base::Result<void> apply_operation(Store& store, const Operation& operation) {
    if (operation.kind == OperationKind::create) {
        return create_bare(store, operation);
    }
    auto applied = store.apply(operation);
    // An ACL that says no more than the mode is stored as none, so removing another may have taken
    // it along.
    if (!applied && operation.kind == OperationKind::remove_xattr &&
        applied.error().code == std::errc::no_message_available) {
        return {};
    }
    return applied;
}

base::Result<void> write_zeros(Store& store, const Operation& punch) {
    const std::vector<std::byte> zeros(limits::dirty_block_bytes);
    Operation write;
    write.kind = OperationKind::write;
    write.file = punch.file;
    for (std::uint64_t done = 0; done < punch.length; done += zeros.size()) {
        write.offset = punch.offset + done;
        write.data = std::span(zeros).first(
            static_cast<std::size_t>(std::min<std::uint64_t>(zeros.size(), punch.length - done)));
        SAFEPAIR_CHECK(store.apply(write));
    }
    return {};
}

base::Result<void> apply_block(Store& store, const Operation& block) {
    if (!store.knows(block.file) || store.is_orphan(block.file)) {
        return {};
    }
    SAFEPAIR_TRY(const auto attributes, store.attributes(block.file));
    if (block.offset >= attributes.size) {
        return {};
    }
    const auto room = attributes.size - block.offset;
    auto cut = block;
    if (block.kind == OperationKind::write) {
        cut.data = block.data.first(
            static_cast<std::size_t>(std::min<std::uint64_t>(block.data.size(), room)));
        return store.apply(cut);
    }
    if (block.kind != OperationKind::allocate ||
        block.flags != (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE)) {
        return base::error(base::Errc::corrupt, "resync record: block is neither data nor hole");
    }
    cut.length = std::min(block.length, room);
    auto punched = store.apply(cut);
    if (!punched && punched.error().code == std::errc::operation_not_supported) {
        return write_zeros(store, cut);
    }
    return punched;
}

}  // namespace

base::Result<void> apply_resync_record(Store& store, const ResyncRecord& record) {
    const auto& operation = record.operation;
    switch (record.kind) {
        case ResyncRecord::Kind::operation:
            return apply_operation(store, operation);
        case ResyncRecord::Kind::block:
            return apply_block(store, operation);
        case ResyncRecord::Kind::stage:
            return store.stage(operation.parent, operation.name);
        case ResyncRecord::Kind::unstage:
            return store.unstage(operation.file, operation.parent, operation.name);
        case ResyncRecord::Kind::clear_stage:
            return store.clear_stage();
    }
    return base::error(base::Errc::corrupt, "resync record: kind");
}

ResyncTarget::ResyncTarget(Store& mine, std::function<DirtyMap()> my_map)
    : mine_(mine), my_map_(std::move(my_map)), digester_(mine) {}

base::Result<std::vector<std::byte>> ResyncTarget::answer(std::span<const std::byte> question) {
    SAFEPAIR_TRY(const auto decoded, decode_question(question));
    switch (decoded.kind) {
        case Question::Kind::map:
            return answer_map(decoded.index);
        case Question::Kind::tree:
            return answer_tree(decoded.index);
        case Question::Kind::digests:
            return answer_digests(decoded.ranges);
    }
    return base::error(base::Errc::corrupt, "resync question: kind");
}

base::Result<std::vector<std::byte>> ResyncTarget::answer_map(std::uint32_t index) {
    if (index == 0) {
        map_pieces_ = my_map_().encode(answer_bytes_max);
    }
    if (index >= map_pieces_.size()) {
        return base::error(base::Errc::corrupt, "resync question: piece of the map");
    }
    const auto count = static_cast<std::uint32_t>(map_pieces_.size());
    auto answer = encode_map_answer({count, map_pieces_[index]});
    if (index + 1 == count) {
        map_pieces_.clear();
    }
    return answer;
}

base::Result<std::vector<std::byte>> ResyncTarget::answer_tree(std::uint32_t index) {
    if (index == 0) {
        // What an interrupted resync left aside has no name to be listed by; it would be in the way under its id.
        SAFEPAIR_CHECK(mine_.clear_stage());
        objects_.assign(1, {root_file, {}});
        mine_.for_each([this](FileId file, NodeType, const std::vector<NameOf>& names) {
            objects_.emplace_back(file, names);
        });
        next_page_ = 0;
        next_object_ = 0;
        next_name_ = 0;
    }
    if (index != next_page_ || objects_.empty()) {
        return base::error(base::Errc::corrupt, "resync question: page of the tree");
    }
    ++next_page_;
    TreePage page(answer_bytes_max);
    while (next_object_ < objects_.size()) {
        const auto& [file, names] = objects_[next_object_];
        SAFEPAIR_TRY(const auto node, describe(mine_, file, names));
        const auto name_end = page.add(file, node, next_name_);
        if (!name_end) {
            break;
        }
        if (*name_end < names.size()) {
            next_name_ = *name_end;
            break;
        }
        ++next_object_;
        next_name_ = 0;
    }
    const bool last = next_object_ == objects_.size();
    if (last) {
        objects_ = {};
    }
    return page.finish(last);
}

base::Result<std::vector<std::byte>> ResyncTarget::answer_digests(
    const std::vector<DigestRange>& ranges) {
    std::vector<RangeDigests> answer;
    answer.reserve(ranges.size());
    for (const auto& range : ranges) {
        SAFEPAIR_TRY(auto digests, digester_.digests(range));
        answer.push_back(std::move(digests));
    }
    return encode_digest_answer(answer);
}

}  // namespace safepair::replica
