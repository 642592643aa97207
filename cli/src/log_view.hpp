#pragma once

#include <safepair/v1/types.pb.h>

#include <string>

namespace safepair::cli {

struct LogOptions {
    bool headers = true;
    /// Adds the event's id and the term.
    bool wide = false;
    /// Shows what scripts and the VM driver printed; otherwise how much there is.
    bool output = false;
    bool utf8 = true;
    bool color = false;
};

/// Renders events one by one; the columns grow with what was seen, so that a live stream stays
/// nearly aligned.
class LogView {
  public:
    explicit LogView(LogOptions options) : options_(options) {}

    /// Lines for one event, with the header before the first.
    [[nodiscard]] std::string render(const v1::EventRecord& record);

  private:
    LogOptions options_;
    bool started_ = false;
    std::size_t id_width_ = 4;
    std::size_t node_width_ = 5;
    std::size_t module_width_ = 6;
    std::size_t event_width_ = 24;
};

/// "SECOND Ready → ALONE Transient"; the kind where nothing changed its state.
[[nodiscard]] std::string event_words(const v1::EventRecord& record, bool utf8);

}  // namespace safepair::cli
