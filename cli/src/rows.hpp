#pragma once

#include "console.hpp"
#include "output.hpp"

#include <safepair/v1/control.pb.h>

#include <string>
#include <vector>

/// The agent's rows in words, symbols and stable records.
namespace safepair::cli {

/// "PRIM", or empty when the node was never heard.
[[nodiscard]] std::string role_word(v1::Role role);
/// "Ready", or empty.
[[nodiscard]] std::string readiness_word(v1::Readiness readiness);
/// "PRIM Ready"; "not heard" for a row that says nothing.
[[nodiscard]] std::string state_words(const v1::ModuleStatus& row);

/// ALONE or PRIM.
[[nodiscard]] bool leads(const v1::ModuleStatus& row);
/// The row is what the node itself says now, not what the other one last knew of it.
[[nodiscard]] bool is_first_hand(const v1::ModuleStatus& row, const std::string& answering_node);

/// How much a row needs attention; the order is the severity.
enum class Severity : std::uint8_t { fine, busy, bad };
[[nodiscard]] Severity severity_of(const v1::ModuleStatus& row);
[[nodiscard]] Style style_of(Severity severity);
/// One character that says the same as the colour.
[[nodiscard]] std::string symbol_of(const v1::ModuleStatus& row, bool utf8);

/// Percentage of a resynchronisation, below 100 until it is over.
[[nodiscard]] int percent_of(const v1::Resync& resync);
/// "resync 118 MB/s, 31.2 GiB left, ETA 4m31s".
[[nodiscard]] std::string progress_words(const v1::Resync& resync);
/// "uptodate", "syncing 42 %".
[[nodiscard]] std::string data_words(const v1::ModuleStatus& row);

/// Networks towards each peer, one entry per network and peer: modules may see a link differently,
/// the worst counts.
[[nodiscard]] std::vector<v1::LinkStatus> merged_links(const v1::StatusReply& reply);

/// Removes the rows of other nodes; an empty `node` keeps all.
void keep_node(v1::StatusReply& reply, const std::string& node);

/// The row of `module` on `node`, or nullptr.
[[nodiscard]] const v1::ModuleStatus* find_row(const v1::StatusReply& reply,
                                               const std::string& module,
                                               const std::string& node);

/// Records with the documented keys (docs/operating/safectl.md).
[[nodiscard]] Json to_json(const v1::ModuleStatus& row);
[[nodiscard]] Json to_json(const v1::StatusReply& reply);
[[nodiscard]] Json to_json(const v1::EventRecord& record);
[[nodiscard]] Json to_json(const v1::ModuleDescription& module);

}  // namespace safepair::cli
