#include "started_mark.hpp"

#include <fstream>
#include <system_error>

namespace safepair::hyperv {

namespace {

std::string boot_id() {
    std::ifstream file("/proc/sys/kernel/random/boot_id");
    std::string text;
    file >> text;
    return text;
}

}  // namespace

StartedMark::StartedMark(const std::filesystem::path& directory, const std::string& name) {
    if (!directory.empty()) {
        file_ = directory / (name + ".started");
    }
}

bool StartedMark::present() const {
    std::ifstream file(file_);
    std::string text;
    return file >> text && text == boot_id();
}

void StartedMark::set() const {
    if (!file_.empty()) {
        std::error_code ignored;
        std::filesystem::create_directories(file_.parent_path(), ignored);
        std::ofstream(file_) << boot_id() << '\n';
    }
}

void StartedMark::clear() const {
    std::error_code ignored;
    if (!file_.empty()) {
        std::filesystem::remove(file_, ignored);
    }
}

}  // namespace safepair::hyperv
