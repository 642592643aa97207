#pragma once

#include <safepair/base/ids.hpp>
#include <safepair/base/result.hpp>

#include <filesystem>
#include <optional>

namespace safepair::replica {

/// The node's own note of which folder belongs to a module, in its state directory: a folder that
/// is empty because its disk is not mounted is thereby told from the real one (R16). One line,
/// "folder: " and 32 hexadecimal digits.
class FolderRecord {
  public:
    explicit FolderRecord(std::filesystem::path file) : file_(std::move(file)) {}

    /// nullopt when there is none. Errors: Errc::corrupt, errno.
    [[nodiscard]] base::Result<std::optional<base::GenerationId>> load() const;
    /// Durable on return.
    [[nodiscard]] base::Result<void> save(base::GenerationId folder) const;

  private:
    std::filesystem::path file_;
};

}  // namespace safepair::replica
