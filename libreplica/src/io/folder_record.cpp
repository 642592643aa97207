#include "io/folder_record.hpp"

#include "io/durable_file.hpp"

#include <span>
#include <string>

namespace safepair::replica {

namespace {

const std::string key = "folder: ";

}  // namespace

base::Result<std::optional<base::GenerationId>> FolderRecord::load() const {
    SAFEPAIR_TRY(const auto bytes, read_whole_file(file_));
    if (!bytes) {
        return std::optional<base::GenerationId>{};
    }
    const std::string text(reinterpret_cast<const char*>(bytes->data()), bytes->size());
    const auto end = text.find('\n');
    if (text.rfind(key, 0) == 0 && end == text.size() - 1) {
        if (const auto id = base::from_hex(text.substr(key.size(), end - key.size()))) {
            return std::optional<base::GenerationId>{base::GenerationId{*id}};
        }
    }
    return base::error(base::Errc::corrupt, file_.string());
}

base::Result<void> FolderRecord::save(base::GenerationId folder) const {
    const auto text = key + base::to_string(folder) + "\n";
    return replace_file(file_, std::as_bytes(std::span(text)));
}

}  // namespace safepair::replica
