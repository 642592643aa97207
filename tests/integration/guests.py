"""Real guests for a lab: the files of the VM, its host's configuration, and what it says on its serial line."""
import importlib.util
import os
import re
import shutil
import signal
import subprocess
import threading
import time
import uuid
from pathlib import Path

from namespaces import LabError, run

SUPPORT = Path(__file__).resolve().parent.parent / "support" / "guest"
DISK_BYTES = 256 << 20
EMBED_CONFIGURATION = """\
stdio_handler = "file"
cgroup_controllers = []
namespaces = []
security_driver = "none"
user = "root"
group = "root"
dynamic_ownership = 0
"""
ACKNOWLEDGED = re.compile(r"^ACK (\d+)\s*$")
BOOTED = re.compile(r"^BOOT last=(\d+)\s*$")


def load_reader():
    spec = importlib.util.spec_from_file_location("read_records", SUPPORT / "read_records.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


reader = load_reader()


def build_guest(build):
    """Kernel and initramfs; made once, kept beside the build."""
    target = Path(build).parent / "guest"
    try:
        run(["bash", SUPPORT / "build_guest.sh", target], timeout=600)
    except LabError as error:
        if "apt" not in str(error):
            raise
        # A machine whose package lists were never fetched.
        run(["apt-get", "-qq", "update"], timeout=600)
        run(["bash", SUPPORT / "build_guest.sh", target], timeout=600)
    return target


def put_guest(lab, node, module="vm1", records_per_second=80):
    """The VM's files into the module's folder on `node`; both hosts are made ready for it."""
    guest = build_guest(lab.build)
    described = lab.module(module)
    folder = node.outside(described.folder)
    for name in ("vmlinuz", "initramfs.img"):
        shutil.copyfile(guest / name, folder / name)
    (folder / "disk.img").touch()
    os.truncate(folder / "disk.img", DISK_BYTES)
    text = (SUPPORT / "domain.xml.in").read_text()
    for key, value in {"NAME": module, "UUID": str(uuid.uuid4()), "FOLDER": described.folder,
                       "SERIAL": f"/run/node/serial/{module}.log",
                       "CMDLINE": f"records_per_second={records_per_second}"}.items():
        text = text.replace(f"@{key}@", value)
    (folder / f"{module}.xml").write_text(text)
    for host in lab.nodes.values():
        (host.directory / "embed" / "etc").mkdir(parents=True, exist_ok=True)
        (host.directory / "embed" / "etc" / "qemu.conf").write_text(EMBED_CONFIGURATION)


class SerialRecorder:
    """Reads the guests' serial lines of both nodes from outside, with the time at which each line came."""

    def __init__(self, lab, module="vm1"):
        self.module = module
        self.lines = []
        self.ended = threading.Event()
        self.files = {name: node.directory / "serial" / f"{module}.log" for name, node in lab.nodes.items()}
        self.thread = threading.Thread(target=self.follow, daemon=True)
        self.thread.start()

    def follow(self):
        offsets = {name: 0 for name in self.files}
        while not self.ended.is_set():
            for name, file in self.files.items():
                if not file.exists():
                    continue
                with open(file, "rb") as stream:
                    stream.seek(offsets[name])
                    text = stream.read()
                # What is cut off by the end of its node is no line.
                whole = text[:text.rfind(b"\n") + 1]
                offsets[name] += len(whole)
                at = time.clock_gettime_ns(time.CLOCK_REALTIME)
                self.lines += [(at, name, line.strip()) for line in whole.decode(errors="replace").splitlines()]
            time.sleep(0.02)

    def stop(self):
        self.ended.set()
        self.thread.join()

    def acknowledged(self, node=None):
        """Numbers of the records that the guest was told are on its disk."""
        found = set()
        for _, name, line in list(self.lines):
            match = ACKNOWLEDGED.match(line)
            if match and node in (None, name):
                found.add(int(match.group(1)))
        return found

    def lost_at_boot(self):
        """Numbers that were acknowledged before a guest booted and that it did not find on its disk. The image alone would not
        show them for long: the guest writes the same numbers again."""
        lost = set()
        highest = 0
        for _, _, line in list(self.lines):
            acknowledged = ACKNOWLEDGED.match(line)
            booted = BOOTED.match(line)
            if acknowledged:
                highest = max(highest, int(acknowledged.group(1)))
            elif booted:
                lost |= set(range(int(booted.group(1)) + 1, highest + 1))
        return lost

    def first(self, node, beginning, after):
        """Time of the first line of `node` that begins like that after a moment; None while there is none."""
        return next((at for at, name, line in list(self.lines)
                     if name == node and at > after and line.startswith(beginning)), None)

    def wait_for_records(self, node, more, timeout=120):
        before = len(self.acknowledged(node))
        deadline = time.monotonic() + timeout
        while len(self.acknowledged(node)) < before + more:
            if time.monotonic() > deadline:
                last = [line for _, name, line in self.lines if name == node][-5:]
                raise LabError(f"the guest on {node} acknowledged only {len(self.acknowledged(node)) - before} of {more} records "
                               f"in {timeout} s; its last lines: {last}")
            time.sleep(0.05)


def records_on(node, module="vm1"):
    """Valid records in the disk image as it lies on the node's own disk, past the mount."""
    return reader.read_records(str(node.data(module) / "disk.img"))


def check_image(recorder, node, module="vm1"):
    """(acknowledged, found, missing) of one node's image, with what a guest missed when it booted."""
    promised = recorder.acknowledged()
    missing = (promised - records_on(node, module)) | recorder.lost_at_boot()
    return len(promised), len(promised) - len(missing), missing


def compare_while_held(lab, module="vm1"):
    """Compares both copies with the emulators stopped, so that nothing is written meanwhile."""
    processes = [pid for node in lab.nodes.values() for pid in guest_processes(node)]
    for pid in processes:
        os.kill(pid, signal.SIGSTOP)
    try:
        lab.compare(module)
    finally:
        for pid in processes:
            os.kill(pid, signal.SIGCONT)


def guest_processes(node):
    """QEMU processes on a node, by their outer process ids."""
    if not node.on:
        return []
    listed = subprocess.run(["ps", "-eo", "pid=,comm="], stdout=subprocess.PIPE, text=True, check=True).stdout
    namespace = os.readlink(f"/proc/{node.holder.pid}/ns/pid")
    found = []
    for line in listed.splitlines():
        pid, _, command = line.strip().partition(" ")
        try:
            if command.startswith("qemu-system") and os.readlink(f"/proc/{pid}/ns/pid") == namespace:
                found.append(int(pid))
        except OSError:
            pass
    return found
