#pragma once

#include <filesystem>

#include <safepair/base/result.hpp>
#include <safepair/cluster/lineage.hpp>

namespace safepair::cluster {

/// The durable home of one Lineage: a preallocated file of two checksummed 4 KiB slots written in turn, each write
/// followed by fdatasync (docs/formats/lineage.md). A torn write leaves the other slot.
class LineageStore {
  public:
    explicit LineageStore(std::filesystem::path file) : file_(std::move(file)) {}

    /// Creates the file, preallocated, with a fresh record (not initialised, consistent, clean) if there is none; the
    /// directory entry is durable too. Does nothing to an existing file.
    [[nodiscard]] base::Result<void> create_if_missing();

    /// The newer valid slot. Errors: Errc::corrupt when no slot is valid or the file is foreign (never a silent default:
    /// the caller treats it as inconsistent), errno codes otherwise.
    [[nodiscard]] base::Result<Lineage> load();

    /// Durable when it returns without an error. After an error the caller must assume either value on disk.
    [[nodiscard]] base::Result<void> save(const Lineage& lineage);

  private:
    std::filesystem::path file_;
    std::uint64_t sequence_ = 0;
};

}  // namespace safepair::cluster
