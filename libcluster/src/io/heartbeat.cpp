#include "io/lineage_codec.hpp"

#include <safepair/base/bytes.hpp>
#include <safepair/cluster/heartbeat.hpp>
#include <safepair/cluster/limits.hpp>

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include <algorithm>
#include <string_view>

namespace safepair::cluster {

namespace {

constexpr std::string_view magic = "SPHB";
constexpr std::uint8_t format_version = 1;
constexpr std::size_t tag_bytes = 32;
/// More names than this in heard_on are refused.
constexpr std::size_t heard_on_max = 16;

using Tag = std::array<std::byte, tag_bytes>;

/// Tag over `bytes`; false when OpenSSL cannot compute it, in which case nothing may be trusted.
bool make_tag(std::span<const std::byte> bytes, const HeartbeatKey& key, Tag& tag) {
    unsigned length = 0;
    const auto* made = HMAC(EVP_sha256(),
                            key.data(),
                            static_cast<int>(key.size()),
                            reinterpret_cast<const unsigned char*>(bytes.data()),
                            bytes.size(),
                            reinterpret_cast<unsigned char*>(tag.data()),
                            &length);
    return made != nullptr && length == tag.size();
}

/// The longest prefix of at most `bytes_max` bytes that does not end inside a UTF-8 character.
std::string_view cut_text(std::string_view text, std::size_t bytes_max) {
    if (text.size() <= bytes_max) {
        return text;
    }
    std::size_t length = bytes_max;
    while (length > 0 && (static_cast<unsigned char>(text[length]) & 0xC0U) == 0x80U) {
        --length;
    }
    return text.substr(0, length);
}

void write(base::ByteWriter& writer, const Handover& handover) {
    writer.u64(handover.id);
    writer.text(handover.to.value);
    write(writer, handover.term);
    writer.id(handover.session.bytes);
    writer.u64(handover.sequence);
    writer.boolean(handover.swap);
}

Handover read_handover(base::ByteReader& reader) {
    Handover handover;
    handover.id = reader.u64();
    handover.to = read_node(reader);
    handover.term = read_term(reader);
    handover.session.bytes = reader.id();
    handover.sequence = reader.u64();
    handover.swap = reader.boolean();
    return handover;
}

void write(base::ByteWriter& writer, const Following& following) {
    writer.id(following.session.bytes);
    writer.text(following.leader.value);
    writer.id(following.leader_incarnation.bytes);
    write(writer, following.term);
    writer.u8(static_cast<std::uint8_t>(following.mode));
    writer.boolean(following.accepting);
}

bool read(base::ByteReader& reader, Following& following) {
    following.session.bytes = reader.id();
    following.leader = read_node(reader);
    following.leader_incarnation.bytes = reader.id();
    following.term = read_term(reader);
    const bool mode_known = read_enum(reader, SyncMode::full, following.mode);
    following.accepting = reader.boolean();
    return mode_known;
}

void write(base::ByteWriter& writer, const PeerStatus& status, std::size_t reason_bytes_max) {
    writer.text(status.node.value);
    writer.id(status.incarnation.bytes);
    writer.u64(status.version);
    writer.u8(static_cast<std::uint8_t>(status.role));
    writer.u8(static_cast<std::uint8_t>(status.readiness));
    write(writer, status.lineage);
    writer.boolean(status.whole);
    writer.boolean(status.changed_alone);
    writer.boolean(status.map_usable);
    writer.boolean(status.service_running);
    writer.boolean(status.leaving);
    writer.boolean(status.wants_exclusion);
    writer.id(status.synced_session.bytes);
    writer.boolean(status.handover.has_value());
    if (status.handover) {
        write(writer, *status.handover);
    }
    writer.boolean(status.handover_answer.has_value());
    if (status.handover_answer) {
        writer.u64(status.handover_answer->id);
        writer.boolean(status.handover_answer->taken);
    }
    writer.boolean(status.following.has_value());
    if (status.following) {
        write(writer, *status.following);
    }
    writer.id(status.lost_session.bytes);
    writer.boolean(status.claims_lead);
    writer.id(status.heard_incarnation.bytes);
    writer.u64(status.heard_version);
    writer.u64(status.settings_hash);
    writer.text(cut_text(status.reason, reason_bytes_max));
}

bool read(base::ByteReader& reader, PeerStatus& status) {
    status.node = read_node(reader);
    status.incarnation.bytes = reader.id();
    status.version = reader.u64();
    bool known = read_enum(reader, Role::second, status.role);
    known = read_enum(reader, Readiness::ready, status.readiness) && known;
    known = read(reader, status.lineage) && known;
    status.whole = reader.boolean();
    status.changed_alone = reader.boolean();
    status.map_usable = reader.boolean();
    status.service_running = reader.boolean();
    status.leaving = reader.boolean();
    status.wants_exclusion = reader.boolean();
    status.synced_session.bytes = reader.id();
    if (reader.boolean()) {
        status.handover = read_handover(reader);
    }
    if (reader.boolean()) {
        HandoverAnswer answer;
        answer.id = reader.u64();
        answer.taken = reader.boolean();
        status.handover_answer = answer;
    }
    if (reader.boolean()) {
        known = read(reader, status.following.emplace()) && known;
    }
    status.lost_session.bytes = reader.id();
    status.claims_lead = reader.boolean();
    status.heard_incarnation.bytes = reader.id();
    status.heard_version = reader.u64();
    status.settings_hash = reader.u64();
    status.reason = reader.text(limits::reason_bytes_max);
    return known;
}

std::vector<std::byte> encode_body(const Heartbeat& heartbeat,
                                   std::size_t heard_on_count,
                                   std::size_t reason_bytes_max) {
    base::ByteWriter writer;
    writer.raw(std::as_bytes(std::span(magic.data(), magic.size())));
    writer.u8(format_version);
    writer.text(heartbeat.from.value);
    writer.id(heartbeat.incarnation.bytes);
    writer.u64(heartbeat.counter);
    writer.text(heartbeat.network);
    writer.i64(heartbeat.sent);
    writer.i64(heartbeat.echo);
    writer.u8(static_cast<std::uint8_t>(heard_on_count));
    for (std::size_t i = 0; i < heard_on_count; ++i) {
        writer.text(heartbeat.heard_on[i]);
    }
    writer.text(heartbeat.module);
    if (!heartbeat.module.empty()) {
        // A module without a status is our own mistake; an empty status is the harmless spelling of
        // it.
        write(writer, heartbeat.status ? *heartbeat.status : PeerStatus{}, reason_bytes_max);
    }
    return writer.take();
}

base::Error corrupt(std::string what) {
    return base::error(base::Errc::corrupt, "heartbeat: " + std::move(what));
}

}  // namespace

std::vector<std::byte> encode(const Heartbeat& heartbeat, const HeartbeatKey& key) {
    constexpr std::size_t body_max = limits::heartbeat_bytes_max - tag_bytes;
    std::size_t reason_max = limits::reason_bytes_max;
    std::size_t heard_on_count = std::min(heartbeat.heard_on.size(), heard_on_max);
    auto body = encode_body(heartbeat, heard_on_count, reason_max);
    if (body.size() > body_max && heartbeat.status) {
        const std::size_t excess = body.size() - body_max;
        const std::size_t reason = std::min(heartbeat.status->reason.size(), reason_max);
        reason_max = reason - std::min(reason, excess);
        body = encode_body(heartbeat, heard_on_count, reason_max);
    }
    while (body.size() > body_max && heard_on_count > 0) {
        --heard_on_count;
        body = encode_body(heartbeat, heard_on_count, reason_max);
    }
    Tag tag{};
    SAFEPAIR_ASSERT(make_tag(body, key, tag), "HMAC-SHA-256 is always available");
    body.insert(body.end(), tag.begin(), tag.end());
    return body;
}

base::Result<Heartbeat> decode(std::span<const std::byte> datagram, const HeartbeatKey& key) {
    if (datagram.size() > limits::heartbeat_bytes_max) {
        return corrupt("longer than the limit");
    }
    if (datagram.size() < magic.size() + 1 + tag_bytes) {
        return corrupt("too short");
    }
    const auto body = datagram.first(datagram.size() - tag_bytes);
    Tag tag{};
    if (!make_tag(body, key, tag) ||
        CRYPTO_memcmp(tag.data(), datagram.data() + body.size(), tag.size()) != 0) {
        return corrupt("wrong tag (another key, or damaged on the way)");
    }
    base::ByteReader reader(body);
    const auto start = reader.raw(magic.size());
    if (!std::ranges::equal(start, std::as_bytes(std::span(magic.data(), magic.size())))) {
        return corrupt("wrong magic");
    }
    if (const auto version = reader.u8(); version != format_version) {
        return corrupt("unknown version " + std::to_string(version));
    }
    Heartbeat heartbeat;
    heartbeat.from = read_node(reader);
    heartbeat.incarnation.bytes = reader.id();
    heartbeat.counter = reader.u64();
    heartbeat.network = reader.text(limits::name_bytes_max);
    heartbeat.sent = reader.i64();
    heartbeat.echo = reader.i64();
    const std::size_t heard_on_count = reader.u8();
    if (heard_on_count > heard_on_max) {
        return corrupt("too many networks");
    }
    for (std::size_t i = 0; i < heard_on_count; ++i) {
        heartbeat.heard_on.push_back(reader.text(limits::name_bytes_max));
    }
    heartbeat.module = reader.text(limits::name_bytes_max);
    if (!heartbeat.module.empty() && !read(reader, heartbeat.status.emplace())) {
        return corrupt("a value is out of range");
    }
    if (!reader.finished()) {
        return corrupt("wrong length or value");
    }
    return heartbeat;
}

std::vector<std::byte> encode_status(const PeerStatus& status) {
    base::ByteWriter writer;
    writer.u8(format_version);
    write(writer, status, limits::reason_bytes_max);
    return writer.take();
}

base::Result<PeerStatus> decode_status(std::span<const std::byte> bytes) {
    base::ByteReader reader(bytes);
    if (const auto version = reader.u8(); reader.ok() && version != format_version) {
        return base::error(base::Errc::corrupt,
                           "peer status: unknown version " + std::to_string(version));
    }
    PeerStatus status;
    const bool known = read(reader, status);
    if (!reader.finished() || !known) {
        return base::error(base::Errc::corrupt, "peer status: wrong length or value");
    }
    return status;
}

}  // namespace safepair::cluster
