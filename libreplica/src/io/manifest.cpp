#include "io/manifest.hpp"

#include "io/durable_file.hpp"

#include <safepair/base/bytes.hpp>
#include <safepair/base/system_time.hpp>

#include <algorithm>
#include <chrono>
#include <map>
#include <thread>

namespace safepair::replica {

namespace {

constexpr std::string_view magic = "SPMANIFT";
/// More than the step of the kernel's file times: a tick is at most 10 ms (CONFIG_HZ=100).
constexpr std::int64_t time_step = 20'000'000;
constexpr std::size_t entry_bytes = 16 + 8 + 8;

struct Mark {
    std::int64_t time = 0;
    std::uint64_t size = 0;
    friend bool operator==(const Mark&, const Mark&) = default;
};

using Marks = std::map<FileId, Mark>;

Mark mark_of(FileId file, const Attributes& attributes) {
    // The root itself is renamed when the folder is taken and given back, which changes its ctime
    // but no name in it.
    const auto time = file == root_file ? attributes.modified : attributes.changed;
    return {time, attributes.type == NodeType::file ? attributes.size : 0};
}

base::Result<Marks> current_marks(Store& store) {
    Marks marks;
    SAFEPAIR_TRY(const auto root, store.attributes(root_file));
    marks[root_file] = mark_of(root_file, root);
    base::Result<void> outcome;
    store.for_each([&](FileId file, NodeType, const std::vector<NameOf>&) {
        if (!outcome) {
            return;
        }
        const auto attributes = store.attributes(file);
        if (attributes) {
            marks[file] = mark_of(file, *attributes);
        } else {
            outcome = attributes.error();
        }
    });
    if (!outcome) {
        return outcome.error();
    }
    return marks;
}

base::Result<Marks> load(const std::filesystem::path& file, GenerationId folder) {
    SAFEPAIR_TRY(const auto bytes, read_whole_file(file));
    if (!bytes) {
        return base::error(base::Errc::not_found, "manifest " + file.string());
    }
    const auto body = unseal(magic, folder, *bytes);
    if (!body) {
        return body.error().within("manifest " + file.string());
    }
    Marks marks;
    base::ByteReader reader(*body);
    while (reader.remaining() >= entry_bytes) {
        const FileId id{reader.id()};
        auto& mark = marks[id];
        mark.time = reader.i64();
        mark.size = reader.u64();
    }
    if (!reader.finished()) {
        return base::error(base::Errc::corrupt, "manifest " + file.string());
    }
    return marks;
}

}  // namespace

base::Result<void> Manifest::save(const std::filesystem::path& file,
                                  Store& store,
                                  GenerationId folder) {
    SAFEPAIR_TRY(const auto marks, current_marks(store));
    base::ByteWriter body;
    std::int64_t newest = 0;
    for (const auto& [id, mark] : marks) {
        body.id(id.bytes);
        body.i64(mark.time);
        body.u64(mark.size);
        newest = std::max(newest, mark.time);
    }
    const auto age = base::wall_clock_now() - newest;
    if (age >= 0 && age < time_step) {
        std::this_thread::sleep_for(std::chrono::nanoseconds(time_step - age));
    }
    return replace_file(file, seal(magic, folder, body.bytes()));
}

base::Result<std::vector<FileId>> Manifest::changed_since(const std::filesystem::path& file,
                                                          Store& store,
                                                          GenerationId folder) {
    SAFEPAIR_TRY(const auto before, load(file, folder));
    SAFEPAIR_TRY(const auto marks, current_marks(store));
    std::vector<FileId> changed;
    for (const auto& [id, mark] : marks) {
        const auto found = before.find(id);
        if (found == before.end() || found->second != mark) {
            changed.push_back(id);
        }
    }
    return changed;
}

}  // namespace safepair::replica
