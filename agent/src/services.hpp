#pragma once

#include <memory>

namespace grpc {
class Service;
}

namespace safepair::agent {

class Agent;

/// safepair.v1.Control for local operators. `agent` outlives the service.
[[nodiscard]] std::unique_ptr<grpc::Service> make_control_service(Agent& agent);

/// safepair.v1.Peer for the other nodes. Every call is checked: its certificate must name a node of
/// the cluster.
[[nodiscard]] std::unique_ptr<grpc::Service> make_peer_service(Agent& agent);

}  // namespace safepair::agent
