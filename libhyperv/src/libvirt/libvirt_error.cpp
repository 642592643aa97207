#include "libvirt_error.hpp"

#include "../core/captured_output.hpp"

#include <libvirt/virterror.h>

#include <system_error>

namespace safepair::hyperv {

namespace {

std::error_code translate(int code, int domain) noexcept {
    switch (code) {
        case VIR_ERR_NO_DOMAIN:
        case VIR_ERR_NO_NETWORK:
            return base::Errc::not_found;
        case VIR_ERR_OPERATION_TIMEOUT:
            return base::Errc::timed_out;
        case VIR_ERR_NO_CONNECT:
        case VIR_ERR_INVALID_CONN:
        case VIR_ERR_RPC:
            return std::make_error_code(std::errc::connection_refused);
        case VIR_ERR_SYSTEM_ERROR:
        case VIR_ERR_INTERNAL_ERROR:
            // These cover everything from a lost daemon to QEMU's own refusal; only the former is
            // unreachable.
            if (domain == VIR_FROM_RPC) {
                return std::make_error_code(std::errc::connection_refused);
            }
            return base::Errc::refused;
        case VIR_ERR_NO_SUPPORT:
        case VIR_ERR_CONFIG_UNSUPPORTED:
        case VIR_ERR_ARGUMENT_UNSUPPORTED:
        case VIR_ERR_OPERATION_UNSUPPORTED:
            return base::Errc::unsupported;
        case VIR_ERR_XML_ERROR:
        case VIR_ERR_XML_DETAIL:
        case VIR_ERR_INVALID_ARG:
            return base::Errc::bad_input;
        case VIR_ERR_OPERATION_ABORTED:
            return base::Errc::cancelled;
        default:
            return base::Errc::refused;
    }
}

}  // namespace

base::Error libvirt_error(const std::string& what) {
    const auto* error = virGetLastError();
    const auto* text = virGetLastErrorMessage();
    return {error == nullptr ? std::error_code(base::Errc::refused)
                             : translate(error->code, error->domain),
            what + ": " + printable_utf8(text == nullptr ? "unknown reason" : text)};
}

int libvirt_error_code() noexcept { return virGetLastErrorCode(); }

}  // namespace safepair::hyperv
