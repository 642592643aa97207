#pragma once

#include <safepair/base/result.hpp>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <string_view>
#include <type_traits>
#include <utility>

/// The bytes of the shared page. The agent writes the upper half of each entry, safe-guard the
/// lower half.
namespace safepair::guard {

inline constexpr std::uint64_t page_magic = 0x4452415547465053U;  // "SPFGUARD"
inline constexpr std::uint32_t page_version = 1;
inline constexpr std::size_t entry_count = 64;
inline constexpr std::size_t address_count_max = 8;

/// Text of at most N - 1 bytes, zero-terminated.
template <std::size_t N>
using Text = std::array<char, N>;

template <std::size_t N>
[[nodiscard]] bool assign(Text<N>& text, std::string_view value) {
    if (value.size() >= N || value.find('\0') != std::string_view::npos) {
        return false;
    }
    text.fill('\0');
    std::memcpy(text.data(), value.data(), value.size());
    return true;
}

/// Whatever the bytes are: never past the array.
template <std::size_t N>
[[nodiscard]] std::string_view view(const Text<N>& text) {
    return {text.data(), ::strnlen(text.data(), N)};
}

/// What is armed, written as a whole.
struct Order {
    /// Unique in the page; a new one with every arm. 0: never used.
    std::uint64_t generation = 0;
    /// Generation of the first arm since the last disarm.
    std::uint64_t first_generation = 0;
    std::uint64_t process_start = 0;
    std::int32_t process = 0;
    std::uint32_t fuse_connection = 0;
    std::uint32_t armed = 0;
    std::uint32_t address_count = 0;
    Text<64> module{};
    Text<512> cgroup{};
    std::array<Text<80>, address_count_max> addresses{};
};

/// A value of which there are two copies and a sequence number that says which one is complete (the
/// "latch" form of a sequence lock): the writer changes the other copy and then the number, so a
/// reader never depends on a writer that died. One writer. Words are atomics because reader and
/// writer are different processes; whoever sees a word that was written after a sequence number
/// also sees that number, so a copy that was overwritten while it was read is noticed.
template <typename T>
class Latched {
    static_assert(std::is_trivially_copyable_v<T> && sizeof(T) % sizeof(std::uint64_t) == 0);
    static constexpr std::size_t word_count = sizeof(T) / sizeof(std::uint64_t);
    using Words = std::array<std::uint64_t, word_count>;

  public:
    void store(const T& value) noexcept {
        const auto next = sequence_.load(std::memory_order_relaxed) + 1;
        Words words;
        std::memcpy(words.data(), &value, sizeof value);
        for (std::size_t i = 0; i < word_count; ++i) {
            copies_[next % 2][i].store(words[i], std::memory_order_release);
        }
        sequence_.store(next, std::memory_order_release);
    }

    /// False while it is rewritten faster than it can be read.
    [[nodiscard]] bool load(T& value) const noexcept {
        for (int attempt = 0; attempt < 100; ++attempt) {
            const auto before = sequence_.load(std::memory_order_acquire);
            Words words;
            for (std::size_t i = 0; i < word_count; ++i) {
                words[i] = copies_[before % 2][i].load(std::memory_order_acquire);
            }
            if (sequence_.load(std::memory_order_relaxed) == before) {
                std::memcpy(static_cast<void*>(&value), words.data(), sizeof value);
                return true;
            }
        }
        return false;
    }

  private:
    std::atomic<std::uint64_t> sequence_;
    std::array<std::array<std::atomic<std::uint64_t>, word_count>, 2> copies_;
};

struct Entry {
    // Written by the agent.
    Latched<Order> order;
    /// CLOCK_BOOTTIME in nanoseconds.
    std::atomic<std::int64_t> deadline;
    // Written by safe-guard.
    std::atomic<std::uint64_t> fired_generation;
    std::atomic<std::int64_t> fired_at;
    /// Bits of Step.
    std::atomic<std::uint32_t> done;
    std::atomic<std::uint32_t> reserved;
};

enum Step : std::uint32_t { paused = 1, killed = 2, fuse_aborted = 4, addresses_removed = 8 };

struct Page {
    std::uint64_t magic;
    std::uint32_t version;
    std::uint32_t bytes;
    /// Set by an agent that ends in order.
    std::atomic<std::uint32_t> quit;
    std::atomic<std::int32_t> guard_pid;
    /// Grows with each round of safe-guard.
    std::atomic<std::uint64_t> rounds;
    std::atomic<std::uint64_t> last_generation;
    std::array<Entry, entry_count> entries;
};

static_assert(std::atomic<std::uint64_t>::is_always_lock_free);
static_assert(std::atomic<std::uint32_t>::is_always_lock_free);

/// A page mapped into this process.
class MappedPage {
  public:
    /// Errors: Errc::corrupt for a foreign file or another version; errno codes.
    [[nodiscard]] static base::Result<MappedPage> open(const std::filesystem::path& path);
    /// As open(), after making the file if it is missing. It appears complete or not at all.
    [[nodiscard]] static base::Result<MappedPage> create(const std::filesystem::path& path);

    MappedPage(MappedPage&& other) noexcept : page_(std::exchange(other.page_, nullptr)) {}

    MappedPage& operator=(MappedPage&&) = delete;
    MappedPage(const MappedPage&) = delete;
    MappedPage& operator=(const MappedPage&) = delete;
    ~MappedPage();

    [[nodiscard]] Page* operator->() const noexcept { return page_; }

    [[nodiscard]] Page& operator*() const noexcept { return *page_; }

  private:
    explicit MappedPage(Page* page) noexcept : page_(page) {}

    Page* page_ = nullptr;
};

}  // namespace safepair::guard
