#pragma once

#include <safepair/base/result.hpp>

#include <filesystem>
#include <string>

namespace safepair::hyperv {

/// Where a libvirt host keeps what we read ourselves. Empty paths: nowhere.
struct HostPlaces {
    /// The directory of an embedded host; empty for another one.
    std::filesystem::path embed_root;
    /// "NAME.pid" of running emulators.
    std::filesystem::path run;
    /// "NAME.xml" as libvirt stores it.
    std::filesystem::path configuration;
    /// "UUID" directories of emulated TPMs.
    std::filesystem::path tpm;
};

/// Errc::bad_input for an embed URI without an absolute root.
[[nodiscard]] base::Result<HostPlaces> host_places(const std::string& uri);

/// Makes the settings of an embedded host that has none, because libvirt's own need daemons that
/// such a host does not have. Errc::refused when this process embeds another root already: libvirt
/// allows one per process, and one process per root.
[[nodiscard]] base::Result<void> prepare_embedded_host(const std::filesystem::path& root);

}  // namespace safepair::hyperv
