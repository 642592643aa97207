#include "../../../libhyperv/src/libvirt/domain_xml.hpp"

#include "support/catch.hpp"

#include <algorithm>
#include <string>

using namespace safepair;
using hyperv::DomainDescription;
using hyperv::FileUse;

namespace {

const char* const full = R"(<domain type='kvm'>
  <name>vm1</name>
  <uuid>6B3C9E5A-0B7D-4F3E-8A11-0123456789AB</uuid>
  <os>
    <type arch='x86_64' machine='q35'>hvm</type>
    <loader readonly='yes' type='pflash'>/usr/share/OVMF/OVMF_CODE.fd</loader>
    <nvram template='/usr/share/OVMF/OVMF_VARS.fd'>/srv/vm/vars.fd</nvram>
    <kernel>/srv/vm/vmlinuz</kernel><initrd>/srv/vm/initrd</initrd><dtb>/srv/vm/tree</dtb>
  </os>
  <cpu mode='custom'><model>Skylake</model></cpu>
  <devices>
    <emulator>/usr/bin/qemu-system-x86_64</emulator>
    <disk type='file' device='disk'><source file='/srv/vm/a &amp; b.qcow2'/><target dev='vda'/>
      <backingStore type='file'><format type='qcow2'/><source file='/srv/vm/base.qcow2'/>
        <backingStore type='file'><format type='raw'/><source file='/srv/vm/root.img'/><backingStore/></backingStore>
      </backingStore>
    </disk>
    <disk type='file' device='cdrom'><target dev='sda'/></disk>
    <disk type='file' device='cdrom'><source file='/iso/d.iso'/><target dev='sdb'/></disk>
    <disk type='block' device='disk'><source dev='/dev/vg/lv'/><target dev='vdb'/></disk>
    <disk type='network' device='disk'><source protocol='rbd' name='pool/image'/><target dev='vdc'/></disk>
    <disk type='volume' device='disk'><source pool='default' volume='x.img'/><target dev='vdd'/></disk>
    <filesystem type='mount'><source dir='/export'/><target dir='e'/></filesystem>
    <interface type='bridge'><source bridge='br0'/></interface>
    <interface type='network'><source network='default'/></interface>
    <interface type='direct'><source dev='eth1' mode='bridge'/></interface>
    <interface type='user'/>
    <serial type='file'><source path='/var/log/serial'/><target port='0'/></serial>
    <console type='file'><source path='/var/log/serial'/></console>
    <channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>
    <hostdev mode='subsystem' type='pci'><source><address domain='0x0000' bus='0x06'/></source></hostdev>
    <tpm model='tpm-crb'><backend type='emulator' version='2.0'/></tpm>
  </devices>
</domain>)";

std::vector<std::string> paths(const DomainDescription& domain, FileUse use) {
    std::vector<std::string> found;
    for (const auto& file : domain.files) {
        if (file.use == use) {
            found.push_back(file.path);
        }
    }
    return found;
}

bool has_foreign(const DomainDescription& domain,
                 const std::string& kind,
                 const std::string& word) {
    return std::any_of(domain.foreign.begin(), domain.foreign.end(), [&](const auto& device) {
        return device.kind == kind && device.text.find(word) != std::string::npos;
    });
}

using Paths = std::vector<std::string>;

}  // namespace

TEST_CASE("parse_domain finds every file that a domain uses") {
    const auto domain = hyperv::parse_domain(full);
    REQUIRE(domain.has_value());
    CHECK(domain->name == "vm1");
    CHECK(domain->uuid == "6b3c9e5a-0b7d-4f3e-8a11-0123456789ab");
    CHECK(domain->type == "kvm");
    CHECK(domain->machine == "q35");
    CHECK(domain->emulator == "/usr/bin/qemu-system-x86_64");
    CHECK(paths(*domain, FileUse::disk) == Paths{"/srv/vm/a & b.qcow2"});
    CHECK(paths(*domain, FileUse::backing) == Paths{"/srv/vm/base.qcow2", "/srv/vm/root.img"});
    CHECK(paths(*domain, FileUse::removable) == Paths{"/iso/d.iso"});
    CHECK(paths(*domain, FileUse::nvram) == Paths{"/srv/vm/vars.fd"});
    CHECK(paths(*domain, FileUse::firmware) == Paths{"/usr/share/OVMF/OVMF_CODE.fd"});
    CHECK(paths(*domain, FileUse::kernel) ==
          Paths{"/srv/vm/vmlinuz", "/srv/vm/initrd", "/srv/vm/tree"});
    CHECK(paths(*domain, FileUse::shared_folder) == Paths{"/export"});
    CHECK(paths(*domain, FileUse::output) == Paths{"/var/log/serial"});
    CHECK(paths(*domain, FileUse::tpm_state) == Paths{""});
}

TEST_CASE("parse_domain finds what ties a domain to its host") {
    const auto domain = hyperv::parse_domain(full);
    REQUIRE(domain.has_value());
    CHECK(domain->bridges == Paths{"br0"});
    CHECK(domain->networks == Paths{"default"});
    CHECK(domain->interfaces == Paths{"eth1"});
    CHECK(domain->has_guest_agent);
    CHECK(domain->cpu_mode == "custom");
    CHECK(domain->cpu_xml == "<cpu mode=\"custom\"><model>Skylake</model></cpu>");
    CHECK(has_foreign(*domain, "hostdev", "0x06"));
    CHECK(has_foreign(*domain, "block-device", "/dev/vg/lv"));
    CHECK(has_foreign(*domain, "network-disk", "pool/image"));
    CHECK(has_foreign(*domain, "pool-volume", "x.img"));
    CHECK(domain->foreign.size() == 4);
}

TEST_CASE("parse_domain refuses what is no domain") {
    for (const char* text :
         {"", "x", "<network><name>a</name></network>", "<domain><name>a</name>", "<domain/>"}) {
        const auto domain = hyperv::parse_domain(text);
        REQUIRE_FALSE(domain.has_value());
        CHECK(domain.error().code == base::Errc::bad_input);
    }
}

TEST_CASE("parse_domain does not fetch what an entity names") {
    const auto domain = hyperv::parse_domain(
        "<!DOCTYPE domain [<!ENTITY f SYSTEM "
        "'file:///etc/hostname'>]><domain><name>a&f;</name></domain>");
    CHECK((!domain.has_value() || domain->name == "a"));
}

TEST_CASE("canonical_uuid takes what libvirt takes") {
    CHECK(hyperv::canonical_uuid("6B3C9E5A0B7D4F3E8A110123456789AB") ==
          "6b3c9e5a-0b7d-4f3e-8a11-0123456789ab");
    CHECK(hyperv::canonical_uuid("6b3c9e5a-0b7d-4f3e-8a11-0123456789ab\n") ==
          "6b3c9e5a-0b7d-4f3e-8a11-0123456789ab");
    CHECK(hyperv::canonical_uuid("6b3c9e5a-0b7d-4f3e-8a11-0123456789a").empty());
    CHECK(hyperv::canonical_uuid("6b3c9e5a-0b7d-4f3e-8a11-0123456789ag").empty());
    CHECK(hyperv::canonical_uuid("").empty());
}

TEST_CASE("lies_in looks at components, not at characters") {
    CHECK(hyperv::lies_in("/srv/vm/a", "/srv/vm"));
    CHECK(hyperv::lies_in("/srv/vm", "/srv/vm/"));
    CHECK(hyperv::lies_in("/srv//vm/./x/../a", "/srv/vm"));
    CHECK_FALSE(hyperv::lies_in("/srv/vm1/a", "/srv/vm"));
    CHECK_FALSE(hyperv::lies_in("/srv/vm/../a", "/srv/vm"));
    CHECK_FALSE(hyperv::lies_in("srv/vm/a", "/srv/vm"));
    CHECK_FALSE(hyperv::lies_in("", "/srv/vm"));
}

TEST_CASE("is_valid_vm_name refuses what cannot be a file name") {
    CHECK(hyperv::is_valid_vm_name("vm 1.prod"));
    CHECK(hyperv::is_valid_vm_name("caf\xC3\xA9"));
    for (const char* name : {"", ".", "..", ".vm", "a/b", "-x", "a\nb"}) {
        CHECK_FALSE(hyperv::is_valid_vm_name(name));
    }
    CHECK_FALSE(hyperv::is_valid_vm_name(std::string(201, 'a')));
}
