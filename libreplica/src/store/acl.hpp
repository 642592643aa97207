#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

/// POSIX ACLs in the kernel's xattr form (linux/posix_acl_xattr.h: version u32, then {tag u16, permissions u16, id u32}).
/// Objects are made in the stage folder, so the inheritance that the kernel does for a new child (acl(5)) is done here.
namespace safepair::replica {

inline constexpr const char* access_acl_attribute = "system.posix_acl_access";
inline constexpr const char* default_acl_attribute = "system.posix_acl_default";

struct InheritedAcl {
    /// The permission bits of the new object.
    std::uint32_t mode = 0;
    /// Its access ACL; empty when the mode says it all.
    std::vector<std::byte> access;
};

/// What a new object with creation mode `mode` gets from its directory's default ACL; nullopt when the value is no ACL.
[[nodiscard]] std::optional<InheritedAcl> inherit_acl(std::span<const std::byte> default_acl,
                                                      std::uint32_t mode);

}  // namespace safepair::replica
