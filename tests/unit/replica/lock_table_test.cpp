#include "core/lock_table.hpp"

#include "support/catch.hpp"

#include <safepair/base/prng.hpp>

#include <algorithm>
#include <vector>

using namespace safepair;
using namespace safepair::replica;

namespace {

using Ticket = LockTable::Ticket;

FileId file_number(std::uint8_t number) {
    FileId file;
    file.bytes[0] = number;
    return file;
}

Claim bytes(std::uint8_t file, std::uint64_t begin, std::uint64_t end) {
    return {Claim::Kind::range, file_number(file), begin, end};
}

const Claim names{Claim::Kind::names, {}, 0, 0};
const Claim everything{Claim::Kind::everything, {}, 0, 0};

/// The same rule in the plainest words: who may run is found afresh each time.
struct Twin {
    struct Entry {
        Ticket ticket;
        std::vector<Claim> claims;
    };

    std::vector<Entry> entries;

    static bool meet(const std::vector<Claim>& one, const std::vector<Claim>& other) {
        for (const auto& a : one) {
            for (const auto& b : other) {
                if (conflicts(a, b)) {
                    return true;
                }
            }
        }
        return false;
    }

    std::vector<Ticket> running() const {
        std::vector<Ticket> tickets;
        for (std::size_t i = 0; i < entries.size(); ++i) {
            bool is_free = true;
            for (std::size_t j = 0; j < i; ++j) {
                is_free = is_free && !meet(entries[i].claims, entries[j].claims);
            }
            if (is_free) {
                tickets.push_back(entries[i].ticket);
            }
        }
        return tickets;
    }
};

std::vector<Claim> random_claims(base::Prng& prng) {
    std::vector<Claim> claims;
    const auto count = 1 + prng.below(3);
    for (std::uint64_t i = 0; i < count; ++i) {
        const auto kind = prng.below(20);
        const auto begin = prng.below(100);
        claims.push_back(kind == 0 ? everything
                         : kind <= 3
                             ? names
                             : bytes(static_cast<std::uint8_t>(prng.below(3)),
                                     begin,
                                     prng.chance(1, 5) ? UINT64_MAX : begin + 1 + prng.below(30)));
    }
    return claims;
}

}  // namespace

TEST_CASE("LockTable: what overlaps waits in the order of asking") {
    LockTable table;
    std::vector<Ticket> granted;
    CHECK(table.request(1, {bytes(1, 0, 10)}));
    CHECK(table.request(2, {bytes(1, 10, 20)}));
    CHECK(table.request(3, {bytes(2, 0, 10)}));
    CHECK_FALSE(table.request(4, {bytes(1, 5, 15)}));
    CHECK_FALSE(table.request(5, {bytes(1, 14, 15)}));
    table.release(1, granted);
    CHECK(granted.empty());
    table.release(2, granted);
    CHECK(granted == std::vector<Ticket>{4});
    granted.clear();
    table.release(4, granted);
    CHECK(granted == std::vector<Ticket>{5});
}

TEST_CASE("LockTable: one who asks for everything is not overtaken") {
    LockTable table;
    std::vector<Ticket> granted;
    CHECK(table.request(1, {bytes(1, 0, 10)}));
    CHECK_FALSE(table.request(2, {everything}));
    CHECK_FALSE(table.request(3, {bytes(9, 0, 1)}));
    table.release(1, granted);
    CHECK(granted == std::vector<Ticket>{2});
    // Gives up without having had its turn.
    CHECK_FALSE(table.request(4, {names}));
    table.release(4, granted);
    CHECK(granted == std::vector<Ticket>{2});
    table.release(2, granted);
    CHECK(granted == std::vector<Ticket>{2, 3});
}

TEST_CASE("LockTable: it grants what the plain rule grants, with random claims") {
    for (std::uint64_t seed = 0; seed < 50; ++seed) {
        base::Prng prng(seed);
        LockTable table;
        Twin twin;
        std::vector<Ticket> running;
        Ticket last = 0;
        for (int step = 0; step < 300; ++step) {
            const auto before = twin.running();
            if (twin.entries.size() < 20 && prng.chance(1, 2)) {
                const auto claims = random_claims(prng);
                twin.entries.push_back({++last, claims});
                if (table.request(last, claims)) {
                    running.push_back(last);
                }
            } else if (!twin.entries.empty()) {
                // Also those that still wait.
                const auto at = prng.below(twin.entries.size());
                const auto ticket = twin.entries[at].ticket;
                twin.entries.erase(twin.entries.begin() + static_cast<std::ptrdiff_t>(at));
                std::erase(running, ticket);
                std::vector<Ticket> granted;
                table.release(ticket, granted);
                running.insert(running.end(), granted.begin(), granted.end());
            }
            auto sorted = running;
            std::sort(sorted.begin(), sorted.end());
            REQUIRE(sorted == twin.running());
            REQUIRE(table.size() == twin.entries.size());
        }
    }
}

TEST_CASE("Claims: operations whose order matters conflict, and those that commute do not") {
    const auto write =
        [](std::uint8_t file, std::uint64_t offset, std::span<const std::byte> data) {
            Operation operation;
            operation.kind = OperationKind::write;
            operation.file = file_number(file);
            operation.offset = offset;
            operation.data = data;
            return operation;
        };
    const auto of = [](OperationKind kind, std::uint8_t file, std::uint8_t parent) {
        Operation operation;
        operation.kind = kind;
        operation.file = file_number(file);
        operation.parent = file_number(parent);
        return operation;
    };
    const std::vector<std::byte> data(100);
    const auto meet = [](const Operation& one, const Operation& other) {
        return Twin::meet(claims_of(one), claims_of(other));
    };
    CHECK(meet(write(1, 0, data), write(1, 99, data)));
    CHECK_FALSE(meet(write(1, 0, data), write(1, 100, data)));
    CHECK_FALSE(meet(write(1, 0, data), write(2, 0, data)));
    CHECK(meet(write(1, 1 << 30, data), of(OperationKind::set_attributes, 1, 0)));
    CHECK(meet(write(1, UINT64_MAX - 5, data), of(OperationKind::set_attributes, 1, 0)));
    CHECK(meet(write(7, 0, data), of(OperationKind::create, 7, 0)));
    CHECK(meet(of(OperationKind::create, 7, 3), of(OperationKind::set_attributes, 3, 0)));
    CHECK(meet(of(OperationKind::create, 7, 3), of(OperationKind::create, 8, 4)));
    CHECK_FALSE(meet(of(OperationKind::create, 7, 3), write(1, 0, data)));
    CHECK(meet(of(OperationKind::unlink, 0, 3), write(1, 0, data)));
    CHECK(meet(of(OperationKind::rename, 0, 3), of(OperationKind::set_xattr, 1, 0)));
    CHECK(claims_of(of(OperationKind::flush, 1, 0)).empty());
}
