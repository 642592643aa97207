#include "identity.hpp"

#include "support/catch.hpp"
#include "support/scratch_directory.hpp"
#include "unit/agent/certificates.hpp"

#include <safepair/base/system_time.hpp>

#include <cstdlib>
#include <fstream>
#include <iostream>
#include <set>
#include <sstream>

#include <unistd.h>

using namespace safepair;
using namespace safepair::agent;
using tests::CertificateMaker;

namespace {

const std::string key_hex = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

void write(const std::filesystem::path& file, const std::string& text, unsigned mode) {
    std::ofstream(file, std::ios::trunc) << text;
    std::filesystem::permissions(file, std::filesystem::perms(mode));
}

/// The four files of a node, all good; tests spoil one.
struct Files {
    explicit Files(const tests::ScratchDirectory& scratch) : directory(scratch.path()) {
        const auto certificate = maker.make({.common_name = "node1", .alternative_name = "node1"});
        write(directory / "ca.crt", maker.authority_pem(), 0644);
        write(directory / "node.crt", certificate.pem, 0644);
        write(directory / "node.key", certificate.key_pem, 0600);
        write(directory / "heartbeat.key", key_hex + "\n", 0600);
    }

    void replace(const CertificateMaker::Request& request) const {
        const auto certificate = maker.make(request);
        write(directory / "node.crt", certificate.pem, 0644);
        write(directory / "node.key", certificate.key_pem, 0600);
    }

    /// The error of loading, "" for none.
    [[nodiscard]] std::string error(const std::string& node = "node1") const {
        const auto identity = load_identity_files(directory, node);
        if (identity) {
            return "";
        }
        CHECK(identity.error().code == base::Errc::bad_input);
        return identity.error().context;
    }

    CertificateMaker maker;
    std::filesystem::path directory;
};

}  // namespace

TEST_CASE("A node's four files are its identity") {
    const tests::ScratchDirectory scratch;
    const Files files(scratch);
    const auto identity = load_identity_files(files.directory, "node1");
    REQUIRE(identity);
    CHECK((*identity)->ca_pem() == files.maker.authority_pem());
    CHECK_THAT((*identity)->certificate_pem(), Catch::StartsWith("-----BEGIN CERTIFICATE-----"));
    CHECK_THAT((*identity)->key_pem(), Catch::Contains("PRIVATE KEY-----"));
    for (std::size_t i = 0; i < 32; ++i) {
        CHECK((*identity)->heartbeat_key()[i] == i);
    }
    const auto days = ((*identity)->not_after() - base::wall_clock_now()) / 1'000'000'000 / 86'400;
    CHECK(days >= 98);
    CHECK(days <= 100);
}

TEST_CASE("The identities that make-test-ca.sh makes are accepted, and only by their own nodes") {
    const tests::ScratchDirectory scratch;
    const auto out = (scratch.path() / "ids").string();
    const auto script = std::string(SAFEPAIR_PACKAGING) + "/make-test-ca.sh";
    if (std::system("command -v openssl >/dev/null") != 0) {
        std::cout << "SKIPPED: no openssl program\n";
        return;
    }
    REQUIRE(std::system((script + " " + out + " node1 node2 >/dev/null").c_str()) == 0);
    REQUIRE(std::system((script + " " + out + " node3 >/dev/null").c_str()) == 0);
    // What is there is not replaced by accident.
    CHECK(std::system((script + " " + out + " node1 2>/dev/null").c_str()) != 0);
    CHECK(std::system((script + " " + out + " Node_1 2>/dev/null").c_str()) != 0);
    std::set<cluster::HeartbeatKey> keys;
    for (const std::string node : {"node1", "node2", "node3"}) {
        const auto identity = load_identity_files(std::filesystem::path(out) / node, node);
        REQUIRE(identity);
        keys.insert((*identity)->heartbeat_key());
    }
    CHECK(keys.size() == 1);
    CHECK_FALSE(load_identity_files(std::filesystem::path(out) / "node1", "node2"));
}

TEST_CASE("A heartbeat key is 32 bytes as hexadecimal digits or base64, and nothing else") {
    const tests::ScratchDirectory scratch;
    const Files files(scratch);
    const auto good = load_identity_files(files.directory, "node1");
    REQUIRE(good);
    const auto key = files.directory / "heartbeat.key";
    write(key, "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=", 0600);
    const auto base64 = load_identity_files(files.directory, "node1");
    REQUIRE(base64);
    CHECK((*base64)->heartbeat_key() == (*good)->heartbeat_key());

    for (const auto& bad : {std::string(),
                            std::string("secret"),
                            key_hex.substr(2),
                            key_hex + "00",
                            "g" + key_hex.substr(1),
                            std::string("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHg=="),
                            std::string("!AECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="),
                            std::string(64, '0')}) {
        INFO(bad);
        write(key, bad, 0600);
        CHECK_THAT(
            files.error(),
            Catch::Contains("heartbeat.key: is ") && Catch::Contains("openssl rand -hex 32"));
    }
}

TEST_CASE("The channel's key follows from the heartbeat's and is another one") {
    cluster::HeartbeatKey one{};
    cluster::HeartbeatKey other{};
    for (std::size_t i = 0; i < one.size(); ++i) {
        one[i] = static_cast<std::uint8_t>(i);
        other[i] = static_cast<std::uint8_t>(i + 1);
    }
    const auto derived = derive_channel_key(one);
    REQUIRE(derived);
    CHECK(*derived == *derive_channel_key(one));
    CHECK(*derived != *derive_channel_key(other));
    CHECK(*derived != one);
    // HMAC-SHA-256(HMAC-SHA-256(zeros, key), label + 0x01), computed with another program: both
    // nodes of a pair of different versions must agree.
    const replica::ChannelKey expected{0x5d, 0x8b, 0xce, 0x21, 0xb3, 0x87, 0x8a, 0xcc,
                                       0xec, 0xe6, 0x54, 0xf3, 0x4d, 0x36, 0x92, 0xe5,
                                       0x55, 0x8a, 0xb6, 0x42, 0xcb, 0x6b, 0x1f, 0x48,
                                       0x1d, 0xd0, 0x0e, 0x21, 0xb6, 0x25, 0xe3, 0x9b};
    CHECK(*derived == expected);
}

TEST_CASE("A missing file is named with what makes it") {
    for (const char* name : {"ca.crt", "node.crt", "node.key", "heartbeat.key"}) {
        const tests::ScratchDirectory scratch;
        const Files files(scratch);
        std::filesystem::remove(files.directory / name);
        CHECK_THAT(files.error(),
                   Catch::StartsWith((files.directory / name).string()) &&
                       Catch::Contains("make-test-ca.sh"));
    }
}

TEST_CASE(
    "A key that others may read, or a certificate that others may change, is refused with the "
    "chmod that helps") {
    const tests::ScratchDirectory scratch;
    const Files files(scratch);
    for (const char* name : {"node.key", "heartbeat.key"}) {
        const auto file = files.directory / name;
        std::filesystem::permissions(file, std::filesystem::perms(0640));
        CHECK_THAT(
            files.error(),
            Catch::Contains("others may read this key (mode 0640); chmod 0600 " + file.string()));
        std::filesystem::permissions(file, std::filesystem::perms(0400));
        CHECK(files.error().empty());
    }
    for (const char* name : {"ca.crt", "node.crt"}) {
        const auto file = files.directory / name;
        std::filesystem::permissions(file, std::filesystem::perms(0664));
        CHECK_THAT(files.error(),
                   Catch::Contains("others may change this certificate (mode 0664); chmod go-w " +
                                   file.string()));
        std::filesystem::permissions(file, std::filesystem::perms(0644));
    }
}

TEST_CASE("Files of an identity must be files of the right size and form") {
    const tests::ScratchDirectory scratch;
    const Files files(scratch);
    const auto certificate = files.directory / "node.crt";
    SECTION("junk") {
        write(certificate, "junk", 0644);
        CHECK_THAT(files.error(), Catch::Contains("node.crt: holds no certificate in PEM form"));
    }
    SECTION("a torn certificate") {
        write(certificate, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", 0644);
        CHECK_THAT(files.error(), Catch::Contains("node.crt: holds no certificate"));
    }
    SECTION("a good one and a torn one") {
        write(certificate,
              files.maker.authority_pem() +
                  "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
              0644);
        CHECK_THAT(files.error(), Catch::Contains("node.crt: holds a damaged certificate"));
    }
    SECTION("a huge file") {
        write(certificate, std::string(1024 * 1024, 'x'), 0644);
        CHECK_THAT(files.error(), Catch::Contains("is too large"));
    }
    SECTION("a directory") {
        std::filesystem::remove(certificate);
        std::filesystem::create_directory(certificate);
        CHECK_THAT(files.error(), Catch::Contains("node.crt: is not a file"));
    }
    SECTION("no key") {
        write(files.directory / "node.key", "junk", 0600);
        CHECK_THAT(files.error(),
                   Catch::Contains("node.key: holds no private key without pass phrase"));
    }
}

TEST_CASE("A certificate must be this node's, and go with its key") {
    const tests::ScratchDirectory scratch;
    const Files files(scratch);
    CHECK_THAT(
        files.error("node2"),
        Catch::Contains("node.crt: is the certificate of node1, and this node is called node2") &&
            Catch::Contains("--node"));

    const auto other = files.maker.make({.common_name = "node1", .alternative_name = "node1"});
    write(files.directory / "node.key", other.key_pem, 0600);
    CHECK_THAT(files.error(), Catch::Contains("node.key: is not the key of"));

    // The common name counts only for a certificate without other names, as for gRPC.
    files.replace({.common_name = "node1", .alternative_name = "node9"});
    CHECK_THAT(files.error(), Catch::Contains("is the certificate of node9"));
    files.replace({.common_name = "node1", .alternative_name = ""});
    CHECK(files.error().empty());
    files.replace({.common_name = "x", .alternative_name = "*"});
    CHECK_THAT(files.error(), Catch::Contains("is the certificate of *"));
}

TEST_CASE(
    "A certificate must be in date, for both ends of a connection, and signed by the cluster's "
    "authority") {
    const tests::ScratchDirectory scratch;
    const Files files(scratch);
    files.replace(
        {.common_name = "node1", .alternative_name = "node1", .from_days = -20, .to_days = -10});
    CHECK_THAT(files.error(), Catch::Contains("node.crt: expired on 20"));
    files.replace(
        {.common_name = "node1", .alternative_name = "node1", .from_days = 10, .to_days = 20});
    CHECK_THAT(files.error(),
               Catch::Contains("node.crt: is valid from 20") && Catch::Contains("clock"));
    files.replace({.common_name = "node1", .alternative_name = "node1", .usage = "serverAuth"});
    CHECK_THAT(files.error(), Catch::Contains("is not accepted by"));

    const CertificateMaker stranger;
    const auto foreign = stranger.make({.common_name = "node1", .alternative_name = "node1"});
    write(files.directory / "node.crt", foreign.pem, 0644);
    write(files.directory / "node.key", foreign.key_pem, 0600);
    CHECK_THAT(
        files.error(),
        Catch::Contains("node.crt: is not accepted by " + (files.directory / "ca.crt").string()));
}

TEST_CASE("An authority that expired is named itself") {
    const tests::ScratchDirectory scratch;
    Files files(scratch);
    const CertificateMaker expired(-20, -10);
    const auto certificate = expired.make({.common_name = "node1", .alternative_name = "node1"});
    write(files.directory / "ca.crt", expired.authority_pem(), 0644);
    write(files.directory / "node.crt", certificate.pem, 0644);
    write(files.directory / "node.key", certificate.key_pem, 0600);
    CHECK_THAT(files.error(), Catch::Contains("ca.crt: expired on 20"));
}
