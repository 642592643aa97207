#pragma once

#include <safepair/base/result.hpp>
#include <safepair/replica/operation.hpp>

#include <cstddef>
#include <span>
#include <string>
#include <vector>

/// An Operation as bytes, its data last, so that the data can be sent from where it lies. Format:
/// docs/formats/wire.md, 4.
namespace safepair::replica {

/// Everything of `operation` but its data, which follows on the wire without a length.
[[nodiscard]] std::vector<std::byte> encode_operation(const Operation& operation);

/// `bytes` are the fields and the data; the data of the result is borrowed from them.
/// Errors: Errc::corrupt for anything that encode_operation cannot have made of an operation within
/// limits.hpp.
[[nodiscard]] base::Result<Operation> decode_operation(std::span<const std::byte> bytes);

/// Why the operation does not fit into a record, as an errno (ENAMETOOLONG, E2BIG, EINVAL); 0 when
/// it does.
[[nodiscard]] int check_limits(const Operation& operation) noexcept;

/// An operation that keeps its data, for those that have to wait.
class OwnedOperation {
  public:
    explicit OwnedOperation(const Operation& operation)
        : operation_(operation), data_(operation.data.begin(), operation.data.end()) {
        operation_.data = data_;
    }

    OwnedOperation(OwnedOperation&& other) noexcept
        : operation_(std::move(other.operation_)), data_(std::move(other.data_)) {
        operation_.data = data_;
    }

    OwnedOperation(const OwnedOperation&) = delete;
    OwnedOperation& operator=(const OwnedOperation&) = delete;
    OwnedOperation& operator=(OwnedOperation&&) = delete;
    ~OwnedOperation() = default;

    [[nodiscard]] const Operation& get() const noexcept { return operation_; }

  private:
    Operation operation_;
    std::vector<std::byte> data_;
};

}  // namespace safepair::replica
