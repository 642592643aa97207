#pragma once

#include <filesystem>
#include <string>

namespace safepair::hyperv {

/// Remembers across a crash of this process, not across a boot, that a service was started, because
/// one that leaves no process of its own (it asked another daemon) cannot be found otherwise. Best
/// effort.
class StartedMark {
  public:
    StartedMark(const std::filesystem::path& directory, const std::string& name);

    [[nodiscard]] bool present() const;
    void set() const;
    void clear() const;

  private:
    /// Empty: nothing is remembered.
    std::filesystem::path file_;
};

}  // namespace safepair::hyperv
