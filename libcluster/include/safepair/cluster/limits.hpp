#pragma once

#include <chrono>
#include <cstddef>

#include <safepair/base/time.hpp>

/// Every bound of libcluster, with its unit and what happens when it is hit.
namespace safepair::cluster::limits {

/// Longer reasons are cut.
inline constexpr std::size_t reason_bytes_max = 200;
/// A heartbeat datagram; larger ones are dropped and counted.
inline constexpr std::size_t heartbeat_bytes_max = 1400;
/// Longer names are refused by configuration and by the heartbeat decoder.
inline constexpr std::size_t name_bytes_max = 63;
/// First pause before a failed effect (session, storage) is tried again; doubles up to retry_pause_max (I9).
inline constexpr base::Duration retry_pause_min = std::chrono::milliseconds(500);
inline constexpr base::Duration retry_pause_max = std::chrono::seconds(30);
/// A network counts as heard in a heartbeat's heard_on for this long after its last datagram.
inline constexpr base::Duration heard_on_window = std::chrono::seconds(3);
/// Pause between two attempts to bind a heartbeat socket whose address is missing.
inline constexpr base::Duration bind_retry_pause = std::chrono::seconds(1);
/// Earlier incarnations of the peer that are remembered in order to refuse them; older ones are forgotten.
inline constexpr std::size_t replaced_incarnations_max = 16;

/// Times in a row that a service which ended by itself is started again in place; then the module stops.
inline constexpr unsigned service_failures_max = 3;
/// A service that ran this long starts a new row.
inline constexpr base::Duration service_stable_after = std::chrono::minutes(10);
/// A role machine looks at its own decisions again at most so often within one step; more would be a loop of ours.
inline constexpr unsigned decisions_per_step_max = 16;

}  // namespace safepair::cluster::limits
