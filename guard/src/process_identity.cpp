#include "process_identity.hpp"

#include <safepair/base/unique_fd.hpp>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include <fcntl.h>
#include <unistd.h>

namespace safepair::guard {

std::uint64_t process_start_ticks(int pid) noexcept {
    if (pid <= 0) {
        return 0;
    }
    std::array<char, 32> path{};
    std::snprintf(path.data(), path.size(), "/proc/%d/stat", pid);
    const base::UniqueFd fd(::open(path.data(), O_RDONLY | O_CLOEXEC));
    if (!fd) {
        return 0;
    }
    std::array<char, 1024> text{};
    if (::read(fd.get(), text.data(), text.size() - 1) <= 0) {
        return 0;
    }
    // The name in parentheses may hold anything, also parentheses and blanks: count from the last
    // one.
    const char* field = std::strrchr(text.data(), ')');
    constexpr int fields_after_name = 20;
    for (int i = 0; i < fields_after_name && field != nullptr; ++i) {
        field = std::strchr(field + 1, ' ');
    }
    return field == nullptr ? 0 : std::strtoull(field + 1, nullptr, 10);
}

}  // namespace safepair::guard
