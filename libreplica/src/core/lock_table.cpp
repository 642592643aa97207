#include "core/lock_table.hpp"

#include <algorithm>

namespace safepair::replica {

namespace {

/// fallocate(2) modes that move what lies behind the range.
constexpr std::uint32_t mode_collapse = 0x08;
constexpr std::uint32_t mode_insert = 0x20;

Claim whole(FileId file) { return {Claim::Kind::range, file, 0, UINT64_MAX}; }

std::uint64_t end_of(std::uint64_t offset, std::uint64_t length) {
    return length > UINT64_MAX - offset ? UINT64_MAX : offset + length;
}

}  // namespace

bool conflicts(const Claim& one, const Claim& other) noexcept {
    if (one.kind == Claim::Kind::everything || other.kind == Claim::Kind::everything) {
        return true;
    }
    if (one.kind != other.kind) {
        return false;
    }
    if (one.kind == Claim::Kind::names) {
        return true;
    }
    return one.file == other.file && one.begin < other.end && other.begin < one.end;
}

std::vector<Claim> claims_of(const Operation& operation) {
    switch (operation.kind) {
        case OperationKind::write:
            return {{Claim::Kind::range,
                     operation.file,
                     operation.offset,
                     end_of(operation.offset, std::max<std::uint64_t>(operation.data.size(), 1))}};
        case OperationKind::allocate:
            if ((operation.flags & (mode_collapse | mode_insert)) != 0) {
                return {whole(operation.file)};
            }
            return {{Claim::Kind::range,
                     operation.file,
                     operation.offset,
                     end_of(operation.offset, std::max<std::uint64_t>(operation.length, 1))}};
        case OperationKind::set_attributes:
        case OperationKind::set_xattr:
        case OperationKind::remove_xattr:
            return {whole(operation.file)};
        case OperationKind::create:
        case OperationKind::link:
            // The file too: nobody may reach it by its new name before the name is on the wire.
            return {{Claim::Kind::names, {}, 0, 0}, whole(operation.parent), whole(operation.file)};
        case OperationKind::rename:
        case OperationKind::unlink:
        case OperationKind::rmdir:
            return {{Claim::Kind::everything, {}, 0, 0}};
        case OperationKind::flush:
            return {};
    }
    return {{Claim::Kind::everything, {}, 0, 0}};
}

bool LockTable::is_free(const std::vector<Claim>& claims, std::size_t count) const {
    const auto meets = [&claims](const Entry& entry) {
        return std::any_of(entry.claims.begin(), entry.claims.end(), [&claims](const Claim& held) {
            return std::any_of(claims.begin(), claims.end(), [&held](const Claim& wanted) {
                return conflicts(held, wanted);
            });
        });
    };
    const auto end = entries_.begin() + static_cast<std::ptrdiff_t>(count);
    return std::none_of(entries_.begin(), end, meets);
}

bool LockTable::request(Ticket ticket, std::vector<Claim> claims) {
    const bool granted = is_free(claims, entries_.size());
    entries_.push_back({ticket, granted, std::move(claims)});
    waiting_ += granted ? 0 : 1;
    return granted;
}

void LockTable::release(Ticket ticket, std::vector<Ticket>& granted) {
    const auto found = std::find_if(entries_.begin(), entries_.end(), [ticket](const Entry& entry) {
        return entry.ticket == ticket;
    });
    if (found == entries_.end()) {
        return;
    }
    waiting_ -= found->granted ? 0 : 1;
    entries_.erase(found);
    if (waiting_ == 0) {
        return;
    }
    for (std::size_t i = 0; i < entries_.size(); ++i) {
        auto& entry = entries_[i];
        // Whatever was granted later than this entry asked does not conflict with it, so only what
        // is before it counts.
        if (!entry.granted && is_free(entry.claims, i)) {
            entry.granted = true;
            --waiting_;
            granted.push_back(entry.ticket);
        }
    }
}

}  // namespace safepair::replica
