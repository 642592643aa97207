#include "output.hpp"

#include "text.hpp"

#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <array>
#include <cctype>

namespace safepair::cli {

namespace {

/// A plain YAML scalar would be read back as something else than a string, or not at all.
bool needs_quotes(const std::string& text) {
    static constexpr std::array words{
        "true", "false", "yes", "no", "on", "off", "null", "y", "n", "nan", "inf"};
    if (text.empty() || std::isalpha(static_cast<unsigned char>(text.front())) == 0 ||
        text.back() == ' ') {
        return true;
    }
    for (const auto one : text) {
        if (std::isalnum(static_cast<unsigned char>(one)) == 0 && one != '-' && one != '_' &&
            one != '.' && one != '/' && one != ' ') {
            return true;
        }
    }
    auto lower = text;
    std::transform(lower.begin(), lower.end(), lower.begin(), [](unsigned char one) {
        return static_cast<char>(std::tolower(one));
    });
    return std::find(words.begin(), words.end(), lower) != words.end();
}

void emit(YAML::Emitter& yaml, const Json& value) {
    switch (value.type()) {
        case Json::value_t::object:
            yaml << YAML::BeginMap;
            for (const auto& [key, one] : value.items()) {
                yaml << YAML::Key << key << YAML::Value;
                emit(yaml, one);
            }
            yaml << YAML::EndMap;
            return;
        case Json::value_t::array:
            yaml << (value.empty() ? YAML::Flow : YAML::Block) << YAML::BeginSeq;
            for (const auto& one : value) {
                emit(yaml, one);
            }
            yaml << YAML::EndSeq;
            return;
        case Json::value_t::string: {
            const auto& text = value.get_ref<const std::string&>();
            if (needs_quotes(text)) {
                yaml << YAML::DoubleQuoted;
            }
            yaml << text;
            return;
        }
        case Json::value_t::boolean:
            yaml << value.get<bool>();
            return;
        case Json::value_t::number_integer:
            yaml << value.get<std::int64_t>();
            return;
        case Json::value_t::number_unsigned:
            yaml << value.get<std::uint64_t>();
            return;
        case Json::value_t::number_float:
            yaml << value.get<double>();
            return;
        default:
            yaml << YAML::Null;
            return;
    }
}

}  // namespace

std::string Table::render(bool with_headers, bool color) const {
    std::vector<std::size_t> widths(headers_.size(), 0);
    for (std::size_t column = 0; column < headers_.size(); ++column) {
        widths[column] = with_headers ? display_width(headers_[column]) : 0;
        for (const auto& line : lines_) {
            widths[column] = std::max(widths[column], display_width(line[column].text));
        }
    }
    std::string text;
    const auto add_line = [&](const std::vector<Cell>& cells) {
        std::size_t last = cells.size();
        while (last > 0 && cells[last - 1].text.empty()) {
            --last;
        }
        for (std::size_t column = 0; column < last; ++column) {
            text += styled(cells[column].text, cells[column].style, color);
            if (column + 1 < last) {
                text.append(widths[column] - display_width(cells[column].text) + 2, ' ');
            }
        }
        text += '\n';
    };
    if (with_headers) {
        std::vector<Cell> cells;
        for (const auto& header : headers_) {
            cells.push_back({header});
        }
        add_line(cells);
    }
    for (const auto& line : lines_) {
        add_line(line);
    }
    return text;
}

std::string render_json(const Json& value) {
    // What a script printed need not be UTF-8.
    return value.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

std::string render_yaml(const Json& value) {
    YAML::Emitter yaml;
    yaml.SetNullFormat(YAML::LowerNull);
    emit(yaml, value);
    return std::string(yaml.c_str()) + "\n";
}

std::string render_stream_item(const Json& value, Format format) {
    if (format == Format::yaml) {
        return "---\n" + render_yaml(value);
    }
    return value.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
}

bool is_structured(Format format) { return format == Format::json || format == Format::yaml; }

std::string render(const Json& value, Format format) {
    return format == Format::yaml ? render_yaml(value) : render_json(value);
}

}  // namespace safepair::cli
