#include "io/manifest.hpp"

#include "io/durable_file.hpp"
#include "resync_support.hpp"
#include "support/catch.hpp"

#include <safepair/base/bytes.hpp>

#include <algorithm>
#include <fstream>
#include <string>

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

using namespace safepair;
using namespace safepair::tests;

namespace {

const GenerationId folder{{4, 5, 6}};

struct Stopped {
    Copy copy;
    ScratchDirectory state;
    FileId directory = copy.directory(root_file, "directory");
    FileId inside = copy.file(directory, "inside", "content");
    FileId outside = copy.file(root_file, "outside", "content");

    Stopped() { REQUIRE(Manifest::save(state / "manifest", copy.store(), folder)); }

    std::filesystem::path path(const std::string& name) const { return copy.path() / name; }

    std::vector<FileId> changed() {
        static_cast<void>(copy.reopen());
        const auto found = Manifest::changed_since(state / "manifest", copy.store(), folder);
        REQUIRE(found);
        return *found;
    }
};

using Files = std::vector<FileId>;

}  // namespace

TEST_CASE("Manifest: nothing changed while stopped, nothing found", "[manifest]") {
    if (!has_trusted_xattrs()) {
        return;
    }
    Stopped stopped;
    CHECK(stopped.changed().empty());
    // Taking and giving back renames the folder, which changes its ctime.
    auto away = stopped.copy.path();
    away += ".away";
    std::filesystem::rename(stopped.copy.path(), away);
    std::filesystem::rename(away, stopped.copy.path());
    CHECK(stopped.changed().empty());
}

TEST_CASE("Manifest: bytes changed in place are found, also when size and mtime are as before",
          "[manifest]") {
    if (!has_trusted_xattrs()) {
        return;
    }
    Stopped stopped;
    const auto path = stopped.path("directory/inside");

    struct stat before {};

    REQUIRE(stat(path.c_str(), &before) == 0);
    std::fstream(path, std::ios::in | std::ios::out) << "C";
    const timespec times[2] = {before.st_atim, before.st_mtim};
    REQUIRE(utimensat(AT_FDCWD, path.c_str(), times, 0) == 0);
    CHECK(stopped.changed() == Files{stopped.inside});
}

TEST_CASE("Manifest: changed metadata is found", "[manifest]") {
    if (!has_trusted_xattrs()) {
        return;
    }
    Stopped stopped;
    REQUIRE(::chmod(stopped.path("outside").c_str(), 0600) == 0);
    CHECK(stopped.changed() == Files{stopped.outside});
}

TEST_CASE("Manifest: a new file shows with its directory, a removed one in its directory only",
          "[manifest]") {
    if (!has_trusted_xattrs()) {
        return;
    }
    Stopped stopped;
    std::ofstream(stopped.path("directory/fresh")) << "new";
    std::filesystem::remove(stopped.path("outside"));
    auto changed = stopped.changed();
    const auto fresh = stopped.copy.find(stopped.directory, "fresh");
    Files expected{root_file, stopped.directory, fresh};
    std::sort(expected.begin(), expected.end());
    CHECK(changed == expected);
}

TEST_CASE("Manifest: a file replaced by a copy of itself is found under its fresh id",
          "[manifest]") {
    if (!has_trusted_xattrs()) {
        return;
    }
    Stopped stopped;
    std::filesystem::copy_file(stopped.path("outside"), stopped.path("copy"));
    std::filesystem::rename(stopped.path("copy"), stopped.path("outside"));
    const auto changed = stopped.changed();
    const auto now = stopped.copy.find(root_file, "outside");
    CHECK(now != stopped.outside);
    CHECK(std::count(changed.begin(), changed.end(), now) == 1);
}

TEST_CASE("Manifest: none, a damaged one and one of another folder are errors", "[manifest]") {
    if (!has_trusted_xattrs()) {
        return;
    }
    Stopped stopped;
    const auto path = stopped.state / "manifest";
    auto& store = stopped.copy.store();
    CHECK(Manifest::changed_since(stopped.state / "none", store, folder).error().code ==
          base::Errc::not_found);
    CHECK(Manifest::changed_since(path, store, GenerationId{{7}}).error().code ==
          base::Errc::corrupt);
    std::filesystem::resize_file(path, std::filesystem::file_size(path) - 1);
    const auto damaged = Manifest::changed_since(path, store, folder);
    REQUIRE_FALSE(damaged);
    CHECK(damaged.error().code == base::Errc::corrupt);
    CHECK_FALSE(Manifest::save(stopped.state / "no" / "manifest", store, folder));
}

TEST_CASE("Manifest: the envelope of the format document's example is what is written",
          "[manifest]") {
    base::ByteWriter body;
    body.id(root_file.bytes);
    body.i64(1'700'000'000'000'000'000);
    body.u64(0);
    body.id(FileId{{1}}.bytes);
    body.i64(1'700'000'000'123'456'789);
    body.u64(4096);
    GenerationId example;
    example.bytes.fill(0xAA);
    const auto sealed = seal("SPMANIFT", example, body.bytes());
    REQUIRE(sealed.size() == 116);
    constexpr std::array<std::uint8_t, 16> checksum{0x9f,
                                                    0x14,
                                                    0xaa,
                                                    0x21,
                                                    0x19,
                                                    0x15,
                                                    0xfe,
                                                    0x64,
                                                    0x99,
                                                    0xea,
                                                    0x11,
                                                    0x78,
                                                    0xa6,
                                                    0x9b,
                                                    0x03,
                                                    0x95};
    CHECK(std::equal(checksum.begin(), checksum.end(), sealed.end() - 16, [](auto a, auto b) {
        return static_cast<std::byte>(a) == b;
    }));
    CHECK(unseal("SPMANIFT", example, sealed).value_or({}) == body.bytes());
}
