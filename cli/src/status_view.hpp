#pragma once

#include <safepair/v1/control.pb.h>

#include <string>

namespace safepair::cli {

struct ViewOptions {
    bool headers = true;
    /// Adds term, generation, dirty bytes and folder.
    bool wide = false;
    bool utf8 = true;
    bool color = false;
    /// Width at which the sentences below the table are broken; 0: never.
    std::size_t columns = 0;
};

/// The one-screen status: cluster line, one line per module and node, then what is wrong, why, and
/// what to do. Modules with the worst problem come first; the nodes of a module stay together in
/// their configured order.
[[nodiscard]] std::string render_status(const v1::StatusReply& reply, const ViewOptions& options);

/// What an operator can do about a row that is not fine: the agent's text with ready-made commands.
/// Empty for a fine row.
[[nodiscard]] std::string what_next(const v1::ModuleStatus& row, const std::string& answering_node);

}  // namespace safepair::cli
