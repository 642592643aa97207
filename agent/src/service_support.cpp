#include "service_support.hpp"

#include "wire/wire.hpp"

#include <algorithm>

namespace safepair::agent {

grpc::Status to_status(const base::Error& error) {
    auto code = grpc::StatusCode::INTERNAL;
    if (error.code == base::Errc::not_found) {
        code = grpc::StatusCode::NOT_FOUND;
    } else if (error.code == base::Errc::bad_input) {
        code = grpc::StatusCode::INVALID_ARGUMENT;
    } else if (error.code == base::Errc::peer_unreachable || error.code == base::Errc::cancelled) {
        code = grpc::StatusCode::UNAVAILABLE;
    } else if (error.code == base::Errc::timed_out) {
        code = grpc::StatusCode::DEADLINE_EXCEEDED;
    } else if (error.code == base::Errc::refused) {
        code = grpc::StatusCode::FAILED_PRECONDITION;
    }
    return {code, error.context.empty() ? error.message() : error.context};
}

grpc::Status stream_events(Agent& agent,
                           grpc::ServerContext& context,
                           const v1::EventsRequest& request,
                           grpc::ServerWriter<v1::EventRecord>& writer) {
    std::uint64_t after = request.after();
    auto last = request.last();
    for (;;) {
        // Before the query: what is stored behind it wakes the wait. Events of other modules are
        // passed over by it, and must not be waited for again.
        const auto seen = agent.events().newest();
        const auto found = agent.events().query(request.module(), after, last, 1000);
        last = 0;
        if (!found) {
            return to_status(found.error());
        }
        for (const auto& [id, entry] : *found) {
            if (!writer.Write(wire::to_proto(id, entry))) {
                return grpc::Status::OK;
            }
            after = std::max(after, id);
        }
        if (found->empty()) {
            if (!request.follow()) {
                return grpc::Status::OK;
            }
            agent.events().wait_for_more(seen, std::chrono::milliseconds(500));
        }
        if (context.IsCancelled()) {
            return grpc::Status::OK;
        }
    }
}

}  // namespace safepair::agent
