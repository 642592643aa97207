#pragma once

#include <safepair/v1/control.pb.h>

#include <string>
#include <vector>

namespace safepair::cli {

/// The values are the exit codes that Nagios and its heirs expect.
enum class Health : int { ok = 0, warning = 1, critical = 2, unknown = 3 };

[[nodiscard]] const char* health_word(Health health);

struct ModuleHealth {
    std::string module;
    Health health = Health::ok;
    std::string text;
};

struct HealthReport {
    Health health = Health::unknown;
    /// One line without the leading word.
    std::string text;
    /// In the order of the status reply.
    std::vector<ModuleHealth> modules;
};

/// Judges a status. OK: each module is served and its other copy is ready to take over, all links
/// are up. WARNING: served, but without that (or still starting). CRITICAL: served by no node that
/// is heard, or by two. With `node` only what that node does counts: Ready, Transient, anything
/// else.
[[nodiscard]] HealthReport judge(const v1::StatusReply& reply, const std::string& node);

}  // namespace safepair::cli
