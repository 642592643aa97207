#pragma once

#include "../event_log.hpp"
#include "../module.hpp"

#include <safepair/v1/control.pb.h>
#include <safepair/v1/types.pb.h>

#include <string>

/// Protobuf <-> domain, nothing else.
namespace safepair::agent::wire {

/// The row of this node.
[[nodiscard]] v1::ModuleStatus local_row(const ModuleSnapshot& snapshot,
                                         const std::string& node,
                                         const std::string& peer);

/// The row of the other node as this one last heard it.
[[nodiscard]] v1::ModuleStatus peer_row(const ModuleSnapshot& snapshot,
                                        const std::string& node,
                                        const std::string& peer);

[[nodiscard]] v1::EventRecord to_proto(std::uint64_t id, const EventEntry& entry);

/// Errc::bad_input for a verb that does not exist.
[[nodiscard]] base::Result<cluster::OperatorCommand> to_command(const v1::CommandRequest& request);

[[nodiscard]] v1::CommandReply::Outcome to_proto(cluster::Outcome outcome);

}  // namespace safepair::agent::wire
