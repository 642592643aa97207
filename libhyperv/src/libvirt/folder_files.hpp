#pragma once

#include "../core/save_record.hpp"

#include <safepair/base/result.hpp>

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

// Files beside the VM's own. Everything is durable when a function returns, and never half there.
namespace safepair::hyperv {

/// Errc::not_found, Errc::limit_reached beyond `limit` bytes.
[[nodiscard]] base::Result<std::string> read_file(const std::filesystem::path& path,
                                                  std::size_t limit);

/// Through "PATH.new". Keeps mode and owner of what it replaces; a new file is its owner's only.
[[nodiscard]] base::Result<void> write_atomically(const std::filesystem::path& path,
                                                  std::string_view content);

/// Renames within a directory; replaces what is there.
[[nodiscard]] base::Result<void> move_durably(const std::filesystem::path& from,
                                              const std::filesystem::path& to);

/// Success also when there is nothing to remove.
[[nodiscard]] base::Result<void> remove_durably(const std::filesystem::path& path);

/// fsync(2) of a file that somebody else wrote.
[[nodiscard]] base::Result<void> make_durable(const std::filesystem::path& path);

/// None when it does not exist or cannot be asked.
[[nodiscard]] std::optional<DiskFact> disk_fact(const std::string& path);

/// The files of a save: NAME.save, NAME.save.disks and what they are called on their way.
struct SaveFiles {
    SaveFiles(const std::filesystem::path& folder, const std::string& name);

    std::filesystem::path state;
    std::filesystem::path record;
    /// While it is written.
    std::filesystem::path part;
    /// While the VM goes on from it: from then on it must not be used again.
    std::filesystem::path used;
    /// What was not used.
    std::filesystem::path stale;
};

/// What a start has to decide on.
[[nodiscard]] SavedFacts saved_facts(const SaveFiles& files);

}  // namespace safepair::hyperv
