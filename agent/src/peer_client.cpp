#include "peer_client.hpp"

#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>
#include <grpcpp/support/channel_arguments.h>

#include <chrono>
#include <utility>

namespace safepair::agent {

namespace {

/// Longer than any healthy round trip, shorter than a heartbeat timeout.
constexpr auto exchange_deadline = std::chrono::seconds(1);

std::shared_ptr<grpc::Channel> open_channel(const PeerClient::Options& options,
                                            const Identity& identity) {
    grpc::SslCredentialsOptions tls;
    tls.pem_root_certs = identity.ca_pem();
    tls.pem_private_key = identity.key_pem();
    tls.pem_cert_chain = identity.certificate_pem();
    grpc::ChannelArguments arguments;
    // Certificates name nodes, not addresses.
    arguments.SetSslTargetNameOverride(options.peer);
    arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 200);
    arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 500);
    arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 1000);
    // A peer that vanished without a FIN is noticed by pings, not by the kernel's quarter of an
    // hour.
    arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, 2000);
    arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 1500);
    arguments.SetInt(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
    arguments.SetInt(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
    // One TCP connection per network: without this gRPC would share the subchannel pool by target
    // only.
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    return grpc::CreateCustomChannel(options.target, grpc::SslCredentials(tls), arguments);
}

}  // namespace

PeerClient::PeerClient(Options options, const Identity& identity, Answered answered)
    : options_(std::move(options)),
      answered_(std::move(answered)),
      stub_(v1::Peer::NewStub(open_channel(options_, identity))),
      thread_([this] { run(); }) {}

PeerClient::~PeerClient() {
    {
        const std::lock_guard lock(mutex_);
        stopping_ = true;
    }
    changed_.notify_all();
    thread_.join();
}

void PeerClient::poke(const v1::PeerStatuses& statuses) {
    {
        const std::lock_guard lock(mutex_);
        pending_ = statuses;
        poked_ = true;
    }
    changed_.notify_all();
}

bool PeerClient::answering() const {
    const std::lock_guard lock(mutex_);
    return answering_;
}

void PeerClient::run() {
    std::unique_lock lock(mutex_);
    for (;;) {
        changed_.wait(lock, [this] { return poked_ || stopping_; });
        if (stopping_) {
            return;
        }
        poked_ = false;
        const v1::PeerStatuses request = pending_;
        lock.unlock();

        grpc::ClientContext context;
        context.set_deadline(std::chrono::system_clock::now() + exchange_deadline);
        v1::PeerStatuses answer;
        const auto status = stub_->Exchange(&context, request, &answer);
        if (status.ok()) {
            answered_(options_.network, answer);
        }

        lock.lock();
        answering_ = status.ok();
    }
}

}  // namespace safepair::agent
