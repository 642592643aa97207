#include <safepair/base/error.hpp>

namespace safepair::base {

namespace {

class Category final : public std::error_category {
  public:
    [[nodiscard]] const char* name() const noexcept override { return "safepair"; }

    [[nodiscard]] std::string message(int value) const override {
        switch (static_cast<Errc>(value)) {
            case Errc::ok:
                return "ok";
            case Errc::not_primary:
                return "this node does not lead";
            case Errc::peer_unreachable:
                return "the other node cannot be reached";
            case Errc::stale_generation:
                return "the data is older than what it would replace";
            case Errc::would_lose_data:
                return "data would be lost";
            case Errc::limit_reached:
                return "limit reached";
            case Errc::corrupt:
                return "corrupt or foreign data";
            case Errc::refused:
                return "refused";
            case Errc::bad_input:
                return "bad input";
            case Errc::not_found:
                return "not found";
            case Errc::timed_out:
                return "timed out";
            case Errc::busy:
                return "in use";
            case Errc::unsupported:
                return "not supported here";
            case Errc::cancelled:
                return "cancelled";
        }
        return "unknown";
    }
};

}  // namespace

const std::error_category& category() noexcept {
    static const Category instance;
    return instance;
}

std::error_code make_error_code(Errc code) noexcept {
    return {static_cast<int>(code), category()};
}

std::string Error::message() const {
    return context.empty() ? code.message() : context + ": " + code.message();
}

Error Error::within(const std::string& prefix) const {
    return {code, context.empty() ? prefix : prefix + ": " + context};
}

Error error(Errc code, std::string context) {
    return {make_error_code(code), std::move(context)};
}

Error error_from_errno(int errno_value, std::string context) {
    return {std::error_code(errno_value, std::generic_category()), std::move(context)};
}

}  // namespace safepair::base
