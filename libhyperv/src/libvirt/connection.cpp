#include "connection.hpp"

#include "../core/domain_states.hpp"
#include "event_loop.hpp"
#include "host_uri.hpp"
#include "libvirt_error.hpp"

#include <fmt/format.h>
#include <libvirt/virterror.h>

#include <optional>
#include <utility>

namespace safepair::hyperv {

namespace {

/// A libvirtd that does not answer for three of these is gone.
constexpr int keepalive_seconds = 5;
constexpr unsigned keepalive_count = 3;

}  // namespace

/// What libvirt's callbacks hold on to; it goes silent when the connection's owner ends.
class Connection::Sink {
  public:
    explicit Sink(ConnectionListener listener) : listener_(std::move(listener)) {}

    void event(std::optional<VmEvent> event) {
        const std::lock_guard lock(mutex_);
        if (event && listener_.on_event) {
            listener_.on_event(std::move(*event));
        }
    }

    void lose(virConnectPtr connection) {
        const std::lock_guard lock(mutex_);
        lost_ = connection;
        if (listener_.on_lost) {
            listener_.on_lost();
        }
    }

    bool is_lost(virConnectPtr connection) {
        const std::lock_guard lock(mutex_);
        return lost_ == connection;
    }

    void forget_lost() {
        const std::lock_guard lock(mutex_);
        lost_ = nullptr;
    }

    void silence() {
        const std::lock_guard lock(mutex_);
        listener_ = {};
    }

    static void on_close(virConnectPtr connection, int, void* opaque) {
        of(opaque).lose(connection);
    }

    static Sink& of(void* opaque) { return **static_cast<std::shared_ptr<Sink>*>(opaque); }

    static void release(void* opaque) {
        delete static_cast<std::shared_ptr<Sink>*>(opaque);
    }  // NOLINT: libvirt owned it

  private:
    std::mutex mutex_;
    ConnectionListener listener_;   // guarded by mutex_, called under it: it only queues
    virConnectPtr lost_ = nullptr;  // guarded by mutex_
};

namespace {

std::string name_of(virDomainPtr domain) {
    const auto* name = virDomainGetName(domain);
    return name == nullptr ? "" : name;
}

/// The embedded driver serves this process until it ends: closing its last connection is not
/// something it expects.
void keep_embedded(const ConnectionHandle& connection) {
    static std::once_flag once;
    std::call_once(once, [&] { virConnectRef(connection.get()); });
}

}  // namespace

Connection::Connection(std::string uri, ConnectionListener listener)
    : uri_(std::move(uri)), sink_(std::make_shared<Sink>(std::move(listener))) {}

Connection::~Connection() {
    sink_->silence();
    const std::lock_guard lock(mutex_);
    close();
}

void Connection::close() {
    if (handle_) {
        for (const int id : callbacks_) {
            virConnectDomainEventDeregisterAny(handle_.get(), id);
        }
        if (has_close_callback_) {
            virConnectUnregisterCloseCallback(handle_.get(), Sink::on_close);
        }
    }
    callbacks_.clear();
    has_close_callback_ = false;
    handle_.reset();
}

base::Result<void> Connection::open() {
    start_libvirt();
    SAFEPAIR_TRY(const auto places, host_places(uri_));
    if (!places.embed_root.empty()) {
        SAFEPAIR_CHECK(prepare_embedded_host(places.embed_root));
    }
    virResetLastError();
    handle_.reset(virConnectOpen(uri_.c_str()));
    if (!handle_) {
        auto error = libvirt_error("cannot connect to " + uri_);
        // Whatever libvirt's word for it: nobody answers there.
        error.code = std::make_error_code(std::errc::connection_refused);
        return error;
    }
    if (!places.embed_root.empty()) {
        keep_embedded(handle_);
    }
    sink_->forget_lost();
    // Only a remote driver has either; the others cannot be lost.
    virConnectSetKeepAlive(handle_.get(), keepalive_seconds, keepalive_count);
    auto* close_opaque = new std::shared_ptr<Sink>(sink_);  // NOLINT: libvirt releases it
    has_close_callback_ = virConnectRegisterCloseCallback(
                              handle_.get(), Sink::on_close, close_opaque, Sink::release) == 0;
    if (!has_close_callback_) {
        Sink::release(close_opaque);
    }

    const auto lifecycle =
        [](virConnectPtr, virDomainPtr domain, int event, int detail, void* opaque) -> int {
        Sink::of(opaque).event(vm_event(name_of(domain), event, detail));
        return 0;
    };
    const auto reboot = [](virConnectPtr, virDomainPtr domain, void* opaque) {
        Sink::of(opaque).event(VmEvent{VmEvent::Kind::rebooted, name_of(domain), "guest"});
    };
    const auto subscribe = [this](int id, virConnectDomainEventGenericCallback callback) {
        auto* opaque = new std::shared_ptr<Sink>(sink_);  // NOLINT: libvirt releases it
        const int registered = virConnectDomainEventRegisterAny(
            handle_.get(), nullptr, id, callback, opaque, Sink::release);
        if (registered < 0) {
            Sink::release(opaque);
            return false;
        }
        callbacks_.push_back(registered);
        return true;
    };
    if (!subscribe(
            VIR_DOMAIN_EVENT_ID_LIFECYCLE,
            VIR_DOMAIN_EVENT_CALLBACK(static_cast<virConnectDomainEventCallback>(lifecycle)))) {
        auto error = libvirt_error("cannot follow the events of " + uri_);
        close();
        return error;
    }
    static_cast<void>(subscribe(VIR_DOMAIN_EVENT_ID_REBOOT,
                                static_cast<virConnectDomainEventGenericCallback>(reboot)));
    return {};
}

base::Result<ConnectionHandle> Connection::get() {
    const std::lock_guard lock(mutex_);
    if (handle_ && (sink_->is_lost(handle_.get()) || virConnectIsAlive(handle_.get()) != 1)) {
        close();
    }
    if (!handle_) {
        SAFEPAIR_CHECK(open());
    }
    virConnectRef(handle_.get());
    return ConnectionHandle(handle_.get());
}

}  // namespace safepair::hyperv
