#include "../../../libhyperv/src/core/preflight.hpp"

#include "support/catch.hpp"

#include <algorithm>
#include <functional>
#include <string>

using namespace safepair;
using hyperv::CpuFit;
using hyperv::FileUse;
using hyperv::PreflightInput;
using hyperv::Severity;

namespace {

PreflightInput good() {
    PreflightInput input;
    input.name = "vm1";
    input.folder = "/srv/vm";
    input.resolved_folder = "/srv/vm";
    input.domain.name = "vm1";
    input.domain.uuid = "6b3c9e5a-0b7d-4f3e-8a11-0123456789ab";
    input.domain.bridges = {"br0"};
    input.domain.networks = {"lan"};
    input.host.bridges = {"br0", "br1"};
    input.host.networks = {"default", "lan"};
    input.host.cpu = CpuFit::fits;
    input.host.files = {{{FileUse::disk, "/srv/vm/a.img"}, "/srv/vm/a.img", true, ""}};
    return input;
}

void add_file(
    PreflightInput& input, FileUse use, const char* path, const char* resolved, bool exists) {
    input.host.files.push_back({{use, path}, resolved, exists, ""});
}

}  // namespace

TEST_CASE("preflight_findings has nothing against a VM that fits") {
    CHECK(hyperv::preflight_findings(good()).empty());
}

TEST_CASE("preflight_findings names what keeps a VM from running here") {
    struct Row {
        const char* because;
        std::function<void(PreflightInput&)> spoil;
        Severity severity;
        const char* code;
        const char* names;
    };

    const Row rows[] = {
        {"a disk elsewhere is not replicated",
         [](auto& in) { add_file(in, FileUse::disk, "/data/b.img", "/data/b.img", true); },
         Severity::error,
         "file-outside",
         "/data/b.img"},
        {"a link out of the folder leads to a file that is not replicated",
         [](auto& in) { add_file(in, FileUse::disk, "/srv/vm/b.img", "/data/b.img", true); },
         Severity::error,
         "file-outside",
         "/data/b.img"},
        {"a path that reaches the folder by a link only this node may have",
         [](auto& in) { add_file(in, FileUse::disk, "/here/b.img", "/srv/vm/b.img", true); },
         Severity::error,
         "file-outside",
         "/here/b.img"},
        {"a backing file counts as a disk",
         [](auto& in) { add_file(in, FileUse::backing, "/data/base.img", "/data/base.img", true); },
         Severity::error,
         "file-outside",
         "backing file /data/base.img"},
        {"a CD-ROM that the other node lacks keeps the VM from starting there",
         [](auto& in) { add_file(in, FileUse::removable, "/iso/d.iso", "/iso/d.iso", true); },
         Severity::error,
         "file-outside",
         "/iso/d.iso"},
        {"NVRAM is state",
         [](auto& in) {
             add_file(in, FileUse::nvram, "/var/lib/vars.fd", "/var/lib/vars.fd", true);
         },
         Severity::error,
         "file-outside",
         "NVRAM"},
        {"a kernel elsewhere",
         [](auto& in) { add_file(in, FileUse::kernel, "/boot/vmlinuz", "/boot/vmlinuz", true); },
         Severity::error,
         "file-outside",
         "/boot/vmlinuz"},
        {"a TPM has state",
         [](auto& in) { add_file(in, FileUse::tpm_state, "/var/lib/tpm", "/var/lib/tpm", true); },
         Severity::error,
         "tpm-state-outside",
         "/var/lib/tpm"},
        {"a serial line written elsewhere harms nobody",
         [](auto& in) { add_file(in, FileUse::output, "/var/log/s", "/var/log/s", false); },
         Severity::information,
         "output-outside",
         "/var/log/s"},
        {"a missing disk",
         [](auto& in) { in.host.files[0].exists = false; },
         Severity::error,
         "file-missing",
         "/srv/vm/a.img"},
        {"missing firmware",
         [](auto& in) { add_file(in, FileUse::firmware, "/usr/share/fw", "/usr/share/fw", false); },
         Severity::error,
         "file-missing",
         "/usr/share/fw"},
        {"an image nobody can read may stand on anything",
         [](auto& in) { in.host.files[0].problem = "not an image"; },
         Severity::warning,
         "file-unreadable",
         "not an image"},
        {"a device of this host",
         [](auto& in) {
             in.domain.foreign = {{"hostdev", "the host's pci device"}};
         },
         Severity::error,
         "hostdev",
         "pci"},
        {"a block device",
         [](auto& in) {
             in.domain.foreign = {{"block-device", "the disk vdb"}};
         },
         Severity::error,
         "block-device",
         "vdb"},
        {"a disk on the network is somebody else's care",
         [](auto& in) {
             in.domain.foreign = {{"network-disk", "the disk vdc"}};
         },
         Severity::warning,
         "network-disk",
         "vdc"},
        {"a bridge that is missing",
         [](auto& in) { in.domain.bridges = {"br7"}; },
         Severity::error,
         "bridge-missing",
         "br0, br1"},
        {"a network that is missing",
         [](auto& in) { in.domain.networks = {"prod"}; },
         Severity::error,
         "network-missing",
         "default, lan"},
        {"a network that is not started",
         [](auto& in) {
             in.domain.networks = {"prod"};
             in.host.inactive_networks = {"prod"};
         },
         Severity::error,
         "network-inactive",
         "prod"},
        {"an interface that is missing",
         [](auto& in) { in.domain.interfaces = {"eth9"}; },
         Severity::error,
         "interface-missing",
         "eth9"},
        {"another VM of that name",
         [](auto& in) { in.host.uuid_of_name = "00000000-0000-0000-0000-000000000001"; },
         Severity::error,
         "name-clash",
         "00000000-0000-0000-0000-000000000001"},
        {"the same VM under another name is replaced",
         [](auto& in) { in.host.name_of_uuid = "old"; },
         Severity::warning,
         "other-name",
         "old"},
        {"the configuration of another VM",
         [](auto& in) { in.domain.name = "vm2"; },
         Severity::error,
         "name-differs",
         "vm2"},
        {"a VM without identity",
         [](auto& in) { in.domain.uuid.clear(); },
         Severity::error,
         "no-uuid",
         "vm1"},
        {"it runs without us",
         [](auto& in) { in.host.runs_unasked = true; },
         Severity::error,
         "already-running",
         "vm1"},
        {"it would start by itself",
         [](auto& in) { in.host.autostart = true; },
         Severity::warning,
         "autostart",
         "vm1"},
        {"a CPU that this host does not have",
         [](auto& in) {
             in.host.cpu = CpuFit::differs;
             in.host.cpu_reason = "missing avx512f";
         },
         Severity::error,
         "cpu-incompatible",
         "avx512f"},
        {"the CPU of whatever host it is",
         [](auto& in) { in.domain.cpu_mode = "host-passthrough"; },
         Severity::warning,
         "cpu-of-host",
         "host-passthrough"},
        {"no emulator",
         [](auto& in) {
             in.host.emulator_exists = false;
             in.domain.emulator = "/usr/bin/qemu-x";
         },
         Severity::error,
         "emulator-missing",
         "/usr/bin/qemu-x"},
        {"the hypervisor does not take it",
         [](auto& in) { in.host.refusal = "unsupported machine"; },
         Severity::error,
         "configuration-refused",
         "unsupported machine"},
    };
    for (const auto& row : rows) {
        DYNAMIC_SECTION(row.because) {
            auto input = good();
            row.spoil(input);
            const auto findings = hyperv::preflight_findings(input);
            REQUIRE(findings.size() == 1);
            CHECK(findings[0].severity == row.severity);
            CHECK(findings[0].code == row.code);
            CHECK(findings[0].text.find(row.names) != std::string::npos);
            CHECK_FALSE(findings[0].remedy.empty());
        }
    }
}

TEST_CASE("preflight_findings accepts what leads into the folder") {
    auto input = good();
    SECTION("TPM state behind a link") {
        add_file(input, FileUse::tpm_state, "/var/lib/libvirt/swtpm/x", "/srv/vm/tpm", true);
    }
    SECTION("a folder that is itself behind a link, named either way") {
        input.folder = "/link/vm";
        input.host.files[0].file.path = "/link/vm/a.img";
        add_file(input, FileUse::disk, "/srv/vm/b.img", "/srv/vm/b.img", true);
    }
    SECTION("NVRAM that is made at the first start") {
        add_file(input, FileUse::nvram, "/srv/vm/vars.fd", "/srv/vm/vars.fd", false);
    }
    SECTION("its own registration here") {
        input.host.uuid_of_name = input.domain.uuid;
        input.host.name_of_uuid = "vm1";
    }
    CHECK(hyperv::preflight_findings(input).empty());
}

TEST_CASE("preflight_findings puts errors first") {
    auto input = good();
    input.host.autostart = true;
    input.domain.bridges = {"br7"};
    add_file(input, FileUse::output, "/var/log/s", "/var/log/s", true);
    const auto findings = hyperv::preflight_findings(input);
    REQUIRE(findings.size() == 3);
    CHECK(findings[0].severity == Severity::error);
    CHECK(findings[1].severity == Severity::warning);
    CHECK(findings[2].severity == Severity::information);
}
