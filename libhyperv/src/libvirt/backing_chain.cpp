#include "backing_chain.hpp"

#include "../core/limits.hpp"
#include "../service/process.hpp"

#include <nlohmann/json.hpp>

namespace safepair::hyperv {

namespace {

/// It reads a header per file.
constexpr base::Duration inspection_limit = std::chrono::seconds(20);

}  // namespace

base::Result<std::vector<std::string>> parse_backing_chain(const std::string& report) {
    const auto document = nlohmann::json::parse(report, nullptr, false);
    if (!document.is_array() || document.empty()) {
        return base::error(base::Errc::corrupt, "the report of qemu-img is not understood");
    }
    std::vector<std::string> files;
    for (const auto& image : document) {
        for (const char* key : {"full-backing-filename", "backing-filename"}) {
            const auto found = image.find(key);
            if (image.is_object() && found != image.end() && found->is_string()) {
                files.push_back(found->get<std::string>());
                break;
            }
        }
    }
    return files;
}

base::Result<std::vector<std::string>> backing_chain(const std::string& path) {
    // Shared: the VM may be running, and its image be locked.
    SAFEPAIR_TRY(
        const auto report,
        run_tool(
            {"qemu-img", "info", "--force-share", "--backing-chain", "--output=json", "--", path},
            inspection_limit,
            limits::image_report_bytes_max));
    return parse_backing_chain(report);
}

}  // namespace safepair::hyperv
