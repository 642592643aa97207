#include "io/lineage_codec.hpp"

#include <safepair/base/bytes.hpp>
#include <safepair/base/unique_fd.hpp>
#include <safepair/cluster/limits.hpp>
#include <safepair/cluster/lineage_store.hpp>

#include <openssl/sha.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <optional>
#include <span>
#include <string_view>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace safepair::cluster {

namespace {

constexpr std::size_t slot_bytes = 4096;
constexpr std::size_t slot_count = 2;
constexpr std::size_t file_bytes = slot_bytes * slot_count;
constexpr std::size_t checksum_bytes = SHA256_DIGEST_LENGTH;
constexpr std::size_t covered_bytes = slot_bytes - checksum_bytes;
constexpr std::string_view magic = "SPLINEAG";
constexpr std::uint32_t format_version = 1;

using Slot = std::array<std::byte, slot_bytes>;
using Checksum = std::array<unsigned char, checksum_bytes>;

enum class SlotState : std::uint8_t { valid, never_written, damaged, foreign, newer };

struct Reading {
    SlotState state = SlotState::damaged;
    std::uint64_t sequence = 0;
    std::uint32_t version = 0;
    Lineage lineage;
};

Checksum checksum_of(const Slot& slot) {
    Checksum checksum{};
    SHA256(reinterpret_cast<const unsigned char*>(slot.data()), covered_bytes, checksum.data());
    return checksum;
}

Slot encode_slot(const Lineage& lineage, std::uint64_t sequence) {
    base::ByteWriter record;
    write(record, lineage);
    base::ByteWriter writer;
    writer.raw(std::as_bytes(std::span(magic.data(), magic.size())));
    writer.u32(format_version);
    writer.u64(sequence);
    writer.blob(record.bytes());
    SAFEPAIR_ASSERT(writer.bytes().size() <= covered_bytes, "names are bounded by configuration");
    Slot slot{};
    std::copy(writer.bytes().begin(), writer.bytes().end(), slot.begin());
    const auto checksum = checksum_of(slot);
    std::memcpy(slot.data() + covered_bytes, checksum.data(), checksum.size());
    return slot;
}

Reading decode_slot(const Slot& slot, std::size_t index) {
    Reading reading;
    if (std::ranges::all_of(slot, [](std::byte b) { return b == std::byte{0}; })) {
        reading.state = SlotState::never_written;
        return reading;
    }
    base::ByteReader reader(std::span<const std::byte>(slot).first(covered_bytes));
    const auto start = reader.raw(magic.size());
    if (!std::ranges::equal(start, std::as_bytes(std::span(magic.data(), magic.size())))) {
        reading.state = SlotState::foreign;
        return reading;
    }
    const auto checksum = checksum_of(slot);
    if (std::memcmp(slot.data() + covered_bytes, checksum.data(), checksum.size()) != 0) {
        return reading;
    }
    reading.version = reader.u32();
    reading.sequence = reader.u64();
    if (reading.version != format_version) {
        reading.state = SlotState::newer;
        return reading;
    }
    base::ByteReader record(reader.blob(covered_bytes));
    const bool known = read(record, reading.lineage);
    const auto padding = reader.raw(reader.remaining());
    const bool padded = std::ranges::all_of(padding, [](std::byte b) { return b == std::byte{0}; });
    const bool in_place = reading.sequence != 0 && reading.sequence % slot_count == index;
    if (reader.ok() && record.finished() && known && padded && in_place) {
        reading.state = SlotState::valid;
    }
    return reading;
}

base::Result<base::UniqueFd> open_file(const std::filesystem::path& file, int flags) {
    base::UniqueFd fd(::open(file.c_str(), flags | O_CLOEXEC, 0600));
    if (!fd) {
        return base::error_from_errno(errno, "open lineage " + file.string());
    }
    return fd;
}

base::Result<void> write_slot(int fd,
                              const Slot& slot,
                              std::size_t index,
                              const std::filesystem::path& file) {
    std::size_t done = 0;
    while (done < slot.size()) {
        const auto offset = static_cast<off_t>(index * slot_bytes + done);
        const ssize_t count = ::pwrite(fd, slot.data() + done, slot.size() - done, offset);
        if (count < 0 && errno == EINTR) {
            continue;
        }
        if (count < 0) {
            return base::error_from_errno(errno, "write lineage " + file.string());
        }
        done += static_cast<std::size_t>(count);
    }
    return {};
}

base::Result<void> allocate(int fd, const std::filesystem::path& file) {
    if (const int failure = ::posix_fallocate(fd, 0, file_bytes); failure != 0) {
        return base::error_from_errno(failure, "preallocate lineage " + file.string());
    }
    return {};
}

/// Both slots. A short file reads as if it were followed by damaged bytes: only whole slots count.
base::Result<std::array<Reading, slot_count>> read_slots(int fd,
                                                         const std::filesystem::path& file) {
    std::array<Reading, slot_count> readings;
    for (std::size_t index = 0; index < slot_count; ++index) {
        Slot slot{};
        std::size_t done = 0;
        while (done < slot.size()) {
            const auto offset = static_cast<off_t>(index * slot_bytes + done);
            const ssize_t count = ::pread(fd, slot.data() + done, slot.size() - done, offset);
            if (count < 0 && errno == EINTR) {
                continue;
            }
            if (count < 0) {
                return base::error_from_errno(errno, "read lineage " + file.string());
            }
            if (count == 0) {
                break;
            }
            done += static_cast<std::size_t>(count);
        }
        readings[index] = done == slot.size() ? decode_slot(slot, index) : Reading{};
    }
    return readings;
}

base::Error corrupt(const std::filesystem::path& file, const std::string& what) {
    return base::error(base::Errc::corrupt, "lineage " + file.string() + ": " + what);
}

/// The slot that counts, or why none does.
base::Result<Reading> newest(const std::array<Reading, slot_count>& readings,
                             const std::filesystem::path& file) {
    const auto all = [&readings](SlotState state) {
        return std::ranges::all_of(readings,
                                   [state](const Reading& r) { return r.state == state; });
    };
    const Reading* best = nullptr;
    for (const auto& reading : readings) {
        if (reading.state == SlotState::newer) {
            // The other slot may be valid but is older: taking it would forget what the newer
            // program promised.
            return corrupt(file,
                           "written by another version of this program (format " +
                               std::to_string(reading.version) + ", known " +
                               std::to_string(format_version) + ")");
        }
        if (reading.state == SlotState::valid &&
            (best == nullptr || reading.sequence > best->sequence)) {
            best = &reading;
        }
    }
    if (best != nullptr) {
        return *best;
    }
    if (all(SlotState::foreign)) {
        return corrupt(file, "not a lineage file");
    }
    if (all(SlotState::never_written)) {
        return corrupt(file, "holds only zeros");
    }
    return corrupt(file, "both slots are damaged");
}

base::Result<void> sync_directory(const std::filesystem::path& file) {
    const auto parent =
        file.parent_path().empty() ? std::filesystem::path(".") : file.parent_path();
    base::UniqueFd fd(::open(parent.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!fd || ::fsync(fd.get()) != 0) {
        return base::error_from_errno(errno,
                                      "make the directory entry durable in " + parent.string());
    }
    return {};
}

}  // namespace

base::Result<void> LineageStore::create_if_missing() {
    struct stat state {};

    if (::lstat(file_.c_str(), &state) == 0) {
        return {};
    }
    if (errno != ENOENT) {
        return base::error_from_errno(errno, "look for lineage " + file_.string());
    }
    // Made whole under another name first, so that a crash in between leaves no half file behind.
    auto fresh = file_;
    fresh += ".new";
    SAFEPAIR_TRY(const base::UniqueFd fd, open_file(fresh, O_RDWR | O_CREAT | O_TRUNC));
    SAFEPAIR_CHECK(allocate(fd.get(), fresh));
    SAFEPAIR_CHECK(write_slot(fd.get(), encode_slot(Lineage{}, 1), 1, fresh));
    if (::fsync(fd.get()) != 0) {
        return base::error_from_errno(errno, "flush lineage " + fresh.string());
    }
    if (::rename(fresh.c_str(), file_.c_str()) != 0) {
        return base::error_from_errno(errno, "put lineage " + file_.string() + " in place");
    }
    SAFEPAIR_CHECK(sync_directory(file_));
    sequence_ = 1;
    return {};
}

base::Result<Lineage> LineageStore::load() {
    SAFEPAIR_TRY(const base::UniqueFd fd, open_file(file_, O_RDONLY));
    SAFEPAIR_TRY(const auto readings, read_slots(fd.get(), file_));
    SAFEPAIR_TRY(const Reading reading, newest(readings, file_));
    sequence_ = reading.sequence;
    return reading.lineage;
}

base::Result<void> LineageStore::save(const Lineage& lineage) {
    if (lineage.term.node.value.size() > limits::name_bytes_max ||
        lineage.handed_to.value.size() > limits::name_bytes_max) {
        // It would be written and never read again.
        return base::error(base::Errc::bad_input, "save lineage: a node name is too long");
    }
    SAFEPAIR_TRY(const base::UniqueFd fd, open_file(file_, O_RDWR));
    if (sequence_ == 0) {
        SAFEPAIR_TRY(const auto readings, read_slots(fd.get(), file_));
        const bool newer = std::ranges::any_of(
            readings, [](const Reading& r) { return r.state == SlotState::newer; });
        const auto reading = newest(readings, file_);
        if (newer) {
            return reading.error();
        }
        // A file without a valid slot starts anew: whoever saves has decided what this copy is
        // worth.
        sequence_ = reading.has_value() ? reading->sequence : 0;
        SAFEPAIR_CHECK(allocate(fd.get(), file_));
    }
    const std::uint64_t next = sequence_ + 1;
    SAFEPAIR_CHECK(write_slot(fd.get(), encode_slot(lineage, next), next % slot_count, file_));
    if (::fdatasync(fd.get()) != 0) {
        return base::error_from_errno(errno, "flush lineage " + file_.string());
    }
    // Only now: a failed write is repeated in the same slot and never touches the last good one.
    sequence_ = next;
    return {};
}

}  // namespace safepair::cluster
