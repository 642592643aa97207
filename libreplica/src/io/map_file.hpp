#pragma once

#include <safepair/base/ids.hpp>
#include <safepair/base/result.hpp>
#include <safepair/replica/dirty_map.hpp>
#include <safepair/replica/replicated_folder.hpp>

#include <filesystem>
#include <optional>

namespace safepair::replica {

/// The dirty map on disk, bound to the folder it describes. Format: docs/formats/dirty-map.md. One
/// writer at a time.
class MapFile {
  public:
    explicit MapFile(std::filesystem::path file);

    /// Durable on return. Errors: errno; what was there before is then still there.
    [[nodiscard]] base::Result<void> save(const DirtyMap& map, GenerationId folder);
    /// nullopt: there is none. Errors: Errc::corrupt when it is torn, foreign or of another folder
    /// (nothing is known then: compare everything); errno.
    [[nodiscard]] base::Result<std::optional<DirtyMap>> load(GenerationId folder);
    /// Durable on return.
    [[nodiscard]] base::Result<void> remove();

  private:
    std::filesystem::path file_;
};

}  // namespace safepair::replica
