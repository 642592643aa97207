#pragma once

#include <cstdlib>
#include <filesystem>
#include <string>

namespace safepair::tests {

/// A fresh directory that goes with its owner.
class ScratchDirectory {
  public:
    explicit ScratchDirectory(const std::string& prefix = "safepair-test") {
        auto pattern = (std::filesystem::temp_directory_path() / (prefix + "-XXXXXX")).string();
        const char* made = mkdtemp(pattern.data());
        path_ = made == nullptr ? std::filesystem::path() : std::filesystem::path(made);
    }

    ~ScratchDirectory() {
        std::error_code ignored;
        std::filesystem::remove_all(path_, ignored);
    }

    ScratchDirectory(const ScratchDirectory&) = delete;
    ScratchDirectory& operator=(const ScratchDirectory&) = delete;

    [[nodiscard]] const std::filesystem::path& path() const noexcept { return path_; }
    [[nodiscard]] std::filesystem::path operator/(const std::string& name) const {
        return path_ / name;
    }

  private:
    std::filesystem::path path_;
};

}  // namespace safepair::tests
