#include "domain_xml.hpp"

#include "../core/limits.hpp"

#include <memory>
#include <mutex>

#include <libxml/parser.h>
#include <libxml/tree.h>
#include <libxml/xpath.h>

namespace safepair::hyperv {

namespace {

struct DocumentFreer {
    void operator()(xmlDoc* document) const noexcept { xmlFreeDoc(document); }
};

struct ContextFreer {
    void operator()(xmlXPathContext* context) const noexcept { xmlXPathFreeContext(context); }
};

struct ObjectFreer {
    void operator()(xmlXPathObject* object) const noexcept { xmlXPathFreeObject(object); }
};

const xmlChar* xml_text(const char* text) { return reinterpret_cast<const xmlChar*>(text); }

std::string taken(xmlChar* text) {
    std::string result = text == nullptr ? "" : reinterpret_cast<const char*>(text);
    xmlFree(text);
    return result;
}

/// An XML document with XPath.
class Document {
  public:
    explicit Document(const std::string& xml) {
        static std::once_flag once;
        std::call_once(once, [] { xmlInitParser(); });
        // No entity is expanded and nothing is fetched: the file comes from a folder that others
        // may write.
        document_.reset(xmlReadMemory(xml.data(),
                                      static_cast<int>(xml.size()),
                                      "domain.xml",
                                      nullptr,
                                      XML_PARSE_NONET | XML_PARSE_NOERROR | XML_PARSE_NOWARNING));
        if (document_) {
            context_.reset(xmlXPathNewContext(document_.get()));
        }
    }

    explicit operator bool() const noexcept { return document_ && context_; }

    [[nodiscard]] std::vector<xmlNode*> nodes(const char* path, xmlNode* from = nullptr) const {
        context_->node = from != nullptr ? from : xmlDocGetRootElement(document_.get());
        const std::unique_ptr<xmlXPathObject, ObjectFreer> found(
            xmlXPathEval(xml_text(path), context_.get()));
        std::vector<xmlNode*> result;
        if (found && found->nodesetval != nullptr) {
            const auto& set = *found->nodesetval;
            result.assign(set.nodeTab, set.nodeTab + set.nodeNr);
        }
        return result;
    }

    /// The text of the first node that `path` finds.
    [[nodiscard]] std::string text(const char* path, xmlNode* from = nullptr) const {
        const auto found = nodes(path, from);
        return found.empty() ? std::string() : taken(xmlNodeGetContent(found.front()));
    }

    [[nodiscard]] std::string outer_xml(xmlNode* node) const {
        xmlBuffer* buffer = xmlBufferCreate();
        xmlNodeDump(buffer, document_.get(), node, 0, 0);
        std::string result = reinterpret_cast<const char*>(xmlBufferContent(buffer));
        xmlBufferFree(buffer);
        return result;
    }

    [[nodiscard]] bool is_domain() const {
        const auto* root = xmlDocGetRootElement(document_.get());
        return root != nullptr && xmlStrEqual(root->name, xml_text("domain")) != 0;
    }

  private:
    std::unique_ptr<xmlDoc, DocumentFreer> document_;
    std::unique_ptr<xmlXPathContext, ContextFreer> context_;
};

void add_file(DomainDescription& domain, FileUse use, std::string path) {
    if (!path.empty()) {
        domain.files.push_back({use, std::move(path)});
    }
}

void read_disk(const Document& document, xmlNode* disk, DomainDescription& domain) {
    const auto device = document.text("@device", disk);
    const auto type = document.text("@type", disk);
    const auto target = document.text("target/@dev", disk);
    const bool removable = device == "cdrom" || device == "floppy";
    if (type == "file") {
        add_file(domain,
                 removable ? FileUse::removable : FileUse::disk,
                 document.text("source/@file", disk));
    } else if (type == "dir") {
        add_file(domain, FileUse::shared_folder, document.text("source/@dir", disk));
    } else if (type == "block") {
        const auto path = document.text("source/@dev", disk);
        // An empty drive of the host is a device of the host too, but nothing is lost without it.
        if (!path.empty()) {
            domain.foreign.push_back(
                {"block-device", "the disk " + target + " is the block device " + path});
        }
    } else if (type == "network") {
        domain.foreign.push_back({"network-disk",
                                  "the disk " + target + " lies on the network (" +
                                      document.text("source/@protocol", disk) + " " +
                                      document.text("source/@name", disk) + ")"});
    } else if (type == "volume") {
        domain.foreign.push_back(
            {"pool-volume",
             "the disk " + target + " is the volume " + document.text("source/@volume", disk) +
                 " of the storage pool " + document.text("source/@pool", disk)});
    } else {
        domain.foreign.push_back(
            {"unknown-disk", "the disk " + target + " is of the type " + type});
    }
    for (auto* backing : document.nodes(".//backingStore/source/@file", disk)) {
        add_file(domain, FileUse::backing, taken(xmlNodeGetContent(backing)));
    }
    for (auto* mirror : document.nodes("mirror/source/@file", disk)) {
        add_file(domain, FileUse::disk, taken(xmlNodeGetContent(mirror)));
    }
}

void read_all(const Document& document, const char* path, FileUse use, DomainDescription& domain) {
    for (auto* node : document.nodes(path)) {
        add_file(domain, use, taken(xmlNodeGetContent(node)));
    }
}

void read_files(const Document& document, DomainDescription& domain) {
    for (auto* disk : document.nodes("devices/disk")) {
        read_disk(document, disk, domain);
    }
    read_all(document, "os/nvram[not(@type) or @type='file'][not(source)]", FileUse::nvram, domain);
    read_all(document, "os/nvram/source/@file", FileUse::nvram, domain);
    read_all(document, "os/loader", FileUse::firmware, domain);
    read_all(document, "os/kernel | os/initrd | os/dtb | os/acpi/table", FileUse::kernel, domain);
    read_all(document,
             "devices/filesystem[not(@type) or @type='mount']/source/@dir",
             FileUse::shared_folder,
             domain);
    read_all(document, "devices/filesystem[@type='file']/source/@file", FileUse::disk, domain);
    read_all(document, "devices/memory//path", FileUse::memory, domain);
    read_all(document,
             "devices/hostdev//rom/@file | devices/interface/rom/@file",
             FileUse::firmware,
             domain);
    for (const char* path : {"devices/serial[@type='file']/source/@path",
                             "devices/console[@type='file' and not(../serial)]/source/@path",
                             "devices/parallel[@type='file']/source/@path",
                             "devices/channel[@type='file']/source/@path",
                             "devices/*/log/@file"}) {
        read_all(document, path, FileUse::output, domain);
    }
}

std::string description_of_hostdev(const Document& document, xmlNode* device) {
    auto text = "the host's " + document.text("@type", device) + " device";
    for (auto* attribute : document.nodes("source//@*", device)) {
        text += " " + std::string(reinterpret_cast<const char*>(attribute->name)) + "=" +
                taken(xmlNodeGetContent(attribute));
    }
    return text + " is passed through to the VM";
}

void read_devices(const Document& document, DomainDescription& domain) {
    for (auto* device : document.nodes("devices/hostdev")) {
        domain.foreign.push_back({"hostdev", description_of_hostdev(document, device)});
    }
    for (auto* device : document.nodes("devices/interface[@type='hostdev']")) {
        domain.foreign.push_back({"hostdev", description_of_hostdev(document, device)});
    }
    for (auto* device : document.nodes("devices/tpm/backend[@type='passthrough']")) {
        domain.foreign.push_back({"hostdev",
                                  "the host's TPM " + document.text("device/@path", device) +
                                      " is passed through to the VM"});
    }
    const auto collect = [&](const char* path, std::vector<std::string>& names) {
        for (auto* node : document.nodes(path)) {
            names.push_back(taken(xmlNodeGetContent(node)));
        }
    };
    collect("devices/interface[@type='bridge']/source/@bridge", domain.bridges);
    collect("devices/interface[@type='network']/source/@network", domain.networks);
    collect("devices/interface[@type='direct']/source/@dev", domain.interfaces);
    domain.has_guest_agent =
        !document.nodes("devices/channel/target[@type='virtio' and @name='org.qemu.guest_agent.0']")
             .empty();
}

}  // namespace

base::Result<DomainDescription> parse_domain(const std::string& xml) {
    if (xml.size() > limits::configuration_bytes_max) {
        return base::error(base::Errc::limit_reached,
                           "the configuration is longer than any libvirt would take");
    }
    const Document document(xml);
    if (!document || !document.is_domain()) {
        return base::error(base::Errc::bad_input, "this is not the XML of a libvirt domain");
    }
    DomainDescription domain;
    domain.name = document.text("name");
    domain.uuid = canonical_uuid(document.text("uuid"));
    domain.type = document.text("@type");
    domain.arch = document.text("os/type/@arch");
    domain.machine = document.text("os/type/@machine");
    domain.emulator = document.text("devices/emulator");
    domain.cpu_mode = document.text("cpu/@mode");
    if (const auto cpu = document.nodes("cpu"); !cpu.empty()) {
        domain.cpu_xml = document.outer_xml(cpu.front());
    }
    read_files(document, domain);
    read_devices(document, domain);
    // An emulated TPM's state is not in the XML: the driver knows where this host has it.
    if (!document.nodes("devices/tpm/backend[@type='emulator']").empty()) {
        domain.files.push_back({FileUse::tpm_state, std::string()});
    }
    if (domain.name.empty()) {
        return base::error(base::Errc::bad_input, "the configuration has no <name>");
    }
    return domain;
}

}  // namespace safepair::hyperv
