#pragma once

#include <safepair/v1/control.pb.h>

#include <string>

namespace safepair::cli {

enum class Progress : std::uint8_t {
    pending,
    reached,
    /// The module waits for something that may take for ever: exit code 75.
    blocked,
    /// The module is where the verb did not want it.
    missed,
};

/// What --wait waits for: how far `verb`, carried out on `node`, has come in `reply`. A node that
/// is not heard now is pending; bad news counts only from the node itself, since what its peer last
/// knew of it may be older than the verb.
[[nodiscard]] Progress progress_of(v1::Verb verb,
                                   const std::string& module,
                                   const std::string& node,
                                   const v1::StatusReply& reply);

/// "ALONE, PRIM or SECOND Ready on node1".
[[nodiscard]] std::string target_words(v1::Verb verb,
                                       const std::string& node,
                                       const std::string& peer);

}  // namespace safepair::cli
