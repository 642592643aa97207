#pragma once

#include <safepair/base/result.hpp>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

// A saved VM may only go on with exactly the disks it was saved with: its memory holds what it
// believes is on them. The record beside the state file says which those were. Sizes and
// modification times are compared for equality, never by order, so no clock decides. Format:
// docs/formats/save-record.md.
namespace safepair::hyperv {

/// A disk as it was when the state file was complete.
struct DiskFact {
    std::string path;
    std::uint64_t bytes = 0;
    std::int64_t modified_ns = 0;

    friend bool operator==(const DiskFact& a, const DiskFact& b) {
        return a.path == b.path && a.bytes == b.bytes && a.modified_ns == b.modified_ns;
    }
};

struct SaveRecord {
    std::uint64_t state_bytes = 0;
    std::vector<DiskFact> disks;
};

/// Errc::bad_input for a path with a line end.
[[nodiscard]] base::Result<std::string> format_save_record(const SaveRecord& record);
/// Errc::corrupt for anything that format_save_record() did not write, also for a beginning of it.
[[nodiscard]] base::Result<SaveRecord> parse_save_record(std::string_view text);

/// What lies in the folder when the VM is to be started.
struct SavedFacts {
    /// None: there is no state file.
    std::optional<std::uint64_t> state_bytes;
    /// None: there is no record, or it cannot be read.
    std::optional<SaveRecord> record;
    /// The disks of the record as they are now; one that is missing is not in it.
    std::vector<DiskFact> disks;
};

enum class StartMode : std::uint8_t { boot, restore, boot_beside_stale_state };

struct StartChoice {
    StartMode mode = StartMode::boot;
    /// Why a state file is not used.
    std::string why;
};

[[nodiscard]] StartChoice choose_start(const SavedFacts& facts);

}  // namespace safepair::hyperv
