#pragma once

#include <safepair/base/result.hpp>
#include <safepair/base/time.hpp>
#include <safepair/cluster/heartbeat.hpp>
#include <safepair/replica/data_channel.hpp>

#include <filesystem>
#include <memory>
#include <string>

namespace safepair::agent {

/// What this node proves itself with, wherever it is kept. Everything else only uses this.
class Identity {
  public:
    virtual ~Identity() = default;

    /// The cluster's certificate authority, PEM.
    [[nodiscard]] virtual const std::string& ca_pem() const = 0;
    /// This node's certificate, PEM, with intermediates if there are any. Names the node.
    [[nodiscard]] virtual const std::string& certificate_pem() const = 0;
    /// Its private key, PEM.
    [[nodiscard]] virtual const std::string& key_pem() const = 0;
    /// The same on all nodes.
    [[nodiscard]] virtual const cluster::HeartbeatKey& heartbeat_key() const = 0;
    /// Derived from the heartbeat key, so that no two protocols authenticate with one key.
    [[nodiscard]] virtual const replica::ChannelKey& channel_key() const = 0;
    /// When the certificate ends.
    [[nodiscard]] virtual base::WallNanoseconds not_after() const = 0;
};

/// Reads ca.crt, node.crt, node.key and heartbeat.key (32 bytes as 64 hexadecimal digits or base64)
/// of `directory` and checks them as the peer will: the certificate is of `node`, in date, signed
/// by the CA, fit for client and server, and belongs to the key; keys are readable by their owner
/// only. Errors: Errc::bad_input naming the file and the remedy.
[[nodiscard]] base::Result<std::unique_ptr<Identity>> load_identity_files(
    const std::filesystem::path& directory, const std::string& node);

/// HKDF-SHA-256 (RFC 5869) of the heartbeat key, without salt, with a label of the data channel as
/// info.
[[nodiscard]] base::Result<replica::ChannelKey> derive_channel_key(
    const cluster::HeartbeatKey& key);

}  // namespace safepair::agent
