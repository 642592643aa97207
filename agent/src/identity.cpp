#include "identity.hpp"

#include <safepair/base/unique_fd.hpp>

#include <fmt/format.h>
#include <openssl/bio.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>
#include <openssl/pem.h>
#include <openssl/x509_vfy.h>
#include <openssl/x509v3.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cerrno>
#include <ctime>
#include <optional>
#include <span>
#include <string_view>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace safepair::agent {

namespace {

constexpr std::size_t file_bytes_max = 64 * 1024;
constexpr std::string_view channel_label = "safepair data channel 1";

template <auto Free>
struct Freed {
    template <typename T>
    void operator()(T* pointer) const noexcept {
        Free(pointer);
    }
};

void free_certificates(STACK_OF(X509) * stack) { sk_X509_pop_free(stack, X509_free); }

using Bio = std::unique_ptr<BIO, Freed<BIO_free_all>>;
using Certificate = std::unique_ptr<X509, Freed<X509_free>>;
using Certificates = std::unique_ptr<STACK_OF(X509), Freed<free_certificates>>;
using Key = std::unique_ptr<EVP_PKEY, Freed<EVP_PKEY_free>>;
using Store = std::unique_ptr<X509_STORE, Freed<X509_STORE_free>>;
using StoreContext = std::unique_ptr<X509_STORE_CTX, Freed<X509_STORE_CTX_free>>;

base::Error wrong(const std::filesystem::path& file, const std::string& text) {
    return base::error(base::Errc::bad_input, file.string() + ": " + text);
}

/// OpenSSL's newest reason, and an empty queue.
std::string openssl_reason() {
    const auto code = ERR_peek_last_error();
    const char* reason = code != 0 ? ERR_reason_error_string(code) : nullptr;
    ERR_clear_error();
    return reason != nullptr ? reason : "no reason given";
}

/// `forbidden`: permission bits that must not be set.
base::Result<std::string> read_file(const std::filesystem::path& file, mode_t forbidden) {
    const base::UniqueFd fd(::open(file.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
    if (!fd) {
        const auto failure = errno;
        if (failure == ENOENT) {
            return wrong(
                file, "there is no such file; packaging/make-test-ca.sh makes all four of a node");
        }
        return base::error_from_errno(failure, file.string());
    }

    struct stat status {};

    if (::fstat(fd.get(), &status) != 0) {
        return base::error_from_errno(errno, file.string());
    }
    if (!S_ISREG(status.st_mode)) {
        return wrong(file, "is not a file");
    }
    if ((status.st_mode & forbidden) != 0) {
        const bool secret = (forbidden & S_IROTH) != 0;
        return wrong(
            file,
            fmt::format("{} (mode {:04o}); chmod {} {}",
                        secret ? "others may read this key" : "others may change this certificate",
                        status.st_mode & 07777U,
                        secret ? "0600" : "go-w",
                        file.string()));
    }
    if (status.st_uid != 0 && status.st_uid != ::geteuid()) {
        return wrong(
            file, fmt::format("belongs to user {0}; chown root {1}", status.st_uid, file.string()));
    }
    std::string text(file_bytes_max + 1, '\0');
    std::size_t size = 0;
    while (size < text.size()) {
        const auto count = ::read(fd.get(), text.data() + size, text.size() - size);
        if (count < 0 && errno == EINTR) {
            continue;
        }
        if (count < 0) {
            return base::error_from_errno(errno, "read " + file.string());
        }
        if (count == 0) {
            break;
        }
        size += static_cast<std::size_t>(count);
    }
    if (size > file_bytes_max) {
        return wrong(file, "is too large for a key or a certificate");
    }
    text.resize(size);
    return text;
}

Bio memory(const std::string& text) {
    return Bio(BIO_new_mem_buf(text.data(), static_cast<int>(text.size())));
}

/// Every certificate of a PEM text; at least one.
base::Result<Certificates> read_certificates(const std::filesystem::path& file,
                                             const std::string& pem) {
    const auto bio = memory(pem);
    Certificates all(sk_X509_new_null());
    while (bio && all) {
        X509* one = PEM_read_bio_X509(bio.get(), nullptr, nullptr, nullptr);
        if (one == nullptr) {
            break;
        }
        if (sk_X509_push(all.get(), one) == 0) {
            X509_free(one);
            return base::error(base::Errc::limit_reached, file.string() + ": out of memory");
        }
    }
    // The last attempt finds nothing more, which is no error once there was one.
    const auto code = ERR_peek_last_error();
    const bool at_end =
        ERR_GET_LIB(code) == ERR_LIB_PEM && ERR_GET_REASON(code) == PEM_R_NO_START_LINE;
    const auto reason = openssl_reason();
    if (!all || sk_X509_num(all.get()) == 0) {
        return wrong(file, "holds no certificate in PEM form");
    }
    if (!at_end) {
        return wrong(file, "holds a damaged certificate: " + reason);
    }
    return all;
}

base::WallNanoseconds to_wall(const ASN1_TIME* time) {
    std::tm parts{};
    if (ASN1_TIME_to_tm(time, &parts) != 1) {
        return 0;
    }
    return static_cast<base::WallNanoseconds>(timegm(&parts)) * 1'000'000'000;
}

std::string to_date(const ASN1_TIME* time) {
    std::tm parts{};
    if (ASN1_TIME_to_tm(time, &parts) != 1) {
        return "an unreadable date";
    }
    return fmt::format("{:04}-{:02}-{:02}", parts.tm_year + 1900, parts.tm_mon + 1, parts.tm_mday);
}

/// The names a certificate carries, for a message.
std::string names_of(X509* certificate) {
    std::string names;
    auto* alternatives = static_cast<GENERAL_NAMES*>(
        X509_get_ext_d2i(certificate, NID_subject_alt_name, nullptr, nullptr));
    for (int i = 0; i < sk_GENERAL_NAME_num(alternatives); ++i) {
        const auto* one = sk_GENERAL_NAME_value(alternatives, i);
        if (one->type == GEN_DNS) {
            const auto* text = reinterpret_cast<const char*>(ASN1_STRING_get0_data(one->d.dNSName));
            names +=
                (names.empty() ? "" : ", ") +
                std::string(text, static_cast<std::size_t>(ASN1_STRING_length(one->d.dNSName)));
        }
    }
    GENERAL_NAMES_free(alternatives);
    if (names.empty()) {
        std::array<char, 256> common{};
        X509_NAME_get_text_by_NID(X509_get_subject_name(certificate),
                                  NID_commonName,
                                  common.data(),
                                  static_cast<int>(common.size()));
        names = common.data();
    }
    return names.empty() ? "nobody" : names;
}

base::Result<void> check_chain(const std::filesystem::path& file,
                               const std::filesystem::path& ca_file,
                               STACK_OF(X509) * chain,
                               STACK_OF(X509) * authorities) {
    auto* certificate = sk_X509_value(chain, 0);
    const Store store(X509_STORE_new());
    for (int i = 0; store && i < sk_X509_num(authorities); ++i) {
        X509_STORE_add_cert(store.get(), sk_X509_value(authorities, i));
    }
    // A node is a client of its peer and a server for it.
    for (const int purpose : {X509_PURPOSE_SSL_SERVER, X509_PURPOSE_SSL_CLIENT}) {
        const StoreContext context(X509_STORE_CTX_new());
        if (!store || !context ||
            X509_STORE_CTX_init(context.get(), store.get(), certificate, chain) != 1) {
            return wrong(file, "cannot be verified: " + openssl_reason());
        }
        X509_STORE_CTX_set_purpose(context.get(), purpose);
        if (X509_verify_cert(context.get()) == 1) {
            continue;
        }
        const int code = X509_STORE_CTX_get_error(context.get());
        const auto* failed = X509_STORE_CTX_get_current_cert(context.get());
        // An expired authority takes every node's certificate with it.
        const auto& culprit = failed != nullptr && failed != certificate ? ca_file : file;
        const auto* dated = failed != nullptr ? failed : certificate;
        ERR_clear_error();
        if (code == X509_V_ERR_CERT_HAS_EXPIRED) {
            return wrong(culprit,
                         "expired on " + to_date(X509_get0_notAfter(dated)) +
                             "; make new certificates for all nodes");
        }
        if (code == X509_V_ERR_CERT_NOT_YET_VALID) {
            return wrong(culprit,
                         "is valid from " + to_date(X509_get0_notBefore(dated)) +
                             " on only; set this machine's clock");
        }
        return wrong(file,
                     fmt::format("is not accepted by {}: {}; both must come from one run of the CA",
                                 ca_file.string(),
                                 X509_verify_cert_error_string(code)));
    }
    return {};
}

std::optional<std::uint8_t> hex_digit(char c) {
    if (c >= '0' && c <= '9') {
        return static_cast<std::uint8_t>(c - '0');
    }
    const char lower = static_cast<char>(c | 0x20);
    if (lower >= 'a' && lower <= 'f') {
        return static_cast<std::uint8_t>(lower - 'a' + 10);
    }
    return std::nullopt;
}

std::optional<cluster::HeartbeatKey> key_from_hex(std::string_view text) {
    cluster::HeartbeatKey key{};
    if (text.size() != key.size() * 2) {
        return std::nullopt;
    }
    for (std::size_t i = 0; i < key.size(); ++i) {
        const auto high = hex_digit(text[2 * i]);
        const auto low = hex_digit(text[2 * i + 1]);
        if (!high || !low) {
            return std::nullopt;
        }
        key[i] = static_cast<std::uint8_t>(*high << 4U | *low);
    }
    return key;
}

std::optional<cluster::HeartbeatKey> key_from_base64(std::string_view text) {
    // 32 bytes are 44 characters, the last of them one '='.
    constexpr std::size_t characters = 44;
    std::array<unsigned char, characters / 4 * 3> bytes{};
    cluster::HeartbeatKey key{};
    if (text.size() != characters || text.back() != '=' || text[characters - 2] == '=') {
        return std::nullopt;
    }
    const auto* input = reinterpret_cast<const unsigned char*>(text.data());
    if (EVP_DecodeBlock(bytes.data(), input, static_cast<int>(characters)) !=
        static_cast<int>(bytes.size())) {
        ERR_clear_error();
        return std::nullopt;
    }
    std::copy_n(bytes.begin(), key.size(), key.begin());
    OPENSSL_cleanse(bytes.data(), bytes.size());
    return key;
}

base::Result<cluster::HeartbeatKey> read_heartbeat_key(const std::filesystem::path& file) {
    SAFEPAIR_TRY(auto text, read_file(file, 077));
    const auto not_space = [](char c) { return std::isspace(static_cast<unsigned char>(c)) == 0; };
    const auto end = std::find_if(text.rbegin(), text.rend(), not_space).base();
    const std::string_view word(text.data(), static_cast<std::size_t>(end - text.begin()));
    auto key = key_from_hex(word);
    if (!key) {
        key = key_from_base64(word);
    }
    OPENSSL_cleanse(text.data(), text.size());
    if (!key) {
        return wrong(file,
                     "is not 32 bytes as 64 hexadecimal digits or base64; make one with openssl "
                     "rand -hex 32 and copy it to "
                     "every node");
    }
    if (std::all_of(key->begin(), key->end(), [](auto byte) { return byte == 0; })) {
        return wrong(file,
                     "is all zeros; make one with openssl rand -hex 32 and copy it to every node");
    }
    return *key;
}

class FileIdentity final : public Identity {
  public:
    FileIdentity() = default;
    FileIdentity(const FileIdentity&) = delete;
    FileIdentity& operator=(const FileIdentity&) = delete;

    ~FileIdentity() override {
        OPENSSL_cleanse(key_.data(), key_.size());
        OPENSSL_cleanse(heartbeat_key_.data(), heartbeat_key_.size());
        OPENSSL_cleanse(channel_key_.data(), channel_key_.size());
    }

    [[nodiscard]] base::Result<void> load(const std::filesystem::path& directory,
                                          const std::string& node);

    [[nodiscard]] const std::string& ca_pem() const override { return ca_; }

    [[nodiscard]] const std::string& certificate_pem() const override { return certificate_; }

    [[nodiscard]] const std::string& key_pem() const override { return key_; }

    [[nodiscard]] const cluster::HeartbeatKey& heartbeat_key() const override {
        return heartbeat_key_;
    }

    [[nodiscard]] const replica::ChannelKey& channel_key() const override { return channel_key_; }

    [[nodiscard]] base::WallNanoseconds not_after() const override { return not_after_; }

  private:
    std::string ca_;
    std::string certificate_;
    std::string key_;
    cluster::HeartbeatKey heartbeat_key_{};
    replica::ChannelKey channel_key_{};
    base::WallNanoseconds not_after_ = 0;
};

base::Result<void> FileIdentity::load(const std::filesystem::path& directory,
                                      const std::string& node) {
    const auto ca_file = directory / "ca.crt";
    const auto certificate_file = directory / "node.crt";
    const auto key_file = directory / "node.key";
    ERR_clear_error();
    SAFEPAIR_TRY(ca_, read_file(ca_file, 022));
    SAFEPAIR_TRY(certificate_, read_file(certificate_file, 022));
    SAFEPAIR_TRY(key_, read_file(key_file, 077));
    SAFEPAIR_TRY(heartbeat_key_, read_heartbeat_key(directory / "heartbeat.key"));
    SAFEPAIR_TRY(channel_key_, derive_channel_key(heartbeat_key_));

    SAFEPAIR_TRY(const auto authorities, read_certificates(ca_file, ca_));
    SAFEPAIR_TRY(const auto chain, read_certificates(certificate_file, certificate_));
    auto* certificate = sk_X509_value(chain.get(), 0);
    const auto key_text = memory(key_);
    // A pass phrase would be asked for on a terminal that a service does not have.
    const auto no_phrase = [](char*, int, int, void*) { return -1; };
    const Key key(PEM_read_bio_PrivateKey(key_text.get(), nullptr, no_phrase, nullptr));
    if (!key) {
        return wrong(key_file,
                     "holds no private key without pass phrase in PEM form: " + openssl_reason());
    }
    if (X509_check_private_key(certificate, key.get()) != 1) {
        ERR_clear_error();
        return wrong(
            key_file,
            "is not the key of " + certificate_file.string() + "; copy both from one directory");
    }
    if (X509_check_host(
            certificate, node.data(), node.size(), X509_CHECK_FLAG_NO_WILDCARDS, nullptr) != 1) {
        return wrong(certificate_file,
                     fmt::format("is the certificate of {}, and this node is called {}; copy this "
                                 "node's own files, or name "
                                 "the node with --node",
                                 names_of(certificate),
                                 node));
    }
    SAFEPAIR_CHECK(check_chain(certificate_file, ca_file, chain.get(), authorities.get()));
    not_after_ = to_wall(X509_get0_notAfter(certificate));
    for (int i = 0; i < sk_X509_num(authorities.get()); ++i) {
        not_after_ =
            std::min(not_after_, to_wall(X509_get0_notAfter(sk_X509_value(authorities.get(), i))));
    }
    return {};
}

}  // namespace

base::Result<replica::ChannelKey> derive_channel_key(const cluster::HeartbeatKey& key) {
    using Kdf = std::unique_ptr<EVP_KDF, Freed<EVP_KDF_free>>;
    using KdfContext = std::unique_ptr<EVP_KDF_CTX, Freed<EVP_KDF_CTX_free>>;
    const Kdf kdf(EVP_KDF_fetch(nullptr, "HKDF", nullptr));
    const KdfContext context(kdf ? EVP_KDF_CTX_new(kdf.get()) : nullptr);
    auto secret = key;
    std::string digest = "SHA256";
    std::string label(channel_label);
    const std::array<OSSL_PARAM, 4> parameters{
        OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, digest.data(), 0),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY, secret.data(), secret.size()),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_INFO, label.data(), label.size()),
        OSSL_PARAM_construct_end()};
    replica::ChannelKey derived{};
    const bool done =
        context &&
        EVP_KDF_derive(context.get(), derived.data(), derived.size(), parameters.data()) == 1;
    OPENSSL_cleanse(secret.data(), secret.size());
    if (!done) {
        return base::error(base::Errc::unsupported, "HKDF-SHA-256 of OpenSSL: " + openssl_reason());
    }
    return derived;
}

base::Result<std::unique_ptr<Identity>> load_identity_files(const std::filesystem::path& directory,
                                                            const std::string& node) {
    auto identity = std::make_unique<FileIdentity>();
    SAFEPAIR_CHECK(identity->load(directory, node));
    return std::unique_ptr<Identity>(std::move(identity));
}

}  // namespace safepair::agent
