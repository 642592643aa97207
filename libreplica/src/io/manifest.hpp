#pragma once

#include <safepair/base/result.hpp>
#include <safepair/replica/replicated_folder.hpp>
#include <safepair/replica/store.hpp>

#include <filesystem>
#include <vector>

namespace safepair::replica {

/// Change time and size of every object at a clean stop, so that what is changed in the plain
/// folder while the module is stopped is found at the next start. To be believed only after a clean
/// stop (R23); the caller removes the file when the folder goes into service. Format:
/// docs/formats/manifest.md.
class Manifest {
  public:
    /// After the last change and the last flush, before the folder is given back. Durable on
    /// return. Waits some milliseconds when something changed just now, so that a later change
    /// cannot have the same time.
    [[nodiscard]] static base::Result<void> save(const std::filesystem::path& file,
                                                 Store& store,
                                                 GenerationId folder);
    /// Objects that are new or differ, directories included (then names below them changed), the
    /// root as its nil id. What is gone shows in its directory only. Errors: Errc::not_found when
    /// there is no manifest, Errc::corrupt.
    [[nodiscard]] static base::Result<std::vector<FileId>> changed_since(
        const std::filesystem::path& file, Store& store, GenerationId folder);
};

}  // namespace safepair::replica
