"""The configuration files of a lab."""
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Network:
    name: str
    prefix: str
    heartbeat: bool = True
    replication: bool = True

    def address(self, number):
        return f"{self.prefix}.{number}"


@dataclass
class Module:
    name: str
    # records: the record service. idle: nothing runs. vm: a domain of that name.
    kind: str = "records"
    folder: str = ""
    # Further lines of its file, as they stand.
    lines: list = field(default_factory=list)
    # vm: libvirt's URI and how it is stopped.
    uri: str = "qemu:///embed?root=/run/node/embed"
    normal_stop: str = "stop"
    force_stop: str = "off"

    def __post_init__(self):
        self.folder = self.folder or f"/srv/{self.name}"

    @property
    def records(self):
        return self.kind == "records"


def cluster_yaml(options):
    lines = ["name: lab", "networks:"]
    for network in options.networks:
        uses = [use for use in ("heartbeat", "replication") if getattr(network, use)]
        lines.append(f"  - {{name: {network.name}, uses: [{', '.join(uses)}]}}")
    lines.append("nodes:")
    for number in (1, 2):
        addresses = ", ".join(f"{network.name}: {network.address(number)}" for network in options.networks)
        lines.append(f"  - {{name: node{number}, addresses: {{{addresses}}}}}")
    lines.append(f"heartbeat: {{pulse: {options.pulse}, timeout: {options.timeout}}}")
    return "\n".join(lines) + "\n"


def module_yaml(module, here):
    lines = [f"folder: {module.folder}", "nodes: [node1, node2]"]
    if module.kind == "vm":
        lines += ["vm:", f"  name: {module.name}", f"  uri: {module.uri}", f"  normal_stop: {module.normal_stop}",
                  f"  force_stop: {module.force_stop}"]
    else:
        program = here / "record_service.py" if module.records else "/bin/true"
        lines += ["service:", f"  start: [{program}]", f"  stop: [{program}]"]
    return "\n".join(lines + list(module.lines)) + "\n"
