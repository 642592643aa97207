#pragma once

#include "../core/domain_description.hpp"

#include <safepair/base/result.hpp>

#include <string>

namespace safepair::hyperv {

/// Reads what we need from a domain's XML (https://libvirt.org/formatdomain.html). Fetches nothing
/// that the XML refers to. Errc::bad_input for what is no domain.
[[nodiscard]] base::Result<DomainDescription> parse_domain(const std::string& xml);

}  // namespace safepair::hyperv
