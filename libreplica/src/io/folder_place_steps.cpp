// From a folder in its place to an open store, and back.
#include "io/folder.hpp"
#include "io/manifest.hpp"

#include <utility>

namespace safepair::replica {

namespace {

base::Error not_recognised(const std::string& why) {
    return base::error(base::Errc::refused, "folder-not-recognised: " + why);
}

}  // namespace

/// Ends with a store that is ready, and the folder in its hidden place. Nothing to do when it is so
/// already.
base::Result<void> Folder::prepare(bool first_use) {
    if (store_) {
        return {};
    }
    SAFEPAIR_CHECK(check_place());
    SAFEPAIR_CHECK(check_identity(first_use));
    if (const auto idle = place_.check_not_busy(); !idle) {
        return base::error(base::Errc::busy, "folder-busy: " + idle.error().message());
    }
    SAFEPAIR_TRY(const auto state, place_.state());
    was_plain_ = state == PlaceState::plain;
    SAFEPAIR_CHECK(place_.take());
    std::vector<FileId> fresh;
    SAFEPAIR_TRY(store_, parts_.open_store(place_.hidden(), &fresh));
    return load_map(was_plain_, fresh);
}

base::Result<void> Folder::check_place() const {
    SAFEPAIR_TRY(const auto state, place_.state());
    if (state == PlaceState::absent) {
        return not_recognised(place_.folder().string() +
                              " does not exist; is its disk mounted? Nothing was changed");
    }
    return place_.check();
}

/// R16: an empty folder in the place of the real one must never be taken for it.
base::Result<void> Folder::check_identity(bool first_use) {
    const auto folder = place_.folder().string();
    SAFEPAIR_TRY(const auto recorded, record_.load());
    auto found = place_.identity();
    if (!found) {
        return found.error().code == base::Errc::corrupt
                   ? not_recognised(folder +
                                    " has a damaged .safepair/identity: " + found.error().message())
                   : found.error();
    }
    const auto& identity = *found;
    if (!identity) {
        if (recorded) {
            return not_recognised(
                folder + " has no .safepair/identity, so it is not the folder that module " +
                options_.module + " used on this node; is its disk mounted? Nothing was changed");
        }
        if (!first_use) {
            return not_recognised(folder + " has no .safepair/identity and " +
                                  options_.state_directory.string() + " has no record of it");
        }
        FolderIdentity made;
        made.module = options_.module;
        made.node = options_.node;
        made.folder = base::random_id<base::GenerationId>();
        // The record first: a crash between the two is a folder that is not recognised, never one
        // that is by mistake.
        SAFEPAIR_CHECK(place_.write_identity(made));
        SAFEPAIR_CHECK(record_.save(made.folder));
        folder_id_ = made.folder;
        return {};
    }
    if (identity->module != options_.module || identity->node != options_.node) {
        return not_recognised(
            folder + " is the folder of module " + identity->module + " on node " + identity->node +
            "; if it is a copy that shall be used here, remove " + folder + "/.safepair from it");
    }
    if (recorded ? *recorded != identity->folder : !first_use) {
        return not_recognised(folder + " is another folder than the one that module " +
                              options_.module +
                              " used on this node; is the right disk mounted? Nothing was changed");
    }
    if (!recorded) {
        SAFEPAIR_CHECK(record_.save(identity->folder));
    }
    folder_id_ = identity->folder;
    return {};
}

base::Result<void> Folder::load_map(bool was_plain, const std::vector<FileId>& fresh) {
    {
        const std::lock_guard lock(mutex_);
        if (known_ && !was_plain) {
            // Closed by this process: what it knew is still true.
            return {};
        }
        known_ = KnownMap{};
    }
    KnownMap known;
    auto loaded = map_file_.load(*folder_id_);
    if (loaded && *loaded) {
        known.dirty = std::move(**loaded);
        known.usable = true;
    } else if (!loaded) {
        events_.note("the dirty map cannot be used, everything will be compared: " +
                     loaded.error().message());
    }
    for (const auto file : fresh) {
        known.dirty.mark_whole(file);
        known.dirty.note_tree_change();
    }
    // Also when the folder is closed: this may be the second attempt after it was plain.
    if (known.usable) {
        auto changed = Manifest::changed_since(manifest_file_, *store_, *folder_id_);
        if (!changed) {
            known.usable = false;
            events_.note("the manifest cannot be used, everything will be compared: " +
                         changed.error().message());
        } else {
            for (const auto file : *changed) {
                const auto attributes = store_->attributes(file);
                if (attributes && attributes->type == NodeType::file) {
                    known.dirty.mark_whole(file);
                } else {
                    known.dirty.touch(file);
                    known.dirty.note_tree_change();
                }
            }
            if (!changed->empty()) {
                events_.note(
                    std::to_string(changed->size()) +
                    " objects were changed in the plain folder while the module was stopped");
            }
        }
    }
    const std::lock_guard lock(mutex_);
    known_ = std::move(known);
    return {};
}

/// Before the first change: what is on the disk is true after a clean stop only.
base::Result<void> Folder::forget_saved_map() {
    SAFEPAIR_CHECK(map_file_.remove());
    std::error_code ignored;
    std::filesystem::remove(manifest_file_, ignored);
    const std::lock_guard lock(mutex_);
    saved_ = {};
    return {};
}

base::Result<void> Folder::give_back() {
    Operation flush;
    flush.kind = OperationKind::flush;
    flush.file = root_file;
    SAFEPAIR_CHECK(store_->apply(flush));
    KnownMap known;
    {
        const std::lock_guard lock(mutex_);
        known = known_.value_or(KnownMap{});
    }
    SAFEPAIR_CHECK(Manifest::save(manifest_file_, *store_, *folder_id_));
    if (known.usable) {
        SAFEPAIR_CHECK(map_file_.save(known.dirty, *folder_id_));
    }
    store_.reset();
    SAFEPAIR_CHECK(place_.give_back());
    const std::lock_guard lock(mutex_);
    saved_ = {known.usable, !known.dirty.empty()};
    known_.reset();
    return {};
}

/// After a look at a folder that is not in service: as it was.
void Folder::give_back_unused() {
    store_.reset();
    if (!was_plain_) {
        return;
    }
    {
        const std::lock_guard lock(mutex_);
        known_.reset();
    }
    if (auto given = place_.give_back(); !given) {
        events_.note("the folder stays closed: " + given.error().message());
    }
}

}  // namespace safepair::replica
