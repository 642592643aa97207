#pragma once

#include "arguments.hpp"
#include "console.hpp"

#include <string>
#include <vector>

#include <nlohmann/json.hpp>

namespace safepair::cli {

/// Keys keep the order in which they are written, which is the documented one.
using Json = nlohmann::ordered_json;

struct Cell {
    std::string text;
    Style style = Style::plain;
};

/// Lines of cells whose columns are aligned by display width; two spaces between columns, none at
/// the end of a line.
class Table {
  public:
    explicit Table(std::vector<std::string> headers) : headers_(std::move(headers)) {}

    void add(std::vector<Cell> cells) { lines_.push_back(std::move(cells)); }

    [[nodiscard]] std::string render(bool with_headers, bool color) const;

  private:
    std::vector<std::string> headers_;
    std::vector<std::vector<Cell>> lines_;
};

/// One value in a format for programs, with a line feed at the end: indented JSON, or YAML.
[[nodiscard]] std::string render_json(const Json& value);
[[nodiscard]] std::string render_yaml(const Json& value);

/// One value of an endless stream: JSON on one line, or a YAML document.
[[nodiscard]] std::string render_stream_item(const Json& value, Format format);

/// Whether `format` is for programs.
[[nodiscard]] bool is_structured(Format format);

/// A single value in `format`, which is structured.
[[nodiscard]] std::string render(const Json& value, Format format);

}  // namespace safepair::cli
