#pragma once

#include "console.hpp"

#include <safepair/v1/control.pb.h>

#include <string>

namespace safepair::cli {

/// "PRIM Ready on node1, SECOND Transient on node2 (syncing 42 %, resync 118 MB/s, 31.2 GiB left,
/// ETA 4m31s)".
[[nodiscard]] std::string states_of(const v1::StatusReply& reply,
                                    const std::string& module,
                                    bool with_progress);

/// How a module moves, on stderr: one line that is rewritten on a terminal, otherwise a line per
/// change of state.
class ProgressLine {
  public:
    ProgressLine(Console& console, std::string module)
        : console_(console), module_(std::move(module)) {}

    ~ProgressLine() { clear(); }

    ProgressLine(const ProgressLine&) = delete;
    ProgressLine& operator=(const ProgressLine&) = delete;

    void show(const v1::StatusReply& reply);
    /// Makes room for what is printed next.
    void clear();

  private:
    Console& console_;
    std::string module_;
    std::string last_;
    bool is_shown_ = false;
};

}  // namespace safepair::cli
