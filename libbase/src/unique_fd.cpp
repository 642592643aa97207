#include <safepair/base/unique_fd.hpp>

#include <unistd.h>

namespace safepair::base {

void UniqueFd::reset() noexcept {
    if (fd_ >= 0) {
        close(fd_);
        fd_ = -1;
    }
}

}  // namespace safepair::base
