#pragma once

#include "doors/fuse/library.hpp"

#include <cerrno>
#include <utility>

namespace safepair::replica::fuse_door {

/// The answer that one kernel request waits for. It cannot be forgotten: destroyed unanswered, it
/// says EIO.
class Reply {
  public:
    explicit Reply(fuse_req_t request) noexcept : request_(request) {}

    Reply(Reply&& other) noexcept : request_(std::exchange(other.request_, nullptr)) {}

    Reply& operator=(Reply&& other) noexcept {
        if (this != &other) {
            error(EIO);
            request_ = std::exchange(other.request_, nullptr);
        }
        return *this;
    }

    Reply(const Reply&) = delete;
    Reply& operator=(const Reply&) = delete;

    ~Reply() { error(EIO); }

    /// 0 is success without a body. Nothing when it is answered already.
    void error(int code) noexcept {
        if (request_ != nullptr) {
            fuse_reply_err(take(), code);
        }
    }

    /// For the fuse_reply_* functions, which end the request whatever they return.
    [[nodiscard]] fuse_req_t take() noexcept { return std::exchange(request_, nullptr); }

    [[nodiscard]] const fuse_ctx& caller() const noexcept { return *fuse_req_ctx(request_); }

  private:
    fuse_req_t request_;
};

}  // namespace safepair::replica::fuse_door
