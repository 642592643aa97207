#pragma once

#include "identity.hpp"

#include <safepair/base/result.hpp>
#include <safepair/v1/peer.grpc.pb.h>

#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace safepair::agent {

/// This node's gRPC connection to one peer node over one network. Exchanges statuses whenever it is
/// poked, on a thread of its own; the agent's loop does the poking, so a hung loop falls silent
/// here as well (R4).
class PeerClient {
  public:
    struct Options {
        std::string self;
        std::string peer;
        std::string network;
        /// "address:port" of the peer on that network.
        std::string target;
    };

    /// An authentic answer arrived; on the client's thread.
    using Answered =
        std::function<void(const std::string& network, const v1::PeerStatuses& answer)>;

    PeerClient(Options options, const Identity& identity, Answered answered);
    ~PeerClient();
    PeerClient(const PeerClient&) = delete;
    PeerClient& operator=(const PeerClient&) = delete;

    /// Shows `statuses` to the peer soon; a newer call replaces what was not sent yet. Does not
    /// block.
    void poke(const v1::PeerStatuses& statuses);

    /// Channel for relayed commands; calls carry their own deadlines.
    [[nodiscard]] v1::Peer::Stub& stub() noexcept { return *stub_; }

    /// Whether the newest exchange was answered.
    [[nodiscard]] bool answering() const;

    [[nodiscard]] const Options& options() const noexcept { return options_; }

  private:
    void run();

    const Options options_;
    const Answered answered_;
    std::unique_ptr<v1::Peer::Stub> stub_;
    mutable std::mutex mutex_;
    std::condition_variable changed_;
    v1::PeerStatuses pending_;  // guarded by mutex_
    bool poked_ = false;        // guarded by mutex_
    bool stopping_ = false;     // guarded by mutex_
    bool answering_ = false;    // guarded by mutex_
    std::thread thread_;
};

}  // namespace safepair::agent
