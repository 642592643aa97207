#include "io/archive.hpp"

#include "resync_support.hpp"
#include "support/catch.hpp"

#include <fstream>
#include <iterator>
#include <string>

#include <sys/stat.h>

using namespace safepair;
using namespace safepair::tests;

namespace {

namespace fs = std::filesystem;

std::string content_of(const fs::path& file) {
    std::ifstream in(file, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
}

struct Loser {
    Copy copy;
    FileId directory = copy.directory(root_file, "directory");
    FileId inside = copy.file(directory, "inside", "content inside");
    FileId outside = copy.file(root_file, "out\nside", "content outside");
    FileId other = copy.file(root_file, "other", "never touched");
    fs::path place = copy.path() / ".safepair" / "archive" / "name";

    Loser() { copy.map.clear(); }
};

/// A store on a full disk.
class FullStore final : public Store {
  public:
    explicit FullStore(Store& real) : real_(real) {}

    base::Result<FileId> lookup(FileId d, std::string_view n) override {
        return real_.lookup(d, n);
    }

    base::Result<Attributes> attributes(FileId f) override { return real_.attributes(f); }

    base::Result<std::vector<Entry>> list(FileId d) override { return real_.list(d); }

    base::Result<std::string> read_link(FileId f) override { return real_.read_link(f); }

    base::Result<std::size_t> read(FileId f, std::uint64_t o, std::span<std::byte> i) override {
        return real_.read(f, o, i);
    }

    base::Result<std::vector<std::string>> xattr_names(FileId f) override {
        return real_.xattr_names(f);
    }

    base::Result<std::vector<std::byte>> xattr(FileId f, const std::string& n) override {
        return real_.xattr(f, n);
    }

    base::Result<Space> space() override {
        auto space = real_.space();
        if (says_full && space) {
            space->blocks_available = 10;
        }
        return space;
    }

    base::Result<std::vector<Extent>> data_extents(FileId f,
                                                   std::uint64_t o,
                                                   std::uint64_t l) override {
        return real_.data_extents(f, o, l);
    }

    base::Result<std::uint64_t> seek(FileId f, std::uint64_t o, int w) override {
        return real_.seek(f, o, w);
    }

    base::Result<void> hold(FileId f) override { return real_.hold(f); }

    void release(FileId f) noexcept override { real_.release(f); }

    bool is_orphan(FileId f) const override { return real_.is_orphan(f); }

    bool knows(FileId f) const override { return real_.knows(f); }

    base::Result<void> apply(const Operation& o) override { return real_.apply(o); }

    void for_each(const std::function<void(FileId, NodeType, const std::vector<NameOf>&)>& visit)
        const override {
        real_.for_each(visit);
    }

    std::vector<NameOf> names(FileId f) const override { return real_.names(f); }

    std::string path_of(FileId f) const override { return real_.path_of(f); }

    base::Result<void> stage(FileId p, const std::string& n) override { return real_.stage(p, n); }

    base::Result<void> unstage(FileId f, FileId p, const std::string& n) override {
        return real_.unstage(f, p, n);
    }

    base::Result<void> clear_stage() override { return real_.clear_stage(); }

    base::Result<void> copy_out(FileId f, const fs::path& t) override {
        if (copies_left-- == 0) {
            return base::error_from_errno(copy_error, t.string());
        }
        return real_.copy_out(f, t);
    }

    bool says_full = false;
    int copies_left = -1;
    int copy_error = ENOSPC;

  private:
    Store& real_;
};

}  // namespace

TEST_CASE("Archive: changed files are kept whole under their names, others are not", "[archive]") {
    if (!has_trusted_xattrs()) {
        return;
    }
    Loser loser;
    REQUIRE(loser.copy.write(loser.inside, 8, "INSIDE") == 0);
    REQUIRE(loser.copy.chmod(loser.inside, 0640) == 0);
    REQUIRE(loser.copy.set_xattr(loser.inside, "user.note", "kept") == 0);
    REQUIRE(loser.copy.write(loser.outside, 0, "C") == 0);
    const auto result = archive_copy(loser.copy.store(), &loser.copy.map, loser.place);
    REQUIRE(result);
    CHECK(result->files == 2);
    CHECK(result->bytes == 14 + 15);
    CHECK(result->directory == loser.place);
    CHECK(content_of(loser.place / "tree" / "directory" / "inside") == "content INSIDE");
    CHECK(content_of(loser.place / "tree" / "out\nside") == "Content outside");
    CHECK_FALSE(fs::exists(loser.place / "tree" / "other"));

    struct stat status {};

    REQUIRE(stat((loser.place / "tree" / "directory" / "inside").c_str(), &status) == 0);
    CHECK((status.st_mode & 07777U) == 0640);
    const auto listing = content_of(loser.place / "listing");
    CHECK(listing.find("files: 2\nbytes: 29\n") != std::string::npos);
    CHECK(listing.find(base::to_string(loser.inside) + " 14 directory/inside\n") !=
          std::string::npos);
    CHECK(listing.find("15 out\\x0aside\n") != std::string::npos);
    CHECK_FALSE(fs::exists(loser.place.string() + ".partial"));
    // Out of sight of the module.
    CHECK(loser.copy.reopen().empty());
}

TEST_CASE("Archive: without a map everything is kept, links and empty directories included",
          "[archive]") {
    if (!has_trusted_xattrs()) {
        return;
    }
    Loser loser;
    REQUIRE(loser.copy.link(loser.other, loser.directory, "other name") == 0);
    loser.copy.create(root_file, "link", NodeType::symlink);
    const auto empty = loser.copy.create(root_file, "empty", NodeType::directory, 0711);
    const auto result = archive_copy(loser.copy.store(), nullptr, loser.place);
    REQUIRE(result);
    CHECK(result->files == 4);
    const auto tree = loser.place / "tree";
    CHECK(fs::equivalent(tree / "other", tree / "directory" / "other name"));
    CHECK(fs::is_symlink(fs::symlink_status(tree / "link")));
    CHECK(fs::is_directory(tree / "empty"));

    struct stat status {};

    REQUIRE(stat((tree / "empty").c_str(), &status) == 0);
    CHECK((status.st_mode & 07777U) == 0711);
    REQUIRE(stat((tree / "directory").c_str(), &status) == 0);
    CHECK(std::int64_t{status.st_mtim.tv_sec} * 1'000'000'000 + status.st_mtim.tv_nsec ==
          loser.copy.store().attributes(loser.directory)->modified);
    CHECK(loser.copy.store().attributes(empty)->mode == 0711);
}

TEST_CASE("Archive: a complete one is left as it is, an interrupted one made anew", "[archive]") {
    if (!has_trusted_xattrs()) {
        return;
    }
    Loser loser;
    const auto partial = fs::path(loser.place.string() + ".partial");
    fs::create_directories(partial / "tree" / "rubbish");
    REQUIRE(archive_copy(loser.copy.store(), nullptr, loser.place));
    CHECK_FALSE(fs::exists(loser.place / "tree" / "rubbish"));
    // The second pass sees the winner's bytes, and must not keep those.
    REQUIRE(loser.copy.write(loser.inside, 0, "WINNER") == 0);
    const auto again = archive_copy(loser.copy.store(), nullptr, loser.place);
    REQUIRE(again);
    CHECK(again->files == 3);
    CHECK(again->bytes == 14 + 15 + 13);
    CHECK(content_of(loser.place / "tree" / "directory" / "inside") == "content inside");
}

TEST_CASE("Archive: a directory that is no archive is refused, not used", "[archive]") {
    if (!has_trusted_xattrs()) {
        return;
    }
    Loser loser;
    fs::create_directories(loser.place);
    const auto refused = archive_copy(loser.copy.store(), nullptr, loser.place);
    REQUIRE_FALSE(refused);
    CHECK(refused.error().code == base::Errc::refused);
    std::ofstream(loser.place / "listing") << "something else\n";
    CHECK(archive_copy(loser.copy.store(), nullptr, loser.place).error().code ==
          base::Errc::refused);
}

TEST_CASE("Archive: too little room is told as archive-full and leaves nothing behind",
          "[archive]") {
    if (!has_trusted_xattrs()) {
        return;
    }
    Loser loser;
    FullStore store(loser.copy.store());
    const auto check = [&](base::Errc code) {
        const auto full = archive_copy(store, nullptr, loser.place);
        REQUIRE_FALSE(full);
        CHECK(full.error().code == code);
        CHECK(full.error().context.rfind("archive-full: ", 0) == 0);
    };
    SECTION("seen before") {
        store.says_full = true;
        check(base::Errc::limit_reached);
    }
    SECTION("met on the way") {
        store.copies_left = 2;
        check(base::Errc::limit_reached);
    }
    SECTION("another error stays what it is") {
        store.copies_left = 2;
        store.copy_error = EIO;
        const auto failed = archive_copy(store, nullptr, loser.place);
        REQUIRE_FALSE(failed);
        CHECK(failed.error().code == std::errc::io_error);
    }
    CHECK_FALSE(fs::exists(loser.place));
    CHECK_FALSE(fs::exists(loser.place.string() + ".partial"));
}

TEST_CASE("Archive: paths longer than a system call takes are kept under their id", "[archive]") {
    if (!has_trusted_xattrs()) {
        return;
    }
    Loser loser;
    auto deep = root_file;
    for (int level = 0; level < 40; ++level) {
        deep = loser.copy.directory(deep, std::string(100, 'd'));
    }
    const auto bottom = loser.copy.file(deep, "bottom", "far down");
    const auto result = archive_copy(loser.copy.store(), nullptr, loser.place);
    REQUIRE(result);
    CHECK(content_of(loser.place / "deep" / base::to_string(bottom)) == "far down");
    CHECK(content_of(loser.place / "listing").find(base::to_string(bottom)) != std::string::npos);
}
