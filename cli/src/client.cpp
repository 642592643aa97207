#include "client.hpp"

#include <safepair/base/unique_fd.hpp>

#include <fmt/format.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include <sys/socket.h>
#include <sys/un.h>

namespace safepair::cli {

namespace {

constexpr auto reading_limit = std::chrono::seconds(10);

constexpr const char* service_remedy = "Is the agent running? systemctl status safe-agent";
constexpr const char* socket_remedy =
    "If it uses another runtime directory, name its socket with --socket or $SAFEPAIR_SOCKET";

/// Whether somebody listens at the socket and lets us in, with the system's own reason if not.
base::Result<void> try_socket(const std::string& path) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (path.size() >= sizeof(address.sun_path)) {
        return base::error(base::Errc::bad_input,
                           fmt::format("the socket path {} has {} bytes; the system allows {}. Use "
                                       "a shorter runtime directory",
                                       path,
                                       path.size(),
                                       sizeof(address.sun_path) - 1));
    }
    std::memcpy(address.sun_path, path.data(), path.size());
    const base::UniqueFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (!fd) {
        return base::error_from_errno(errno, "a Unix socket cannot be made");
    }
    if (connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0) {
        return {};
    }
    switch (const int reason = errno; reason) {
        case EACCES:
        case EPERM:
            return base::error_from_errno(
                EACCES,
                fmt::format(
                    "no permission for {}. Use sudo, or join the group that owns it (ls -l {})",
                    path,
                    path));
        case ENOENT:
            return base::error(
                base::Errc::peer_unreachable,
                fmt::format(
                    "no agent: {} does not exist. {}. {}", path, service_remedy, socket_remedy));
        case ECONNREFUSED:
            return base::error(
                base::Errc::peer_unreachable,
                fmt::format(
                    "no agent listens at {} (a stopped one left it). {}", path, service_remedy));
        default:
            return base::error(
                base::Errc::peer_unreachable,
                fmt::format(
                    "{} cannot be reached: {}. {}", path, std::strerror(reason), service_remedy));
    }
}

void set_deadline(grpc::ClientContext& context, const Deadline& deadline) {
    if (deadline) {
        context.set_deadline(*deadline);
    }
}

}  // namespace

Deadline deadline_in(std::chrono::milliseconds limit) {
    return std::chrono::system_clock::now() + limit;
}

Deadline reading_deadline() { return deadline_in(reading_limit); }

base::Result<Client> Client::connect(const std::string& socket) {
    SAFEPAIR_CHECK(try_socket(socket));
    auto channel = grpc::CreateChannel("unix:" + socket, grpc::InsecureChannelCredentials());
    return Client(socket, v1::Control::NewStub(channel));
}

base::Error Client::to_error(const grpc::Status& status) const {
    const auto& said = status.error_message();
    switch (status.error_code()) {
        case grpc::StatusCode::NOT_FOUND:
            return base::error(base::Errc::not_found, said);
        case grpc::StatusCode::DEADLINE_EXCEEDED:
            return base::error(base::Errc::timed_out, said);
        case grpc::StatusCode::UNAVAILABLE:
            // Either the agent went, or it says this of the other node.
            if (auto tried = try_socket(socket_); !tried) {
                return tried.error();
            }
            return base::error(base::Errc::peer_unreachable, said);
        case grpc::StatusCode::PERMISSION_DENIED:
        case grpc::StatusCode::UNAUTHENTICATED:
            return base::error_from_errno(EACCES, said);
        case grpc::StatusCode::ALREADY_EXISTS:
            return base::error_from_errno(EEXIST, said);
        case grpc::StatusCode::RESOURCE_EXHAUSTED:
            return base::error(base::Errc::limit_reached, said + ". Try again");
        case grpc::StatusCode::UNIMPLEMENTED:
            return base::error(base::Errc::unsupported,
                               "the agent does not know this command; it is older than this "
                               "safectl (safectl version)");
        case grpc::StatusCode::CANCELLED:
            return base::error(base::Errc::cancelled, said);
        default:
            return base::error(base::Errc::refused, said);
    }
}

base::Result<v1::StatusReply> Client::status(const v1::StatusRequest& request) const {
    grpc::ClientContext context;
    set_deadline(context, reading_deadline());
    v1::StatusReply reply;
    if (const auto status = stub_->Status(&context, request, &reply); !status.ok()) {
        return to_error(status);
    }
    return reply;
}

base::Result<v1::CommandReply> Client::command(const v1::CommandRequest& request,
                                               Deadline deadline) const {
    grpc::ClientContext context;
    set_deadline(context, deadline);
    v1::CommandReply reply;
    if (const auto status = stub_->Command(&context, request, &reply); !status.ok()) {
        return to_error(status);
    }
    return reply;
}

base::Result<v1::ListModulesReply> Client::modules() const {
    grpc::ClientContext context;
    set_deadline(context, reading_deadline());
    v1::ListModulesReply reply;
    if (const auto status = stub_->ListModules(&context, {}, &reply); !status.ok()) {
        return to_error(status);
    }
    return reply;
}

base::Result<v1::VersionReply> Client::version() const {
    grpc::ClientContext context;
    set_deadline(context, reading_deadline());
    v1::VersionReply reply;
    if (const auto status = stub_->Version(&context, {}, &reply); !status.ok()) {
        return to_error(status);
    }
    return reply;
}

base::Result<void> Client::watch(const v1::StatusRequest& request,
                                 Deadline deadline,
                                 Cancellation& cancellation,
                                 const std::function<bool(const v1::StatusReply&)>& handle) const {
    auto& context = cancellation.context_;
    set_deadline(context, deadline);
    const auto reader = stub_->WatchStatus(&context, request);
    v1::StatusReply reply;
    bool enough = false;
    while (!enough && reader->Read(&reply)) {
        enough = !handle(reply);
    }
    if (enough) {
        context.TryCancel();
    }
    const auto status = reader->Finish();
    if (enough || status.error_code() == grpc::StatusCode::CANCELLED) {
        return {};
    }
    if (status.ok()) {
        return base::error(base::Errc::peer_unreachable,
                           "the agent ended the status stream; it is being stopped");
    }
    return to_error(status);
}

base::Result<void> Client::events(const v1::EventsRequest& request,
                                  const std::function<bool(const v1::EventRecord&)>& handle) const {
    grpc::ClientContext context;
    if (!request.follow()) {
        // Long enough for the whole log over a slow link.
        set_deadline(context, deadline_in(std::chrono::minutes(5)));
    }
    const auto reader = stub_->Events(&context, request);
    v1::EventRecord record;
    bool enough = false;
    while (!enough && reader->Read(&record)) {
        enough = !handle(record);
    }
    if (enough) {
        context.TryCancel();
        static_cast<void>(reader->Finish());
        return {};
    }
    if (const auto status = reader->Finish(); !status.ok()) {
        return to_error(status);
    }
    return {};
}

}  // namespace safepair::cli
