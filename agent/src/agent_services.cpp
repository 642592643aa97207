// Opening the agent's doors: gRPC servers for operators (Unix socket) and for the other nodes
// (mutual TLS), heartbeats.
#include "agent.hpp"
#include "services.hpp"

#include <safepair/base/system_time.hpp>

#include <fmt/format.h>
#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/health_check_service_interface.h>
#include <grpcpp/security/server_credentials.h>
#include <grpcpp/server_builder.h>
#include <spdlog/spdlog.h>

#include <sys/stat.h>
#include <unistd.h>

namespace safepair::agent {

namespace {

/// Threads of one gRPC server, followers of events and statuses included.
constexpr int server_threads_max = 64;
constexpr int message_bytes_max = 4 * 1024 * 1024;

void set_limits(grpc::ServerBuilder& builder, const char* name) {
    grpc::ResourceQuota quota(name);
    quota.SetMaxThreads(server_threads_max);
    builder.SetResourceQuota(quota);
    builder.SetMaxReceiveMessageSize(message_bytes_max);
    builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
    builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, 1000);
    builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
    builder.AddChannelArgument(GRPC_ARG_HTTP2_MAX_PING_STRIKES, 0);
}

std::string target_of(const std::string& address, std::uint16_t port) {
    const bool v6 = address.find(':') != std::string::npos;
    return v6 ? fmt::format("ipv6:[{}]:{}", address, port)
              : fmt::format("ipv4:{}:{}", address, port);
}

std::shared_ptr<grpc::ServerCredentials> mutual_tls(const Identity& identity) {
    grpc::SslServerCredentialsOptions tls(
        GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY);
    tls.pem_root_certs = identity.ca_pem();
    tls.pem_key_cert_pairs.push_back({identity.key_pem(), identity.certificate_pem()});
    return grpc::SslServerCredentials(tls);
}

}  // namespace

base::Result<void> Agent::start_services() {
    grpc::EnableDefaultHealthCheckService(true);
    grpc::reflection::InitProtoReflectionServerBuilderPlugin();

    const auto socket = options_.runtime / "control.sock";
    unlink(socket.c_str());
    services_.push_back(make_control_service(*this));
    grpc::ServerBuilder local;
    set_limits(local, "control");
    local.AddListeningPort("unix:" + socket.string(), grpc::InsecureServerCredentials());
    local.RegisterService(services_.back().get());
    // The socket is born closed to others; the group is opened by chmod once it is there.
    const auto old_mask = umask(0177);
    servers_.push_back(local.BuildAndStart());
    umask(old_mask);
    if (!servers_.back()) {
        servers_.pop_back();
        return base::error(base::Errc::busy,
                           socket.string() + ": the control socket cannot be opened");
    }
    chmod(socket.c_str(), 0660);

    // Where there is no IPv6 this is every IPv4 address.
    const auto address = fmt::format("[::]:{}", cluster_.ports.peer);
    services_.push_back(make_peer_service(*this));
    grpc::ServerBuilder remote;
    set_limits(remote, "peer");
    int port = 0;
    remote.AddListeningPort(address, mutual_tls(*identity_), &port);
    remote.RegisterService(services_.back().get());
    auto server = remote.BuildAndStart();
    if (!server || port == 0) {
        return base::error(base::Errc::busy,
                           address + ": the peer service cannot listen; is another agent running?");
    }
    servers_.push_back(std::move(server));
    return {};
}

base::Result<void> Agent::start_links() {
    for (const auto& node : cluster_.nodes) {
        if (node.name == options_.node) {
            continue;
        }
        std::vector<cluster::HeartbeatNetwork> heartbeat_networks;
        for (const auto& network : cluster_.networks) {
            const auto theirs = node.addresses.find(network.name);
            if (theirs == node.addresses.end()) {
                continue;
            }
            PeerClient::Options client;
            client.self = options_.node;
            client.peer = node.name;
            client.network = network.name;
            client.target = target_of(theirs->second, cluster_.ports.peer);
            clients_[node.name].push_back(std::make_unique<PeerClient>(
                client, *identity_, [](const std::string&, const v1::PeerStatuses&) {}));
            if (!network.heartbeat) {
                continue;
            }
            for (const auto& self : cluster_.nodes) {
                const auto ours = self.addresses.find(network.name);
                if (self.name == options_.node && ours != self.addresses.end()) {
                    heartbeat_networks.push_back(
                        {network.name, ours->second, theirs->second, cluster_.ports.heartbeat});
                }
            }
        }
        const auto received = [this, peer = node.name](const cluster::Heartbeat& heartbeat) {
            auto* module = find(heartbeat.module);
            if (module != nullptr && module->peer().value == peer && heartbeat.status) {
                module->heard(heartbeat.network);
                module->peer_status(*heartbeat.status);
            }
        };
        SAFEPAIR_TRY(auto transport,
                     cluster::HeartbeatTransport::start(base::NodeId{options_.node},
                                                        base::NodeId{node.name},
                                                        incarnation_,
                                                        heartbeat_networks,
                                                        identity_->heartbeat_key(),
                                                        received));
        transports_.emplace(node.name, std::move(transport));
    }
    return {};
}

}  // namespace safepair::agent
