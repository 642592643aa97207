#include "service_support.hpp"
#include "services.hpp"

#include <safepair/v1/peer.grpc.pb.h>

#include <spdlog/spdlog.h>

#include <string>
#include <utility>

namespace safepair::agent {

namespace {

class PeerService final : public v1::Peer::Service {
  public:
    explicit PeerService(Agent& agent) : agent_(agent) {}

    grpc::Status Exchange(grpc::ServerContext* context,
                          const v1::PeerStatuses* request,
                          v1::PeerStatuses* reply) override {
        const auto caller = node_of(*context);
        if (caller.empty() || caller != request->node()) {
            return refuse(*context);
        }
        *reply = agent_.exchange(caller, *request);
        return grpc::Status::OK;
    }

    grpc::Status Command(grpc::ServerContext* context,
                         const v1::CommandRequest* request,
                         v1::CommandReply* reply) override {
        const auto caller = node_of(*context);
        if (caller.empty()) {
            return refuse(*context);
        }
        auto local = *request;
        local.set_actor(request->actor() + " via " + caller);
        auto result = agent_.command(local, context->deadline(), false);
        if (!result) {
            return to_status(result.error());
        }
        *reply = std::move(*result);
        return grpc::Status::OK;
    }

    grpc::Status Status(grpc::ServerContext* context,
                        const v1::StatusRequest* request,
                        v1::StatusReply* reply) override {
        if (node_of(*context).empty()) {
            return refuse(*context);
        }
        *reply = agent_.status(*request);
        return grpc::Status::OK;
    }

    grpc::Status Events(grpc::ServerContext* context,
                        const v1::EventsRequest* request,
                        grpc::ServerWriter<v1::EventRecord>* writer) override {
        if (node_of(*context).empty()) {
            return refuse(*context);
        }
        return stream_events(agent_, *context, *request, *writer);
    }

  private:
    /// The cluster node that the client's certificate names; empty when it names none.
    [[nodiscard]] std::string node_of(const grpc::ServerContext& context) const {
        const auto auth = context.auth_context();
        if (!auth || !auth->IsPeerAuthenticated()) {
            return {};
        }
        for (const auto& name : auth->GetPeerIdentity()) {
            const std::string text(name.data(), name.size());
            if (text != agent_.node() && agent_.is_node(text)) {
                return text;
            }
        }
        return {};
    }

    static grpc::Status refuse(const grpc::ServerContext& context) {
        spdlog::warn(
            "a call from {} was refused: its certificate names no other node of the cluster",
            context.peer());
        return {grpc::StatusCode::PERMISSION_DENIED,
                "the certificate names no other node of this cluster"};
    }

    Agent& agent_;
};

}  // namespace

std::unique_ptr<grpc::Service> make_peer_service(Agent& agent) {
    return std::make_unique<PeerService>(agent);
}

}  // namespace safepair::agent
