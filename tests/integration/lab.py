"""A pair of nodes on this machine for tests and the demo: real agents in namespaces, on networks that can be cut.

Both nodes have the same paths. Seen by a node: /srv holds the replicated folders, /run/node is its private disk
(configuration, records of the agent, identities, logs of the service), /run/safepair the control socket. Seen from outside
all of it is below Node.directory, also while the node is off.
"""
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import uuid
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import folders
import record_service
from configuration import Module, Network, cluster_yaml, module_yaml
from namespaces import (Cgroup, Holder, Hub, LabError, cgroup_mount, child_of, die_with_parent, is_alive, remove_tree, run,
                        wait_until)

HERE = Path(__file__).resolve().parent
SOURCE = HERE.parent.parent
FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1")
TWO_NETWORKS = (Network("production", "10.77.1", heartbeat=True, replication=False),
                Network("replication", "10.77.2", heartbeat=True, replication=True))
ONE_NETWORK = (Network("production", "10.77.1", heartbeat=True, replication=True),)
NAMES = ("node1", "node2")


@dataclass
class Options:
    """What a test may choose before the nodes are made."""
    networks: tuple = TWO_NETWORKS
    modules: list = field(default_factory=lambda: [Module("vm1")])
    pulse: str = "100ms"
    timeout: str = "2s"
    agent: str = "safe-agent"
    # Lines of shell that a node runs when it is powered on, with its private disk at /run/node.
    node_setup: str = ""
    # A further disk of each node, mounted at power-on unless Node.unplugged.
    disk: str = ""
    # Networks whose cable goes through the relay.
    relayed: tuple = ()


@dataclass
class Answer:
    """What a safectl command said."""
    command: str
    code: int
    out: str
    err: str

    def __str__(self):
        return f"$ {self.command}\n{self.out}{self.err}(exit {self.code})"


class Node:
    def __init__(self, lab, name):
        self.lab = lab
        self.name = name
        self.number = NAMES.index(name) + 1
        self.directory = lab.directory / name
        self.holder = None
        self.cgroup = None
        self.agent = None
        self.agent_pid = None
        self.unplugged = False
        for part in ("srv", "disk", "modules", "identity", "state", "embed", "service", "serial", "logs"):
            (self.directory / part).mkdir(parents=True)

    # Power

    @property
    def on(self):
        return self.holder is not None

    def power_on(self):
        """A new boot: new processes, new mounts, new boot id, the same disks."""
        assert not self.on
        (self.directory / "boot_id").write_text(f"{uuid.uuid4()}\n")
        self.cgroup = Cgroup(f"safepair-lab-{os.getpid()}-{self.lab.number}-{self.name}")
        setup = ["mount --make-rprivate /", "mount -t tmpfs -o mode=755 tmpfs /run",
                 "mkdir -p /run/node /run/safepair /run/lock /run/libvirt",
                 f"mount --bind {self.directory} /run/node", "mount --bind /run/node/srv /srv",
                 "mount --bind /run/node/boot_id /proc/sys/kernel/random/boot_id", f"hostname {self.name}"]
        if self.cgroup.path:
            # The kernel refuses a second mount of it right over the first one.
            setup += ["mkdir /run/cgroup", "mount -t cgroup2 cgroup2 /run/cgroup",
                      f"mount --bind /run/cgroup {self.cgroup.mount}", "umount /run/cgroup"]
        if self.lab.options.disk and not self.unplugged:
            setup.append(self.mount_disk_command())
        setup += self.lab.options.node_setup.splitlines()
        self.holder = Holder(self.name, self.cgroup, "\n".join(setup), keep=self.lab.keep)
        for network in self.lab.options.networks:
            self.lab.hub.plug(self.name, self.holder.pid, network.name, network.address(self.number),
                              bridged=network.name not in self.lab.options.relayed)
        self.lab.start_relays()

    def mount_disk_command(self):
        return f"mount --bind /run/node/disk {self.lab.options.disk}"

    def power_off(self):
        """The plug is pulled: links first, by a hair, because a machine without power says no goodbye."""
        self.lab.hub.unplug(self.name, [network.name for network in self.lab.options.networks])
        at = time.clock_gettime_ns(time.CLOCK_REALTIME)
        self.end()
        return at

    def end(self):
        if self.holder is None:
            return
        self.holder.kill()
        self.holder = None
        if self.agent is not None:
            self.agent.wait()
        self.agent = self.agent_pid = None
        self.cgroup.remove()
        if not self.lab.closed:
            self.lab.hub.remove_ports(self.name, [network.name for network in self.lab.options.networks])

    # What runs on it

    def run(self, *command, check=True, timeout=60, environment=None):
        """A command on this node; its standard output."""
        done = subprocess.run(self.holder.command(command), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True, timeout=timeout, check=False, cwd="/", env=environment)
        if check and done.returncode != 0:
            raise LabError(f"{self.name}: {' '.join(str(c) for c in command)}: exit {done.returncode}: {done.stderr.strip()}")
        return done.stdout

    def popen(self, *command, **options):
        return subprocess.Popen(self.holder.command(command), stdin=subprocess.DEVNULL, cwd="/",
                                preexec_fn=None if self.lab.keep else die_with_parent,
                                start_new_session=self.lab.keep, **options)

    def agent_command(self):
        return [self.lab.build / "agent" / self.lab.options.agent, "--config", "/run/node", "--node", self.name,
                "--state", "/run/node/state", "--runtime", "/run/safepair", "--identity", "/run/node/identity",
                "--log-level", os.environ.get("SAFEPAIR_LAB_LOG_LEVEL", "info")]

    @property
    def log_file(self):
        return self.directory / "logs" / "agent.log"

    def spawn_agent(self, environment=None):
        """Starts the agent, with `environment` (NAME=value words) on top, and does not wait for it."""
        assert self.agent is None or self.agent.poll() is not None, "an agent runs already"
        with open(self.log_file, "a", encoding="utf-8") as log:
            log.write(f"--- started {time.strftime('%H:%M:%S')}\n")
            log.flush()
            self.agent = self.popen("env", *(environment or []), *self.agent_command(), stdout=log, stderr=log)
        self.agent_pid = child_of(self.agent.pid)

    def start_agent(self, environment=None, timeout=20):
        self.spawn_agent(environment)
        self.wait_for_agent(timeout)

    def wait_for_agent(self, timeout=20):
        def answers():
            if self.agent.poll() is not None:
                raise LabError(f"{self.name}: safe-agent ended with {self.agent.returncode}:\n{self.log_tail(10)}")
            return self.safectl("module", "list", check=False, quiet=True, timeout=10).code == 0
        wait_until(answers, timeout, f"the agent of {self.name} answers", pause=0.1)

    def wait_agent(self, timeout=60):
        """Waits for the agent's end; its exit code, negative for a signal."""
        code = self.agent.wait(timeout)
        self.agent = self.agent_pid = None
        return code

    def stop_agent(self, timeout=90):
        """As systemd does: SIGTERM, then wait."""
        os.kill(self.agent_pid, signal.SIGTERM)
        return self.wait_agent(timeout)

    def kill_agent(self):
        """The agent's process alone."""
        os.kill(self.agent_pid, signal.SIGKILL)
        return self.wait_agent()

    def freeze_agent(self):
        os.kill(self.agent_pid, signal.SIGSTOP)

    def thaw_agent(self):
        os.kill(self.agent_pid, signal.SIGCONT)
        # nsenter stops with its child and goes on by itself only when it is told.
        os.kill(self.agent.pid, signal.SIGCONT)

    def agent_runs(self):
        return self.agent is not None and is_alive(self.agent_pid)

    def log_tail(self, lines=40):
        if not self.log_file.exists():
            return ""
        return "\n".join(self.log_file.read_text(errors="replace").splitlines()[-lines:])

    # What it says

    def safectl(self, *arguments, check=True, quiet=False, timeout=120):
        arguments = [str(argument) for argument in arguments]
        command = " ".join(["safectl"] + arguments)
        if self.lab.show and not quiet:
            self.lab.show(f"{self.name}# {command}")
        done = subprocess.run(self.holder.command([self.lab.build / "cli" / "safectl"] + arguments),
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                              timeout=timeout, check=False, cwd="/", env=dict(os.environ, NO_COLOR="1", LC_ALL="C.UTF-8"))
        answer = Answer(f"{self.name}: {command}", done.returncode, done.stdout, done.stderr)
        if self.lab.show and not quiet:
            for line in (done.stdout + done.stderr).splitlines():
                self.lab.show(f"  {line}")
        if check and answer.code != 0:
            raise LabError(str(answer))
        return answer

    def status(self):
        """The whole answer of `safectl status -o json`, or None when the agent does not answer."""
        if not self.on or not self.agent_runs():
            return None
        try:
            answer = self.safectl("status", "-o", "json", check=False, quiet=True, timeout=5)
        except subprocess.TimeoutExpired:
            return None
        return json.loads(answer.out) if answer.code == 0 else None

    def row(self, module="vm1", of=None):
        """How this node sees `module` on node `of` (default: itself), as in control.proto's ModuleStatus; {} without an answer."""
        status = self.status()
        for row in (status or {}).get("modules", []):
            if row["module"] == module and row["node"] == (of or self.name):
                return row
        return {}

    def state(self, module="vm1"):
        row = self.row(module)
        return f"{row.get('role', '?')} {row.get('readiness', '?')}"

    def events(self, module="vm1"):
        answer = self.safectl("log", module, "-n", "0", "-o", "json", check=False, quiet=True)
        return [json.loads(line) for line in answer.out.splitlines()] if answer.code == 0 else []

    # Its disks, from outside

    def outside(self, path):
        """Where an absolute path of this node's own disks lies."""
        path = Path(path)
        for inside, part in ((self.lab.options.disk, "disk"), ("/run/node", "."), ("/srv", "srv")):
            if inside and path.is_relative_to(inside):
                return self.directory / part / path.relative_to(inside)
        raise LabError(f"{path} is not on a disk of {self.name}")

    def mounted(self, path):
        """What the node's own processes see at `path`, the FUSE mount included."""
        return self.holder.root / str(path).lstrip("/")

    def data(self, module="vm1"):
        """Where the bytes of a module are."""
        return folders.data_directory(self.outside(self.lab.module(module).folder))

    def acknowledged(self, module="vm1"):
        return record_service.read_acknowledged(self.directory / "service" / f"{module}.acknowledged")

    def ticks(self, module="vm1"):
        """Boot-time nanoseconds at which the service executed here."""
        path = self.directory / "service" / f"{module}.ticks"
        if not path.exists():
            return []
        return [int(line.split()[0]) for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]

    def set_paused(self, module, paused):
        path = self.directory / "service" / f"{module}.paused"
        if paused:
            path.touch()
        else:
            path.unlink(missing_ok=True)


def nanoseconds(text):
    """Since 1970, of a time as safectl writes it: 2026-11-22T18:04:11.123456Z."""
    whole, _, rest = text.rstrip("Z").partition(".")
    seconds = int(datetime.fromisoformat(whole + "+00:00").timestamp())
    return seconds * 1_000_000_000 + int((rest + "000000000")[:9])


class Lab:
    """`with Lab(build, "name") as lab:` then configure(), start()."""
    count = 0

    def __init__(self, build, name, directory=None, keep=False, show=None):
        Lab.count += 1
        self.number = Lab.count
        self.build = Path(build).resolve()
        self.name = name
        self.keep = keep
        self.show = show
        scratch = Path(os.environ.get("SAFEPAIR_LAB_SCRATCH", self.build.parent / "lab"))
        self.directory = Path(directory) if directory else scratch / f"{name[:24]}-{os.getpid()}-{self.number}"
        self.options = Options()
        self.hub = None
        self.nodes = {}
        self.relays = {}
        self.drops = set()
        self.processes = []
        self.closed = False

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if kind is not None:
            self.save_logs()
        self.close()

    # Making it

    def configure(self, **changes):
        for key, value in changes.items():
            if not hasattr(self.options, key):
                raise AttributeError(key)
            setattr(self.options, key, value)
        return self

    def make(self, power=True):
        """Nodes with power and networks, identities and configuration; no agent yet."""
        remove_left_over(self.build.parent / "lab")
        remove_tree(self.directory)
        self.directory.mkdir(parents=True)
        self.hub = Hub([network.name for network in self.options.networks], keep=self.keep)
        for name in NAMES:
            self.nodes[name] = Node(self, name)
        self.make_identities()
        for node in self.nodes.values():
            self.write_configuration(node)
            for module in self.options.modules:
                node.outside(module.folder).mkdir(parents=True, exist_ok=True)
            if power:
                node.power_on()
        return self

    def start(self):
        """make() and both agents."""
        self.make()
        for node in self.nodes.values():
            node.spawn_agent()
        for node in self.nodes.values():
            node.wait_for_agent()
        return self

    def make_identities(self):
        # Making keys takes longer than a test, and they are the same for every run.
        identities = self.build.parent / "lab-identities"
        if not (identities / "complete").exists():
            making = identities.with_name(f"lab-identities-{os.getpid()}")
            remove_tree(making)
            run([SOURCE / "packaging" / "make-test-ca.sh", making, *NAMES])
            (making / "complete").touch()
            try:
                making.rename(identities)
            except OSError:
                remove_tree(making)
        for name in NAMES:
            shutil.copytree(identities / name, self.directory / name / "identity", dirs_exist_ok=True)

    def write_configuration(self, node):
        (node.directory / "cluster.yaml").write_text(cluster_yaml(self.options))
        for module in self.options.modules:
            (node.directory / "modules" / f"{module.name}.yaml").write_text(module_yaml(module, HERE))

    @property
    def node1(self):
        return self.nodes["node1"]

    @property
    def node2(self):
        return self.nodes["node2"]

    def other(self, node):
        return self.node2 if node is self.node1 else self.node1

    def module(self, name):
        return next(module for module in self.options.modules if module.name == name)

    # Networks

    def cut(self, *networks, sender=None):
        """Loses what passes on these networks (default: all); with `sender`, only what that node sends."""
        names = networks or [network.name for network in self.options.networks]
        for name in names:
            for node in NAMES if sender is None else [sender.name]:
                self.drops.add((name, node))
        self.hub.set_drops(self.drops)

    def heal(self, *networks):
        self.drops = {(name, node) for name, node in self.drops if networks and name not in networks}
        self.hub.set_drops(self.drops)

    def start_relays(self):
        """A relay holds two ports; a port is new after a power-on."""
        for network in self.options.relayed:
            if not all(node.on for node in self.nodes.values()) or len(self.nodes) < len(NAMES):
                continue
            self.stop_relay(network)
            self.relays[network] = self.hub.popen(
                [sys.executable, HERE / "relay.py"] + [self.hub.port(name, network) for name in NAMES],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            self.relays[network].stdout.readline()

    def stop_relay(self, network):
        relay = self.relays.pop(network, None)
        if relay is not None:
            relay.kill()
            relay.wait()
            relay.stdin.close()
            relay.stdout.close()

    def relay(self, network, command):
        relay = self.relays[network]
        relay.stdin.write(command + "\n")
        relay.stdin.flush()
        if relay.stdout.readline().strip() != "ok":
            raise LabError(f"the relay of {network} did not take {command}")

    # Waiting

    def wait_for(self, *states, module="vm1", timeout=30):
        """wait_for("node1 PRIM Ready", "node2 SECOND Ready"): each as the node says of itself."""
        last = {}

        def reached():
            for wanted in states:
                name, _, state = wanted.partition(" ")
                last[name] = self.nodes[name].state(module)
                if last[name] != state:
                    return False
            return True
        try:
            wait_until(reached, timeout, f"{module}: {', '.join(states)}", pause=0.1)
        except LabError as error:
            raise LabError(f"{error}\n{self.describe(module)}") from None

    def wait_for_any_pair(self, module="vm1", timeout=60):
        """PRIM Ready and SECOND Ready, whoever leads; the leader."""
        def leader():
            states = {name: node.state(module) for name, node in self.nodes.items()}
            if sorted(states.values()) == ["PRIM Ready", "SECOND Ready"]:
                return next(self.nodes[name] for name, state in states.items() if state == "PRIM Ready")
            return None
        try:
            return wait_until(leader, timeout, f"{module}: one node PRIM Ready, the other one SECOND Ready", pause=0.1)
        except LabError as error:
            raise LabError(f"{error}\n{self.describe(module)}") from None

    def describe(self, module):
        lines = []
        for name, node in self.nodes.items():
            row = node.row(module)
            lines.append(f"{name}: {row.get('role', '?')} {row.get('readiness', '?')} {row.get('reason', '')} {row.get('text', '')}")
        return "\n".join(lines)

    def stays(self, *states, module="vm1", seconds=3.0):
        """Fails when one of them is left during that time."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            for wanted in states:
                name, _, state = wanted.partition(" ")
                now = self.nodes[name].state(module)
                if now != state:
                    raise LabError(f"{module}: {name} did not stay {state}: {now} {self.nodes[name].row(module)}")
            time.sleep(0.2)

    def wait_for_records(self, node, more=5, module="vm1", timeout=20):
        """The service on `node` is told of `more` further safe records."""
        before = len(node.acknowledged(module))
        wait_until(lambda: len(node.acknowledged(module)) >= before + more, timeout,
                   f"{more} more records acknowledged on {node.name}")

    def pair(self, module="vm1", leader=None, timeout=60):
        """The usual beginning: the leader (node1) as primary, the other one as its second, both Ready, records flowing."""
        leader = leader or self.node1
        leader.safectl("as-primary", module)
        self.wait_for(f"{leader.name} ALONE Ready", module=module)
        follower = self.other(leader)
        follower.safectl("start", module, check=False)
        self.wait_for(f"{leader.name} PRIM Ready", f"{follower.name} SECOND Ready", module=module, timeout=timeout)
        if self.module(module).records:
            self.wait_for_records(leader, module=module)
        return self

    # Judging

    def quiet(self, module, paused=True):
        for node in self.nodes.values():
            node.set_paused(module, paused)

    def compare(self, module="vm1", timeout=15):
        """Both copies are identical once the service writes no more; a short while is allowed for the last times of files."""
        self.quiet(module)
        found = []

        def equal():
            try:
                found[:] = folders.compare(self.node1.data(module), self.node2.data(module))
            except FileNotFoundError as error:
                found[:] = [str(error)]
            return not found
        try:
            time.sleep(0.1)
            wait_until(equal, timeout, f"both copies of {module} are identical")
        except LabError as error:
            raise LabError(f"{error}\n" + "\n".join(found[:40])) from None

    def archived_records(self, module="vm1"):
        """What a loser of an isolation wrote, read back from the archives of both nodes."""
        found = set()
        for node in self.nodes.values():
            for file in (node.data(module) / folders.OURS / "archive").glob("**/records"):
                found |= record_service.read_records(file)
        return found

    def check_records(self, module="vm1", archived=False):
        """Every record that the service was told is safe is in both copies; `archived`: or in an archive."""
        promised = set(self.node1.acknowledged(module)) | set(self.node2.acknowledged(module))
        if not promised:
            raise LabError(f"{module}: nothing was acknowledged, so nothing was tested")
        if archived:
            promised -= self.archived_records(module)
        for node in self.nodes.values():
            missing = promised - record_service.read_records(node.data(module) / "records")
            if missing:
                raise LabError(f"{module}: {len(missing)} of {len(promised)} acknowledged records are not on {node.name}: "
                               f"{sorted(missing)[:5]}")
        return len(promised)

    def finish(self, module="vm1", archived=False):
        """The end of a test: nothing acknowledged is lost, and both copies are identical."""
        self.compare(module)
        if self.module(module).records:
            self.check_records(module, archived)

    # Ending it

    def track(self, process):
        """A further process that ends with the lab."""
        self.processes.append(process)
        return process

    def save_logs(self):
        """Keeps what explains a failure, and shows the end of it."""
        target = self.build.parent / "lab-logs" / self.name
        remove_tree(target)
        for node in self.nodes.values():
            keep = target / node.name
            keep.mkdir(parents=True, exist_ok=True)
            for part in ("logs", "modules", "serial"):
                shutil.copytree(node.directory / part, keep / part, dirs_exist_ok=True)
            for module in self.options.modules:
                try:
                    if node.on and node.agent_runs():
                        lines = [json.dumps(event) for event in node.events(module.name)]
                        (keep / f"events-{module.name}.jsonl").write_text("\n".join(lines) + "\n")
                        (keep / "status.json").write_text(json.dumps(node.status(), indent=1))
                except (LabError, subprocess.SubprocessError, json.JSONDecodeError, OSError) as error:
                    (keep / "errors").write_text(f"{error}\n")
            print(f"--- {node.name}: end of its agent's log (all of it: {keep})\n{node.log_tail(60)}", file=sys.stderr)

    def close(self):
        """Ends everything that this lab made; a second call does nothing."""
        if self.closed:
            return
        self.closed = True
        for process in self.processes:
            if process.poll() is None:
                process.kill()
                process.wait()
        for network in list(self.relays):
            self.stop_relay(network)
        for node in self.nodes.values():
            node.end()
        if self.hub is not None:
            self.hub.close()
        remove_tree(self.directory)


def remove_left_over(scratch):
    """What a run that was killed before it could clean up has left: directories and empty cgroups of processes that are gone.
    Its processes died with it."""
    for directory in scratch.glob("*-*-*"):
        pid = directory.name.split("-")[-2]
        if pid.isdigit() and not is_alive(int(pid)):
            remove_tree(directory)
    mount = cgroup_mount()
    for cgroup in mount.glob("safepair-lab-*") if mount else []:
        if not is_alive(int(cgroup.name.split("-")[2])):
            for directory, _, _ in os.walk(cgroup, topdown=False):
                try:
                    os.rmdir(directory)
                except OSError:
                    pass


def seeded(name):
    """Randomness of a test that can be repeated: the seed is printed and can be given."""
    seed = int(os.environ.get("SAFEPAIR_LAB_SEED", random.SystemRandom().randrange(1 << 32)))
    print(f"{name}: SAFEPAIR_LAB_SEED={seed}", flush=True)
    return random.Random(seed)
