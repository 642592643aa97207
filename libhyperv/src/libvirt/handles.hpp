#pragma once

#include <libvirt/libvirt.h>

#include <cstdlib>
#include <memory>

namespace safepair::hyperv {

struct ConnectionCloser {
    void operator()(virConnect* connection) const noexcept { virConnectClose(connection); }
};

struct DomainFreer {
    void operator()(virDomain* domain) const noexcept { virDomainFree(domain); }
};

struct NetworkFreer {
    void operator()(virNetwork* network) const noexcept { virNetworkFree(network); }
};

struct MallocFreer {
    void operator()(void* memory) const noexcept {
        std::free(memory);
    }  // NOLINT: libvirt's strings come from malloc
};

/// One reference to libvirt's counted object each.
using ConnectionHandle = std::unique_ptr<virConnect, ConnectionCloser>;
using DomainHandle = std::unique_ptr<virDomain, DomainFreer>;
using NetworkHandle = std::unique_ptr<virNetwork, NetworkFreer>;
using LibvirtString = std::unique_ptr<char, MallocFreer>;

}  // namespace safepair::hyperv
