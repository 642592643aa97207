#include "io/folder.hpp"
#include "io/resync.hpp"
#include "io/resync_target.hpp"

#include <safepair/replica/replicated_folder.hpp>

#include <memory>
#include <utility>

namespace safepair::replica {

namespace {

class RealResync final : public ResyncDriver {
  public:
    explicit RealResync(ResyncInput input)
        : resync_(options_for(input.mode),
                  input.store,
                  std::move(input.dirty),
                  input.link,
                  std::move(input.merge)) {}

    [[nodiscard]] base::Result<Summary> run() override {
        SAFEPAIR_TRY(const auto result, resync_.run());
        return Summary{result.copied_bytes, result.changed_bytes};
    }

    [[nodiscard]] Progress progress() const override { return resync_.progress(); }

  private:
    static ResyncOptions options_for(SyncMode mode) {
        ResyncOptions options;
        options.mode = mode;
        return options;
    }

    Resync resync_;
};

}  // namespace

FolderParts real_parts() {
    FolderParts parts;
    parts.mount = mount_fuse_door;
    parts.open_store = open_posix_store;
    parts.make_resync = [](ResyncInput input) -> std::unique_ptr<ResyncDriver> {
        return std::make_unique<RealResync>(std::move(input));
    };
    parts.make_responder =
        [](Store& mine, std::function<DirtyMap()> my_map) -> std::unique_ptr<ResyncResponder> {
        return std::make_unique<ResyncTarget>(mine, std::move(my_map));
    };
    return parts;
}

base::Result<std::unique_ptr<ReplicatedFolder>> ReplicatedFolder::create(FolderOptions options,
                                                                         FolderEvents& events) {
    if (!options.folder.is_absolute() || options.folder == options.folder.root_path()) {
        return base::error(base::Errc::bad_input,
                           options.folder.string() + " is no absolute path of a folder");
    }
    if (!options.state_directory.is_absolute() || options.module.empty() || options.node.empty()) {
        return base::error(
            base::Errc::bad_input,
            "a replicated folder needs a module, a node and an absolute state directory");
    }
    return std::unique_ptr<ReplicatedFolder>(
        std::make_unique<Folder>(std::move(options), real_parts(), events));
}

}  // namespace safepair::replica
