"""Namespaces of one run: a hub that is the switches, and one holder per node that is the node while it is powered.

Nothing gets a name in the host's network namespace, and every process dies with the holder it belongs to, so ending the
holders ends everything.
"""
import ctypes
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

CGROUP_MOUNTS = ("/sys/fs/cgroup", "/sys/fs/cgroup/unified")
PR_SET_PDEATHSIG = 1

# The first process of a node: it reaps whatever is left to it, and takes the node with it when it dies.
REAPER = """
import os, signal
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
print("ready", flush=True)
while True:
    signal.sigwait({signal.SIGCHLD})
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass
"""


class LabError(Exception):
    pass


def port_of(node, network):
    """Name of the hub's end of a cable; interface names have at most 15 characters."""
    return f"{node.replace('node', 'n')}-{network}"[:15]


def run(command, check=True, timeout=60, **options):
    """Runs a command of the lab itself; its output belongs into the error, not on the screen."""
    done = subprocess.run([str(part) for part in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          timeout=timeout, check=False, **options)
    if check and done.returncode != 0:
        raise LabError(f"{' '.join(str(part) for part in command)}: exit {done.returncode}: {done.stdout.strip()}")
    return done


def die_with_parent():
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def child_of(pid, timeout=10):
    """The process that a wrapper (unshare, nsenter) forked."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        try:
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        except FileNotFoundError:
            break
        if children:
            return int(children[0])
        time.sleep(0.005)
    raise LabError(f"process {pid} has no child")


def is_alive(pid):
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


def wait_until(condition, timeout, what, pause=0.02):
    deadline = time.monotonic() + timeout
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > deadline:
            raise LabError(f"after {timeout} s still not: {what}")
        time.sleep(pause)


def cgroup_mount():
    """Where cgroup v2 is mounted and can be used; None otherwise."""
    for line in Path("/proc/self/mounts").read_text().splitlines():
        fields = line.split()
        if fields[2] == "cgroup2" and fields[1] in CGROUP_MOUNTS and "rw" in fields[3].split(","):
            return Path(fields[1])
    return None


class Cgroup:
    """A cgroup of the lab. A node sees it as the root of the hierarchy."""

    def __init__(self, name):
        mount = cgroup_mount()
        self.mount = mount
        self.path = None
        if mount is not None:
            try:
                (mount / name).mkdir()
                self.path = mount / name
            except OSError:
                self.mount = None

    @property
    def procs(self):
        return str(self.path / "cgroup.procs") if self.path else "/dev/null"

    def remove(self):
        if self.path is None:
            return
        kill = self.path / "cgroup.kill"
        if kill.exists():
            kill.write_text("1")
        for _ in range(100):
            for directory, _, _ in os.walk(self.path, topdown=False):
                try:
                    os.rmdir(directory)
                except OSError:
                    pass
            if not self.path.exists():
                break
            time.sleep(0.02)
        self.path = None


class Hub:
    """The switches: one bridge per network, in a network namespace of its own."""

    def __init__(self, bridges, keep=False):
        self.process = subprocess.Popen(
            ["unshare", "--net", "sh", "-c", "echo ready; exec sleep infinity"], stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            preexec_fn=None if keep else die_with_parent, start_new_session=keep, cwd="/")
        self.process.stdout.readline()
        self.pid = self.process.pid
        lines = []
        for bridge in bridges:
            lines += [f"link add br-{bridge} type bridge stp_state 0 forward_delay 0 mcast_snooping 0",
                      f"link set br-{bridge} up"]
        self.ip(lines)
        self.nft("add table bridge lab",
                 "add chain bridge lab forward { type filter hook forward priority 0 ; }")

    def ip(self, lines):
        run(["nsenter", "-t", self.pid, "-n", "ip", "-batch", "-"], input="\n".join(lines) + "\n")

    def nft(self, *lines):
        run(["nsenter", "-t", self.pid, "-n", "nft", "-f", "-"], input="\n".join(lines) + "\n")

    @staticmethod
    def port(node, network):
        return port_of(node, network)

    def popen(self, command, **options):
        """A process in the hub's network namespace."""
        return subprocess.Popen(["nsenter", "-t", str(self.pid), "-n"] + [str(part) for part in command],
                                preexec_fn=die_with_parent, cwd="/", **options)

    def plug(self, node, pid, network, address, prefix=24, bridged=True):
        """A cable from the switch of `network` to the node whose first process is `pid`; not bridged: its end is left alone."""
        port = port_of(node, network)
        lines = [f"link add {port} type veth peer name {network} netns {pid}"]
        lines += [f"link set {port} master br-{network}"] if bridged else [f"link set {port} promisc on"]
        self.ip(lines + [f"link set {port} up"])
        run(["nsenter", "-t", pid, "-n", "ip", "-batch", "-"], input="\n".join([
            f"addr add {address}/{prefix} dev {network}", f"link set {network} up", "link set lo up"]) + "\n")

    def unplug(self, node, networks):
        """All cables of a node at once."""
        self.ip([f"link set {port_of(node, network)} down" for network in networks])

    def remove_ports(self, node, networks):
        """The kernel takes its time with the network namespace of a node that is gone; its cables must not wait for that."""
        run(["nsenter", "-t", self.pid, "-n", "ip", "-force", "-batch", "-"], check=False,
            input="".join(f"link del {port_of(node, network)}\n" for network in networks))

    def set_drops(self, drops):
        """`drops`: (network, from node) whose frames are lost from now on; everything else passes."""
        lines = ["flush chain bridge lab forward"]
        lines += [f'add rule bridge lab forward iifname "{port_of(node, network)}" drop' for network, node in sorted(drops)]
        self.nft(*lines)

    def close(self):
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


class Holder:
    """One power-on of a node: namespaces, mounts, first process. It ends when killed, and everything in it."""

    def __init__(self, name, cgroup, setup, keep=False):
        self.cgroup = cgroup
        script = f"set -e\n{setup}\nexec {sys.executable} -c \"$REAPER\"\n"
        command = ["sh", "-c", 'echo $$ >"$0"; exec "$@"', cgroup.procs,
                   "unshare", "--mount", "--pid", "--fork", "--kill-child", "--net", "--ipc", "--uts"]
        command += ["--cgroup"] if cgroup.path else []
        command += ["--mount-proc", "sh", "-c", script]
        environment = dict(os.environ, REAPER=REAPER)
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                        text=True, env=environment, cwd="/",
                                        preexec_fn=None if keep else die_with_parent, start_new_session=keep)
        line = self.process.stdout.readline()
        if line.strip() != "ready":
            self.process.kill()
            raise LabError(f"{name} did not come up: {self.process.stderr.read().strip()}")
        self.pid = child_of(self.process.pid)

    @property
    def root(self):
        """The node's file system as the node sees it."""
        return Path(f"/proc/{self.pid}/root")

    def command(self, arguments):
        """How `arguments` are run inside."""
        inside = ["nsenter", "-t", str(self.pid), "-m", "-p", "-n", "-u", "-i"]
        inside += ["-C"] if self.cgroup.path else []
        return (["sh", "-c", 'echo $$ >"$0"; exec "$@"', self.cgroup.procs] + inside + ["--"] +
                [str(argument) for argument in arguments])

    def kill(self):
        """Returns when nothing of the node exists any more."""
        if self.process is None:
            return
        try:
            os.kill(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        try:
            self.process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()
        self.process.stderr.close()
        self.process = None


def remove_tree(path):
    """Also what the replica made immutable. Only below a scratch directory of the lab."""
    path = Path(path)
    if not path.exists():
        return
    if shutil.which("chattr"):
        subprocess.run(["chattr", "-R", "-f", "-i", str(path)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                       check=False)
    shutil.rmtree(path, ignore_errors=True)
