#include "store/acl.hpp"

#include <safepair/base/bytes.hpp>

#include <linux/posix_acl.h>
#include <linux/posix_acl_xattr.h>

namespace safepair::replica {

namespace {

struct AclEntry {
    std::uint16_t tag = 0;
    std::uint16_t permissions = 0;
    std::uint32_t id = 0;
};

/// The entry's permissions limited by `bits`; the mode keeps only what the entry allows (posix_acl_create_masq in the kernel).
void limit(AclEntry& entry, std::uint32_t& mode, unsigned shift) {
    const auto allowed = static_cast<std::uint16_t>((mode >> shift) & 7U);
    entry.permissions = static_cast<std::uint16_t>(entry.permissions & allowed);
    mode = (mode & ~(7U << shift)) | (static_cast<std::uint32_t>(entry.permissions) << shift);
}

}  // namespace

std::optional<InheritedAcl> inherit_acl(std::span<const std::byte> default_acl,
                                        std::uint32_t mode) {
    base::ByteReader reader(default_acl);
    const auto version = reader.u32();
    std::vector<AclEntry> entries;
    while (reader.ok() && reader.remaining() > 0) {
        AclEntry entry;
        entry.tag = reader.u16();
        entry.permissions = reader.u16();
        entry.id = reader.u32();
        entries.push_back(entry);
    }
    if (!reader.finished() || version != POSIX_ACL_XATTR_VERSION) {
        return std::nullopt;
    }

    InheritedAcl inherited{mode, {}};
    AclEntry* group = nullptr;
    AclEntry* mask = nullptr;
    bool extended = false;
    for (auto& entry : entries) {
        switch (entry.tag) {
            case ACL_USER_OBJ:
                limit(entry, inherited.mode, 6);
                break;
            case ACL_OTHER:
                limit(entry, inherited.mode, 0);
                break;
            case ACL_GROUP_OBJ:
                group = &entry;
                break;
            case ACL_MASK:
                mask = &entry;
                extended = true;
                break;
            default:
                extended = true;
                break;
        }
    }
    if (mask != nullptr) {
        limit(*mask, inherited.mode, 3);
    } else if (group != nullptr) {
        limit(*group, inherited.mode, 3);
    }
    if (extended) {
        base::ByteWriter writer;
        writer.u32(version);
        for (const auto& entry : entries) {
            writer.u16(entry.tag);
            writer.u16(entry.permissions);
            writer.u32(entry.id);
        }
        inherited.access = writer.take();
    }
    return inherited;
}

}  // namespace safepair::replica
