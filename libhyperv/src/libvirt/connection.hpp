#pragma once

#include "handles.hpp"

#include <safepair/hyperv/virtual_machines.hpp>

#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

namespace safepair::hyperv {

/// What a connection tells; on libvirt's event thread, which must not be kept waiting.
struct ConnectionListener {
    std::function<void(VmEvent event)> on_event;
    std::function<void()> on_lost;
};

/// A connection that is opened when it is needed, and again when it was lost.
class Connection {
  public:
    Connection(std::string uri, ConnectionListener listener);
    ~Connection();
    Connection(const Connection&) = delete;
    Connection& operator=(const Connection&) = delete;

    /// A reference of the caller's own. std::errc::connection_refused when the hypervisor
    /// cannot be reached.
    [[nodiscard]] base::Result<ConnectionHandle> get();

    [[nodiscard]] const std::string& uri() const noexcept { return uri_; }

  private:
    class Sink;
    base::Result<void> open();
    void close();

    const std::string uri_;
    const std::shared_ptr<Sink> sink_;

    /// Held while a connection is opened: who needs it meanwhile would only open a second one.
    std::mutex mutex_;
    // Guarded by mutex_.
    ConnectionHandle handle_;
    std::vector<int> callbacks_;
    bool has_close_callback_ = false;
};

}  // namespace safepair::hyperv
