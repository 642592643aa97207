#pragma once

#include <safepair/base/result.hpp>
#include <safepair/base/time.hpp>

#include <yaml-cpp/yaml.h>

#include <cstdint>
#include <filesystem>
#include <initializer_list>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

/// Strict reading of YAML: every mistake is noted with file, line and field, and reading goes on,
/// so that one attempt shows them all. yaml-cpp alone accepts unknown and repeated keys and turns a
/// missing value into a default.
namespace safepair::agent::yaml {

/// The mistakes of one or more files.
class Mistakes {
  public:
    explicit Mistakes(std::filesystem::path file) : file_(std::move(file)) {}

    /// `line` counts from 1; 0: the file as a whole. `field` may be empty.
    void add(int line, std::string_view field, std::string_view text);
    /// The lines of an error that error() of another reader made.
    void add_lines(const base::Error& other);

    [[nodiscard]] bool empty() const noexcept { return lines_.empty(); }

    /// Errc::bad_input, one mistake per line.
    [[nodiscard]] base::Error error() const;

  private:
    std::filesystem::path file_;
    std::vector<std::string> lines_;
    std::size_t left_out_ = 0;
};

/// A node of the document with the key it was found under.
struct Value {
    YAML::Node node;
    std::string field;
    /// Line of the key, 0 for a list's entry. A mapping below a key begins in a later line than the
    /// key.
    int key_line = 0;

    [[nodiscard]] int line() const { return key_line > 0 ? key_line : node.Mark().line + 1; }
};

/// `text` in quotes, cut and made printable for a message.
[[nodiscard]] std::string in_quotes(std::string_view text);

/// One mapping. Each key is taken once; finish() complains about what nobody took.
class Section {
  public:
    Section(const Value& value, Mistakes& mistakes);

    /// nullopt when the key is not there, or without a value (which is a mistake).
    [[nodiscard]] std::optional<Value> take(const std::string& key);
    /// The same, but missing is a mistake; `remedy` says what to write.
    [[nodiscard]] std::optional<Value> require(const std::string& key, const std::string& remedy);
    /// Whether the key is there, with a value or without.
    [[nodiscard]] bool has(const std::string& key) const;
    void finish();

    [[nodiscard]] int line() const noexcept { return line_; }

    [[nodiscard]] bool valid() const noexcept { return valid_; }

  private:
    Mistakes& mistakes_;
    std::string field_;
    int line_ = 0;
    bool valid_ = false;
    std::vector<Value> entries_;
    std::set<std::string> asked_;
    std::set<std::string> taken_;
};

/// The root of a document, or nullopt after noting why there is none (syntax, size, several
/// documents).
[[nodiscard]] std::optional<Value> parse(const std::string& text, Mistakes& mistakes);

// Each returns nullopt after noting the mistake.

[[nodiscard]] std::optional<std::string> text(const Value& value, Mistakes& mistakes);
/// Lower-case letters, digits and inner dashes, at most cluster::limits::name_bytes_max: it goes
/// into certificates, paths and heartbeats.
[[nodiscard]] std::optional<std::string> name(const Value& value, Mistakes& mistakes);
[[nodiscard]] std::optional<base::Duration> duration(const Value& value,
                                                     base::Duration minimum,
                                                     base::Duration maximum,
                                                     Mistakes& mistakes);
[[nodiscard]] std::optional<std::uint16_t> port(const Value& value, Mistakes& mistakes);
/// A list of values, at most `count_max`.
[[nodiscard]] std::optional<std::vector<Value>> list(const Value& value,
                                                     std::size_t count_max,
                                                     Mistakes& mistakes);
/// A list of non-empty texts.
[[nodiscard]] std::optional<std::vector<std::string>> texts(const Value& value,
                                                            std::size_t count_max,
                                                            Mistakes& mistakes);

/// One word of several.
template <typename T>
[[nodiscard]] std::optional<T> choice(const Value& value,
                                      std::initializer_list<std::pair<const char*, T>> allowed,
                                      Mistakes& mistakes) {
    const auto word = text(value, mistakes);
    if (!word) {
        return std::nullopt;
    }
    std::string words;
    for (const auto& [spelling, meaning] : allowed) {
        if (*word == spelling) {
            return meaning;
        }
        words += (words.empty() ? "" : ", ") + std::string(spelling);
    }
    mistakes.add(value.line(), value.field, in_quotes(*word) + " is not one of " + words);
    return std::nullopt;
}

/// "3s", "250 ms"-like text of a duration for messages: "3s".
[[nodiscard]] std::string to_text(base::Duration duration);

/// Whether `name` can be a name, see name().
[[nodiscard]] bool is_name(std::string_view name);

}  // namespace safepair::agent::yaml
