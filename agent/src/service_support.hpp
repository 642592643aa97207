#pragma once

#include "agent.hpp"

#include <safepair/base/error.hpp>
#include <safepair/v1/control.pb.h>

#include <grpcpp/server_context.h>
#include <grpcpp/support/status.h>
#include <grpcpp/support/sync_stream.h>

namespace safepair::agent {

/// Our conditions as gRPC codes, the message as it is for people.
[[nodiscard]] grpc::Status to_status(const base::Error& error);

/// Streams this node's event log: what is there, then, with follow, what comes, until the client
/// goes.
[[nodiscard]] grpc::Status stream_events(Agent& agent,
                                         grpc::ServerContext& context,
                                         const v1::EventsRequest& request,
                                         grpc::ServerWriter<v1::EventRecord>& writer);

}  // namespace safepair::agent
