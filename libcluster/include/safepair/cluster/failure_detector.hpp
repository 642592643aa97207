#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <safepair/base/time.hpp>

/// Is the peer alive? The peer is lost when it was silent on *all* networks and channels for `timeout`; an authenticated
/// frame on any channel counts (R7). The detector is told the time and what was heard and nothing else. It suspects
/// itself first: when it was not asked for longer than `oversleep`, it listens for a full timeout before it blames the
/// peer. A phi-accrual detector was weighed: it adapts to jitter, but an administrator cannot compute its takeover time.
namespace safepair::cluster {

struct DetectorOptions {
    base::Duration timeout = std::chrono::seconds(3);
    base::Duration pulse = std::chrono::milliseconds(250);
    /// A gap between two calls longer than this is our own sleep.
    base::Duration oversleep = std::chrono::seconds(1);
};

enum class LinkState : std::uint8_t { unknown, up, down };

struct DetectorVerdict {
    /// Changed to lost in this call. Reported once per silence.
    bool peer_lost = false;
    /// Heard again after lost (or for the first time) in this call.
    bool peer_found = false;
    /// Length of our own sleep noticed in this call.
    std::optional<base::Duration> overslept;
    /// Links whose state changed in this call.
    std::vector<std::pair<std::string, LinkState>> changed;
};

class FailureDetector {
  public:
    /// `links`: names of the networks that carry heartbeats; "peer-service" and "data" may be heard on beside them.
    FailureDetector(DetectorOptions options, std::vector<std::string> links, base::Instant now);

    /// An authenticated frame of the peer arrived on `link` (a heartbeat network's name, or another channel's).
    [[nodiscard]] DetectorVerdict heard(base::Instant now, const std::string& link);
    /// Time passed. Call at least once per pulse.
    [[nodiscard]] DetectorVerdict tick(base::Instant now);

    [[nodiscard]] LinkState link(const std::string& name) const;
    /// Whether the peer counts as alive now; nullopt before the first verdict.
    [[nodiscard]] std::optional<bool> peer_alive() const noexcept { return alive_; }
    /// Time of the last frame on any channel.
    [[nodiscard]] std::optional<base::Instant> last_heard() const noexcept { return last_heard_; }

  private:
    DetectorVerdict note_gap(base::Instant now);
    void judge(base::Instant now, DetectorVerdict& verdict);

    struct Link {
        /// Start, the end of our own sleep, or the last frame on this link.
        base::Instant silent_since;
        LinkState state = LinkState::unknown;
    };

    DetectorOptions options_;
    std::map<std::string, Link> links_;
    base::Instant last_call_;
    /// Silence is counted from here: start, or the end of our own sleep, or the last frame.
    base::Instant listening_since_;
    std::optional<base::Instant> last_heard_;
    std::optional<bool> alive_;
};

}  // namespace safepair::cluster
