#pragma once
// A fixed status, a console that remembers, and an agent that says what a test told it to say.
#include "safectl.hpp"
#include "support/scratch_directory.hpp"

#include <safepair/v1/control.grpc.pb.h>

#include <grpcpp/security/server_credentials.h>
#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>

#include <condition_variable>
#include <cstdlib>
#include <ctime>
#include <filesystem>
#include <initializer_list>
#include <memory>
#include <mutex>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

namespace safepair::cli::tests {

/// 2026-11-22T19:04:11Z.
inline constexpr std::int64_t noon = 1'795'374'251'000'000'000;
inline constexpr std::int64_t second = 1'000'000'000;

/// Recorded tables show local times; the environment must not change what a test sees.
inline void fix_environment() {
    setenv("TZ", "UTC", 1);
    tzset();
    unsetenv("NO_COLOR");
    unsetenv("SAFEPAIR_SOCKET");
    unsetenv("SUDO_USER");
    setenv("GRPC_VERBOSITY", "NONE", 1);
}

inline v1::ModuleStatus row(const std::string& module,
                            const std::string& node,
                            v1::Role role,
                            v1::Readiness readiness) {
    v1::ModuleStatus status;
    status.set_module(module);
    status.set_node(node);
    status.set_peer(node == "node1" ? "node2" : "node1");
    status.set_role(role);
    status.set_readiness(readiness);
    status.set_heard(true);
    status.set_folder("/srv/" + module);
    status.set_since(noon - 3 * second);
    status.set_data("uptodate");
    return status;
}

inline v1::StatusReply reply_of(std::initializer_list<v1::ModuleStatus> rows) {
    v1::StatusReply reply;
    reply.set_cluster("prod");
    reply.set_node("node1");
    reply.add_nodes("node1");
    reply.add_nodes("node2");
    reply.set_time(noon);
    reply.set_witness("none");
    for (const auto& one : rows) {
        *reply.add_modules() = one;
    }
    return reply;
}

inline void add_link(v1::StatusReply& reply, const std::string& network, const std::string& state) {
    auto& link = *reply.add_links();
    link.set_network(network);
    link.set_peer(reply.node() == "node1" ? "node2" : "node1");
    link.set_state(state);
    link.set_sent(1000);
    link.set_received(999);
}

/// PRIM on node1, SECOND on node2 in the middle of its resynchronisation.
inline v1::StatusReply syncing_reply() {
    auto prim = row("vm1", "node1", v1::ROLE_PRIM, v1::READINESS_READY);
    prim.set_service("running");
    prim.set_reason("peer-follows");
    prim.set_since(noon - (3 * 86'400 + 2 * 3600 + 5) * second);
    prim.mutable_term()->set_counter(7);
    prim.mutable_term()->set_node("node1");
    prim.set_generation("0123456789abcdef0123456789abcdef");
    prim.set_dirty_bytes(33'500'000'000);
    auto second_row = row("vm1", "node2", v1::ROLE_SECOND, v1::READINESS_TRANSIENT);
    second_row.set_data("syncing");
    second_row.set_reason("peer-leads");
    second_row.set_text("is brought up to date by node1");
    auto& resync = *second_row.mutable_resync();
    resync.set_mode("dirty-blocks");
    resync.set_bytes_total(57'800'000'000);
    resync.set_bytes_done(24'300'000'000);
    resync.set_bytes_copied(24'000'000'000);
    resync.set_bytes_per_second(118'000'000);
    resync.set_eta_seconds(271);
    resync.set_file("disk.qcow2");
    auto reply = reply_of({prim, second_row});
    add_link(reply, "production", "up");
    add_link(reply, "replication", "up");
    return reply;
}

/// What a run of safectl printed and returned.
struct Ran {
    int code = 0;
    std::string out;
    std::string err;
};

struct Surroundings {
    bool is_terminal = false;
    std::string typed;
};

inline Ran run_safectl(std::vector<std::string> words, const Surroundings& surroundings = {}) {
    std::ostringstream out;
    std::ostringstream err;
    std::istringstream in(surroundings.typed);
    Console console{out, err, in};
    console.out_is_terminal = surroundings.is_terminal;
    console.err_is_terminal = surroundings.is_terminal;
    console.in_is_terminal = surroundings.is_terminal;
    console.utf8 = true;
    const int code = run(std::move(words), console);
    return {code, out.str(), err.str()};
}

/// A control service on a Unix socket of its own. Set what it says before the call that asks.
class FakeAgent final : public v1::Control::Service {
  public:
    FakeAgent() {
        fix_environment();
        grpc::ServerBuilder builder;
        builder.AddListeningPort("unix:" + socket(), grpc::InsecureServerCredentials());
        builder.RegisterService(this);
        server_ = builder.BuildAndStart();
    }

    ~FakeAgent() override { stop(); }

    FakeAgent(const FakeAgent&) = delete;
    FakeAgent& operator=(const FakeAgent&) = delete;

    [[nodiscard]] std::string socket() const { return (directory_ / "s").string(); }

    Ran run(std::vector<std::string> words, const Surroundings& surroundings = {}) const {
        words.insert(words.begin(), {"--socket", socket()});
        return run_safectl(std::move(words), surroundings);
    }

    void stop() {
        {
            const std::lock_guard lock(mutex_);
            stopping_ = true;
        }
        stopped_.notify_all();
        if (server_) {
            server_->Shutdown(std::chrono::system_clock::now());
            server_->Wait();
        }
        server_.reset();
    }

    v1::StatusReply status;
    /// What a watch shows, one after the other; then it stays open, or ends.
    std::vector<v1::StatusReply> watched;
    bool watch_ends = false;
    v1::CommandReply command_reply;
    grpc::Status command_status;
    v1::CommandRequest asked;
    int commands = 0;
    std::vector<v1::EventRecord> log;
    v1::EventsRequest log_asked;
    v1::ListModulesReply module_list;

  private:
    grpc::Status Status(grpc::ServerContext*,
                        const v1::StatusRequest* request,
                        v1::StatusReply* reply) override {
        for (const auto& wanted : request->modules()) {
            bool found = false;
            for (const auto& one : status.modules()) {
                found = found || one.module() == wanted;
            }
            if (!found) {
                return {grpc::StatusCode::NOT_FOUND,
                        "module " + wanted + " is not configured on node1"};
            }
        }
        *reply = status;
        return grpc::Status::OK;
    }

    grpc::Status WatchStatus(grpc::ServerContext*,
                             const v1::StatusRequest*,
                             grpc::ServerWriter<v1::StatusReply>* writer) override {
        for (const auto& one : watched) {
            writer->Write(one);
        }
        if (!watch_ends) {
            std::unique_lock lock(mutex_);
            stopped_.wait(lock, [this] { return stopping_; });
        }
        return grpc::Status::OK;
    }

    grpc::Status Command(grpc::ServerContext*,
                         const v1::CommandRequest* request,
                         v1::CommandReply* reply) override {
        asked = *request;
        ++commands;
        *reply = command_reply;
        return command_status;
    }

    grpc::Status Events(grpc::ServerContext*,
                        const v1::EventsRequest* request,
                        grpc::ServerWriter<v1::EventRecord>* writer) override {
        log_asked = *request;
        for (const auto& record : log) {
            writer->Write(record);
        }
        return grpc::Status::OK;
    }

    grpc::Status ListModules(grpc::ServerContext*,
                             const v1::ListModulesRequest*,
                             v1::ListModulesReply* reply) override {
        *reply = module_list;
        return grpc::Status::OK;
    }

    grpc::Status Version(grpc::ServerContext*,
                         const v1::VersionRequest*,
                         v1::VersionReply* reply) override {
        reply->set_version("0.1.0");
        reply->set_node("node1");
        reply->set_wire_min(1);
        reply->set_wire_max(2);
        return grpc::Status::OK;
    }

    safepair::tests::ScratchDirectory directory_;
    std::unique_ptr<grpc::Server> server_;
    std::mutex mutex_;
    std::condition_variable stopped_;
    bool stopping_ = false;  // guarded by mutex_
};

inline v1::ListModulesReply two_modules() {
    v1::ListModulesReply reply;
    for (const auto* name : {"vm1", "web"}) {
        auto& module = *reply.add_modules();
        module.set_name(name);
        module.add_nodes("node1");
        module.add_nodes("node2");
        module.set_kind(name == std::string("vm1") ? "vm" : "service");
        module.set_folder(std::string("/srv/") + name);
        module.set_boot("on");
        module.set_file(std::string("/etc/safepair/modules/") + name + ".yaml");
    }
    return reply;
}

}  // namespace safepair::cli::tests
