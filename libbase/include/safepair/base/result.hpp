#pragma once

#include <optional>
#include <type_traits>
#include <utility>
#include <variant>

#include <safepair/base/assert.hpp>
#include <safepair/base/error.hpp>

namespace safepair::base {

/// A value or an Error. Spells the subset of std::expected that we need (see docs/adr/0001-result-type.md).
/// Dereferencing a Result without a value is our own mistake and aborts.
template <typename T>
class [[nodiscard]] Result {
  public:
    using value_type = T;

    Result(T value) : state_(std::in_place_index<0>, std::move(value)) {}      // NOLINT: implicit by design
    Result(Error error) : state_(std::in_place_index<1>, std::move(error)) {}  // NOLINT: implicit by design

    [[nodiscard]] bool has_value() const noexcept { return state_.index() == 0; }
    explicit operator bool() const noexcept { return has_value(); }

    [[nodiscard]] T& operator*() & { return value(); }
    [[nodiscard]] const T& operator*() const& { return value(); }
    [[nodiscard]] T&& operator*() && { return std::move(value()); }
    [[nodiscard]] T* operator->() { return &value(); }
    [[nodiscard]] const T* operator->() const { return &value(); }

    [[nodiscard]] T& value() & {
        SAFEPAIR_ASSERT(has_value(), "value of a failed Result");
        return *std::get_if<0>(&state_);
    }
    [[nodiscard]] const T& value() const& {
        SAFEPAIR_ASSERT(has_value(), "value of a failed Result");
        return *std::get_if<0>(&state_);
    }
    [[nodiscard]] T&& value() && { return std::move(value()); }
    [[nodiscard]] T value_or(T fallback) const& { return has_value() ? value() : std::move(fallback); }

    [[nodiscard]] const Error& error() const& {
        SAFEPAIR_ASSERT(!has_value(), "error of a successful Result");
        return *std::get_if<1>(&state_);
    }

    /// Applies `next` (T -> Result<U>) to the value, or passes the error on.
    template <typename F>
    [[nodiscard]] auto and_then(F&& next) && -> std::invoke_result_t<F, T&&> {
        if (!has_value()) {
            return error();
        }
        return std::forward<F>(next)(std::move(value()));
    }

  private:
    std::variant<T, Error> state_;
};

/// Success without a value, or an Error.
template <>
class [[nodiscard]] Result<void> {
  public:
    using value_type = void;

    Result() = default;
    Result(Error error) : error_(std::move(error)) {}  // NOLINT: implicit by design

    [[nodiscard]] bool has_value() const noexcept { return !error_.has_value(); }
    explicit operator bool() const noexcept { return has_value(); }

    [[nodiscard]] const Error& error() const& {
        SAFEPAIR_ASSERT(!has_value(), "error of a successful Result");
        return *error_;
    }

  private:
    std::optional<Error> error_;
};

}  // namespace safepair::base

#define SAFEPAIR_CONCAT_INNER(a, b) a##b
#define SAFEPAIR_CONCAT(a, b) SAFEPAIR_CONCAT_INNER(a, b)

/// SAFEPAIR_TRY(auto file, open(path)); declares `file` from the value, or returns the error from this function.
#define SAFEPAIR_TRY(declaration, expression)                                   \
    auto SAFEPAIR_CONCAT(result_, __LINE__) = (expression);                     \
    if (!SAFEPAIR_CONCAT(result_, __LINE__).has_value()) {                      \
        return SAFEPAIR_CONCAT(result_, __LINE__).error();                      \
    }                                                                           \
    declaration = std::move(*SAFEPAIR_CONCAT(result_, __LINE__))

/// SAFEPAIR_CHECK(write(...)); passes the error of a Result<void> on.
#define SAFEPAIR_CHECK(expression)                                                  \
    do {                                                                            \
        if (auto safepair_result = (expression); !safepair_result.has_value()) {    \
            return safepair_result.error();                                         \
        }                                                                           \
    } while (false)
