#include "../../../libhyperv/src/libvirt/folder_files.hpp"

#include "../../../libhyperv/src/libvirt/backing_chain.hpp"
#include "../../../libhyperv/src/libvirt/host_uri.hpp"
#include "support/catch.hpp"
#include "support/scratch_directory.hpp"

#include <fstream>
#include <string>

#include <sys/stat.h>

using namespace safepair;

TEST_CASE("write_atomically replaces a file and keeps its mode") {
    const tests::ScratchDirectory scratch;
    const auto path = scratch / "vm.xml";
    REQUIRE(hyperv::write_atomically(path, "one").has_value());

    struct stat status {};

    REQUIRE(::stat(path.c_str(), &status) == 0);
    CHECK((status.st_mode & 0777U) == 0600U);
    REQUIRE(::chmod(path.c_str(), 0640) == 0);
    REQUIRE(hyperv::write_atomically(path, "two").has_value());
    CHECK(*hyperv::read_file(path, 10) == "two");
    REQUIRE(::stat(path.c_str(), &status) == 0);
    CHECK((status.st_mode & 0777U) == 0640U);
    CHECK_FALSE(std::filesystem::exists(scratch / "vm.xml.new"));
}

TEST_CASE("write_atomically names what it could not write") {
    const auto written = hyperv::write_atomically("/nonexistent/vm.xml", "x");
    REQUIRE_FALSE(written.has_value());
    CHECK(written.error().context.find("/nonexistent/vm.xml") != std::string::npos);
}

TEST_CASE("read_file tells a missing file from a long one") {
    const tests::ScratchDirectory scratch;
    CHECK(hyperv::read_file(scratch / "none", 10).error().code == base::Errc::not_found);
    std::ofstream(scratch / "long") << "0123456789x";
    CHECK(hyperv::read_file(scratch / "long", 10).error().code == base::Errc::limit_reached);
    CHECK(hyperv::remove_durably(scratch / "none").has_value());
    CHECK_FALSE(hyperv::move_durably(scratch / "none", scratch / "other").has_value());
}

TEST_CASE("saved_facts sees the state file, its record and the disks of the record") {
    const tests::ScratchDirectory scratch;
    const hyperv::SaveFiles files(scratch.path(), "vm1");
    CHECK_FALSE(hyperv::saved_facts(files).state_bytes.has_value());
    std::ofstream(files.state) << "memory";
    std::ofstream(scratch / "disk") << "data";
    CHECK_FALSE(hyperv::saved_facts(files).record.has_value());
    hyperv::SaveRecord record{
        6, {*hyperv::disk_fact((scratch / "disk").string()), {"/nonexistent", 1, 1}}};
    REQUIRE(
        hyperv::write_atomically(files.record, *hyperv::format_save_record(record)).has_value());
    const auto facts = hyperv::saved_facts(files);
    CHECK(facts.state_bytes == 6U);
    REQUIRE(facts.record.has_value());
    CHECK(facts.disks.size() == 1);
    CHECK(hyperv::choose_start(facts).why == "the disk /nonexistent is missing");
}

TEST_CASE("host_places knows where each kind of host keeps its files") {
    CHECK(hyperv::host_places("qemu:///system")->run == "/run/libvirt/qemu");
    CHECK(hyperv::host_places("test:///default")->run.empty());
    const auto embed = hyperv::host_places("qemu:///embed?x=1&root=/srv/a%20b");
    REQUIRE(embed.has_value());
    CHECK(embed->embed_root == "/srv/a b");
    CHECK(embed->run == "/srv/a b/run/qemu");
    CHECK(hyperv::host_places("qemu:///embed").error().code == base::Errc::bad_input);
    CHECK(hyperv::host_places("qemu:///embed?root=relative").error().code == base::Errc::bad_input);
}

TEST_CASE("parse_backing_chain lists what an image stands on") {
    const auto chain = hyperv::parse_backing_chain(
        R"([{"filename":"/v/a","backing-filename":"b","full-backing-filename":"/v/b"},
            {"filename":"/v/b","backing-filename":"/w/c"},{"filename":"/w/c"}])");
    REQUIRE(chain.has_value());
    CHECK(*chain == std::vector<std::string>{"/v/b", "/w/c"});
    CHECK_FALSE(hyperv::parse_backing_chain("qemu-img: error").has_value());
    CHECK_FALSE(hyperv::parse_backing_chain("{}").has_value());
}
