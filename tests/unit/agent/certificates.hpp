#pragma once

#include "support/catch.hpp"

#include <openssl/bio.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include <memory>
#include <string>

namespace safepair::tests {

/// A certificate authority in memory and what it signs, good or bad.
class CertificateMaker {
  public:
    struct Request {
        std::string common_name;
        /// DNS name; empty for none.
        std::string alternative_name;
        int from_days = -1;
        int to_days = 99;
        std::string usage = "serverAuth,clientAuth";
    };

    struct Made {
        std::string pem;
        std::string key_pem;
    };

    explicit CertificateMaker(int from_days = -1, int to_days = 3650)
        : key_(EVP_EC_gen("P-256"), EVP_PKEY_free), authority_(X509_new(), X509_free) {
        REQUIRE(key_);
        fill(authority_.get(), key_.get(), "test CA", from_days, to_days);
        X509_set_issuer_name(authority_.get(), X509_get_subject_name(authority_.get()));
        extend(authority_.get(), NID_basic_constraints, "critical,CA:TRUE");
        extend(authority_.get(), NID_key_usage, "critical,keyCertSign");
        REQUIRE(X509_sign(authority_.get(), key_.get(), EVP_sha256()) > 0);
    }

    [[nodiscard]] std::string authority_pem() const { return pem(authority_.get()); }

    [[nodiscard]] Made make(const Request& request) const {
        const std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)> key(EVP_EC_gen("P-256"),
                                                                      EVP_PKEY_free);
        const std::unique_ptr<X509, decltype(&X509_free)> certificate(X509_new(), X509_free);
        REQUIRE(key);
        fill(certificate.get(), key.get(), request.common_name, request.from_days, request.to_days);
        X509_set_issuer_name(certificate.get(), X509_get_subject_name(authority_.get()));
        extend(certificate.get(), NID_basic_constraints, "critical,CA:FALSE");
        extend(certificate.get(), NID_ext_key_usage, request.usage);
        if (!request.alternative_name.empty()) {
            extend(certificate.get(), NID_subject_alt_name, "DNS:" + request.alternative_name);
        }
        REQUIRE(X509_sign(certificate.get(), key_.get(), EVP_sha256()) > 0);
        const std::unique_ptr<BIO, decltype(&BIO_free_all)> bio(BIO_new(BIO_s_mem()), BIO_free_all);
        REQUIRE(PEM_write_bio_PrivateKey(
                    bio.get(), key.get(), nullptr, nullptr, 0, nullptr, nullptr) == 1);
        return {pem(certificate.get()), text(bio.get())};
    }

  private:
    static std::string text(BIO* bio) {
        char* data = nullptr;
        const long size = BIO_get_mem_data(bio, &data);
        return {data, static_cast<std::size_t>(size)};
    }

    static std::string pem(X509* certificate) {
        const std::unique_ptr<BIO, decltype(&BIO_free_all)> bio(BIO_new(BIO_s_mem()), BIO_free_all);
        REQUIRE(PEM_write_bio_X509(bio.get(), certificate) == 1);
        return text(bio.get());
    }

    static void fill(
        X509* certificate, EVP_PKEY* key, const std::string& name, int from_days, int to_days) {
        constexpr long day = 24 * 3600;
        static long serial = 1;
        X509_set_version(certificate, 2);
        ASN1_INTEGER_set(X509_get_serialNumber(certificate), serial++);
        X509_gmtime_adj(X509_getm_notBefore(certificate), from_days * day);
        X509_gmtime_adj(X509_getm_notAfter(certificate), to_days * day);
        X509_set_pubkey(certificate, key);
        const auto* bytes = reinterpret_cast<const unsigned char*>(name.c_str());
        X509_NAME_add_entry_by_NID(
            X509_get_subject_name(certificate), NID_commonName, MBSTRING_UTF8, bytes, -1, -1, 0);
    }

    static void extend(X509* certificate, int kind, const std::string& value) {
        X509_EXTENSION* extension = X509V3_EXT_conf_nid(nullptr, nullptr, kind, value.c_str());
        REQUIRE(extension != nullptr);
        X509_add_ext(certificate, extension, -1);
        X509_EXTENSION_free(extension);
    }

    std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)> key_;
    std::unique_ptr<X509, decltype(&X509_free)> authority_;
};

}  // namespace safepair::tests
