#pragma once

#include <safepair/replica/operation.hpp>

#include <cstddef>
#include <cstdint>
#include <vector>

/// Which operations may run side by side on the leader. An operation holds its claims from before
/// it is numbered until it is carried out here, so that operations that overlap have one order, on
/// the wire and in both copies (R12).
namespace safepair::replica {

struct Claim {
    enum class Kind : std::uint8_t {
        range,  ///< bytes [begin, end) of `file`; attributes and extended attributes claim all
                ///< bytes
        names,  ///< the names of the folder
        everything,
    };
    Kind kind = Kind::range;
    FileId file;
    std::uint64_t begin = 0;
    std::uint64_t end = UINT64_MAX;
};

[[nodiscard]] bool conflicts(const Claim& one, const Claim& other) noexcept;

/// What `operation` must have for itself. Operations that take a name away claim everything: which
/// file they meet is known only once nothing else runs, and they are rare.
[[nodiscard]] std::vector<Claim> claims_of(const Operation& operation);

/// First come, first served: a ticket is granted when nothing that conflicts with it is held or
/// asked earlier. Not thread-safe. Few tickets are in the table at a time (those being carried out,
/// and those waiting for them), so it is a list that is walked.
class LockTable {
  public:
    using Ticket = std::uint64_t;

    /// Asks for `claims`. True: granted. False: release() of another ticket will name it.
    [[nodiscard]] bool request(Ticket ticket, std::vector<Claim> claims);
    /// Gives up a ticket, granted or not; `granted` receives the tickets that got their turn by it,
    /// in order.
    void release(Ticket ticket, std::vector<Ticket>& granted);

    [[nodiscard]] std::size_t size() const noexcept { return entries_.size(); }

  private:
    struct Entry {
        Ticket ticket = 0;
        bool granted = false;
        std::vector<Claim> claims;
    };

    /// Nothing among the first `count` entries stands in the way.
    [[nodiscard]] bool is_free(const std::vector<Claim>& claims, std::size_t count) const;

    std::vector<Entry> entries_;
    std::size_t waiting_ = 0;
};

}  // namespace safepair::replica
