#include "service_support.hpp"
#include "services.hpp"

#include <safepair/v1/control.grpc.pb.h>

#include <chrono>
#include <utility>

namespace safepair::agent {

namespace {

class ControlService final : public v1::Control::Service {
  public:
    explicit ControlService(Agent& agent) : agent_(agent) {}

    grpc::Status Status(grpc::ServerContext*,
                        const v1::StatusRequest* request,
                        v1::StatusReply* reply) override {
        *reply = agent_.status(*request);
        for (const auto& name : request->modules()) {
            bool found = false;
            for (const auto& row : reply->modules()) {
                found = found || row.module() == name;
            }
            if (!found) {
                return {grpc::StatusCode::NOT_FOUND,
                        "module " + name + " is not configured on " + agent_.node()};
            }
        }
        complete_from_peers(*request, *reply);
        return grpc::Status::OK;
    }

    grpc::Status WatchStatus(grpc::ServerContext* context,
                             const v1::StatusRequest* request,
                             grpc::ServerWriter<v1::StatusReply>* writer) override {
        std::uint64_t seen = 0;
        while (!context->IsCancelled()) {
            v1::StatusReply reply;
            const auto status = Status(context, request, &reply);
            if (!status.ok()) {
                return status;
            }
            if (!writer->Write(reply)) {
                break;
            }
            // Progress moves without a change of state, so the longest pause is a second.
            seen = agent_.wait_for_change(seen, std::chrono::seconds(1));
        }
        return grpc::Status::OK;
    }

    grpc::Status Command(grpc::ServerContext* context,
                         const v1::CommandRequest* request,
                         v1::CommandReply* reply) override {
        auto result = agent_.command(*request, context->deadline(), true);
        if (!result) {
            return to_status(result.error());
        }
        *reply = std::move(*result);
        return grpc::Status::OK;
    }

    grpc::Status Events(grpc::ServerContext* context,
                        const v1::EventsRequest* request,
                        grpc::ServerWriter<v1::EventRecord>* writer) override {
        if (request->node().empty() || request->node() == agent_.node()) {
            return stream_events(agent_, *context, *request, *writer);
        }
        auto* stub = agent_.peer_stub(request->node());
        if (stub == nullptr) {
            return {grpc::StatusCode::NOT_FOUND,
                    "node " + request->node() + " is not in the cluster"};
        }
        const auto relayed = grpc::ClientContext::FromServerContext(*context);
        auto reader = stub->Events(relayed.get(), *request);
        v1::EventRecord record;
        while (reader->Read(&record)) {
            if (!writer->Write(record)) {
                relayed->TryCancel();
                break;
            }
        }
        return reader->Finish();
    }

    grpc::Status ListModules(grpc::ServerContext*,
                             const v1::ListModulesRequest*,
                             v1::ListModulesReply* reply) override {
        *reply = agent_.modules();
        return grpc::Status::OK;
    }

    grpc::Status Version(grpc::ServerContext*,
                         const v1::VersionRequest*,
                         v1::VersionReply* reply) override {
        reply->set_version(SAFEPAIR_VERSION);
        reply->set_node(agent_.node());
        reply->set_wire_min(1);
        reply->set_wire_max(1);
        return grpc::Status::OK;
    }

  private:
    /// What only the other node knows exactly (text, since, progress) replaces what it last told us
    /// in short.
    void complete_from_peers(const v1::StatusRequest& request, v1::StatusReply& reply) {
        for (const auto& node : reply.nodes()) {
            bool heard = false;
            for (const auto& row : reply.modules()) {
                heard = heard || (row.node() == node && row.heard());
            }
            auto* stub = node == agent_.node() || !heard ? nullptr : agent_.peer_stub(node);
            if (stub == nullptr) {
                continue;
            }
            grpc::ClientContext context;
            context.set_deadline(std::chrono::system_clock::now() + std::chrono::milliseconds(500));
            v1::StatusReply theirs;
            if (!stub->Status(&context, request, &theirs).ok()) {
                continue;
            }
            for (auto& row : *reply.mutable_modules()) {
                for (const auto& other : theirs.modules()) {
                    if (row.node() == node && other.node() == node &&
                        row.module() == other.module()) {
                        const auto resync = row.resync();
                        const bool syncing = row.has_resync();
                        row = other;
                        if (syncing) {
                            *row.mutable_resync() = resync;
                        }
                    }
                }
            }
        }
    }

    Agent& agent_;
};

}  // namespace

std::unique_ptr<grpc::Service> make_control_service(Agent& agent) {
    return std::make_unique<ControlService>(agent);
}

}  // namespace safepair::agent
