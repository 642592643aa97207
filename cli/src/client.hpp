#pragma once

#include <safepair/base/result.hpp>
#include <safepair/v1/control.grpc.pb.h>

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>

namespace safepair::cli {

/// Moment at which a call is given up; none: never.
using Deadline = std::optional<std::chrono::system_clock::time_point>;

/// `limit` from now; the short one that reading calls get.
[[nodiscard]] Deadline deadline_in(std::chrono::milliseconds limit);
[[nodiscard]] Deadline reading_deadline();

/// Lets another thread end a watch.
class Cancellation {
  public:
    void cancel() { context_.TryCancel(); }

  private:
    friend class Client;
    grpc::ClientContext context_;
};

/// The agent behind a control socket. The one place where gRPC's errors become ours. Errors:
/// peer_unreachable (no agent at the socket, or the other node does not answer), permission_denied
/// (the socket is not for this user), not_found (module or node), timed_out, refused; the context
/// is a whole sentence for the operator.
class Client {
  public:
    /// Tries the socket itself first: gRPC would say "unavailable" for everything.
    [[nodiscard]] static base::Result<Client> connect(const std::string& socket);

    [[nodiscard]] base::Result<v1::StatusReply> status(const v1::StatusRequest& request) const;
    [[nodiscard]] base::Result<v1::CommandReply> command(const v1::CommandRequest& request,
                                                         Deadline deadline) const;
    [[nodiscard]] base::Result<v1::ListModulesReply> modules() const;
    [[nodiscard]] base::Result<v1::VersionReply> version() const;

    /// Calls `handle` for each status until it returns false, `cancellation` is used, or the call
    /// fails. A stream that the agent ends by itself is an error (peer_unreachable).
    [[nodiscard]] base::Result<void> watch(
        const v1::StatusRequest& request,
        Deadline deadline,
        Cancellation& cancellation,
        const std::function<bool(const v1::StatusReply&)>& handle) const;

    /// Calls `handle` for each event until the agent ends the stream or `handle` returns false.
    [[nodiscard]] base::Result<void> events(
        const v1::EventsRequest& request,
        const std::function<bool(const v1::EventRecord&)>& handle) const;

  private:
    Client(std::string socket, std::unique_ptr<v1::Control::Stub> stub)
        : socket_(std::move(socket)), stub_(std::move(stub)) {}

    [[nodiscard]] base::Error to_error(const grpc::Status& status) const;

    std::string socket_;
    std::unique_ptr<v1::Control::Stub> stub_;
};

}  // namespace safepair::cli
