#!/usr/bin/env python3
"""The main job, end to end: a real guest survives the loss of its node, and no record that it was told is safe is lost.

demo.py --build build/dev [--keep] [--unacknowledged] | --clean
"""
import argparse
import json
import os
import signal
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
# pylint: disable=wrong-import-position
import folders  # noqa: E402
from configuration import Module  # noqa: E402
from guests import SerialRecorder, build_guest, check_image, compare_while_held, put_guest  # noqa: E402
from harness import end_on_signals, missing  # noqa: E402
from lab import Lab, nanoseconds  # noqa: E402
from namespaces import LabError, remove_tree, wait_until  # noqa: E402

MODULE = "vm1"


class RecordsLost(LabError):
    pass


def mebibytes(count):
    return f"{count / (1 << 20):.1f} MiB"


class Demo:
    def __init__(self, lab, say=print):
        self.lab = lab
        self.say = say
        self.recorder = None
        self.summary = []
        self.step_number = 0

    def step(self, text):
        self.step_number += 1
        self.say(f"\n=== {self.step_number}. {text}")

    def table(self, node):
        self.say(f"{node.name}# safectl status")
        for line in node.safectl("status", quiet=True).out.splitlines():
            self.say(f"  {line}")

    def command(self, node, *arguments, check=True):
        self.say(f"{node.name}# safectl {' '.join(arguments)}")
        answer = node.safectl(*arguments, check=check, quiet=True)
        for line in (answer.out + answer.err).splitlines():
            self.say(f"  {line}")
        return answer

    def judge(self, node, when):
        promised, found, lost = check_image(self.recorder, node, MODULE)
        self.say(f"  {when}: {promised} records acknowledged on the serial line, {found} of them in {node.name}'s disk image")
        self.summary.append(f"records {when:<28} {promised} acknowledged, {found} found, {len(lost)} lost")
        if lost:
            numbers = sorted(lost)
            raise RecordsLost(f"{len(lost)} acknowledged records are lost on {node.name}: {numbers[0]} to {numbers[-1]}")
        if not promised:
            raise LabError("the guest acknowledged nothing, so nothing was tested")

    def run(self):
        lab = self.lab
        self.step("Two nodes, two networks; a VM (kernel, initramfs, disk, domain XML) in /srv/vm1 of node1")
        lab.configure(modules=[Module(MODULE, kind="vm")]).make()
        put_guest(lab, lab.node1, MODULE)
        self.recorder = SerialRecorder(lab, MODULE)
        for node in lab.nodes.values():
            node.start_agent()
        self.table(lab.node1)
        self.begin()
        self.fail_over()
        self.come_back()
        self.swap()
        self.compare()

    def begin(self):
        lab = self.lab
        self.step("node1 has the data: it leads. node2 follows, and gets a full copy while the guest writes")
        self.command(lab.node1, "as-primary", MODULE)
        self.command(lab.node1, "start", MODULE, "--node", "node2", check=False)
        lab.wait_for("node1 PRIM Ready", "node2 SECOND Ready", module=MODULE, timeout=180)
        self.table(lab.node1)
        self.recorder.wait_for_records("node1", 200)

    def fail_over(self):
        lab = self.lab
        self.step("node1 loses its power: every process and every link of it, at once")
        killed = lab.node1.power_off()
        self.say("  (all processes of node1 killed, all its cables out)")
        lab.wait_for("node2 ALONE Ready", module=MODULE, timeout=60)
        # Before the guest has booted there: nothing but what node1 wrote is in the image.
        self.judge(lab.node2, "at failover")
        self.table(lab.node2)
        wait_until(lambda: self.recorder.first("node2", "ACK ", killed), 120, "the guest on node2 acknowledges a record")
        first = self.recorder.first("node2", "ACK ", killed)
        moments = {}
        for event in lab.node2.events(MODULE):
            if event.get("kind") == "transition" and nanoseconds(event["time"]) > killed:
                moments.setdefault(event["to"], nanoseconds(event["time"]))
        detected, promoted = moments["ALONE Transient"], moments["ALONE Ready"]
        spans = [(detected - killed) / 1e9, (promoted - detected) / 1e9, (first - promoted) / 1e9]
        self.summary.append(f"failover                             {sum(spans):.1f} s = detection {spans[0]:.1f} s "
                            f"+ promotion {spans[1]:.1f} s + guest boot {spans[2]:.1f} s")
        self.judge(lab.node2, "after the guest's boot")

    def come_back(self):
        lab = self.lab
        self.recorder.wait_for_records("node2", 200)
        self.step("node1 gets its power back, resynchronises what differs, and becomes SECOND")
        lab.node1.power_on()
        lab.node1.start_agent()
        # Its own boot setting starts the module as well; asking for it again does no harm.
        self.command(lab.node2, "start", MODULE, "--node", "node1", check=False)
        lab.wait_for("node2 PRIM Ready", "node1 SECOND Ready", module=MODULE, timeout=180)
        self.table(lab.node2)
        row = lab.node2.row(MODULE)
        copied, changed = int(row["last_resync_copied_bytes"]), int(row["last_resync_changed_bytes"])
        self.summary.append(f"resynchronisation                    {mebibytes(copied)} copied, {mebibytes(changed)} changed, "
                            f"of {mebibytes(folder_bytes(lab.node2.data(MODULE)))} in the folder")

    def swap(self):
        lab = self.lab
        self.step("swap moves the VM back to node1")
        self.command(lab.node2, "swap", MODULE)
        lab.wait_for("node1 PRIM Ready", "node2 SECOND Ready", module=MODULE, timeout=180)
        self.table(lab.node1)
        self.recorder.wait_for_records("node1", 50)
        self.judge(lab.node1, "after swap, on the new PRIM")
        self.judge(lab.node2, "after swap, on the SECOND")

    def compare(self):
        self.step("The guest is held for a moment, and both copies of the folder are compared")
        compare_while_held(self.lab, MODULE)
        size = folder_bytes(self.lab.node1.data(MODULE))
        self.say(f"  identical: {mebibytes(size)}, every byte, name, time, owner and attribute")
        self.summary.append(f"both copies                          identical ({mebibytes(size)})")

    def print_summary(self):
        self.say("\n=== Summary")
        for line in self.summary:
            self.say(f"  {line}")


def folder_bytes(folder):
    return sum(entry.get("size", 0) for entry in folders.read_tree(folder).values())


def state_file(build):
    return Path(build).resolve().parent / "demo" / "running.json"


def start_ticks(pid):
    """Tells a process from a later one of the same id."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[19]
    except OSError:
        return None


def leave_running(lab, build):
    """Writes down what runs, and how it is used and ended."""
    pids = [lab.hub.pid]
    script = ["#!/bin/sh", "# on NODE COMMAND...: runs a command on a node of the demo.", 'case "$1" in']
    for name, node in lab.nodes.items():
        pids += [node.holder.process.pid, node.holder.pid]
        enter = " ".join(node.holder.command([])[4:])
        script.append(f"{name}) shift; exec env PATH={lab.build}/cli:$PATH {enter} \"$@\" ;;")
    script += ['*) echo "usage: on node1|node2 COMMAND..." >&2; exit 64 ;;', "esac"]
    on = lab.directory / "on"
    on.write_text("\n".join(script) + "\n")
    on.chmod(0o755)
    state_file(build).write_text(json.dumps({
        "processes": [[pid, start_ticks(pid)] for pid in pids],
        "cgroups": [str(node.cgroup.path) for node in lab.nodes.values() if node.cgroup.path]}))
    lab.closed = True
    on = os.path.relpath(on)
    print(f"""
The pair is still running. Try:
  {on} node1 safectl status --watch
  {on} node1 safectl swap vm1
  {on} node2 safectl log vm1 -f
  tail -f {os.path.relpath(lab.node1.directory)}/serial/vm1.log       the guest's serial line
  kill -9 {lab.node2.holder.pid}{' ' * 30}node2 loses its power
End it with:
  ./dev demo --clean""")


def clean(build):
    """Ends what --keep left; only processes that are still the ones written down."""
    file = state_file(build)
    if not file.exists():
        print("no demo is running")
        return 0
    state = json.loads(file.read_text())
    for pid, ticks in reversed(state["processes"]):
        if ticks is not None and start_ticks(pid) == ticks:
            os.kill(pid, signal.SIGKILL)
    wait_until(lambda: all(start_ticks(pid) != ticks for pid, ticks in state["processes"]), 30, "the demo's processes are gone")
    for cgroup in state["cgroups"]:
        for directory, _, _ in os.walk(cgroup, topdown=False):
            os.rmdir(directory)
    remove_tree(file.parent)
    print("the demo is gone")
    return 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", required=True)
    parser.add_argument("--directory", help="where the nodes' disks are made")
    parser.add_argument("--keep", action="store_true", help="leave the pair running")
    parser.add_argument("--unacknowledged", action="store_true", help="with an agent that answers before its peer has the data")
    parser.add_argument("--clean", action="store_true", help="end what --keep left")
    arguments = parser.parse_args()
    if arguments.clean:
        return clean(arguments.build)
    reason = missing()
    if reason:
        print(f"demo: {reason}", file=sys.stderr)
        return 1
    if not arguments.directory and state_file(arguments.build).exists():
        print("demo: an earlier one is still running; end it with ./dev demo --clean", file=sys.stderr)
        return 1
    end_on_signals()
    directory = arguments.directory or state_file(arguments.build).parent
    began = time.monotonic()
    print("Making the guest's kernel and initramfs from Debian packages ...", flush=True)
    build_guest(arguments.build)
    with Lab(arguments.build, "demo", directory=directory, keep=arguments.keep) as lab:
        if arguments.unacknowledged:
            lab.configure(agent="safe-agent-unacknowledged")
        demo = Demo(lab, say=lambda line: print(line, flush=True))
        try:
            demo.run()
        except RecordsLost as lost:
            demo.print_summary()
            print(f"\nFAILED: {lost}", flush=True)
            return 1
        demo.recorder.stop()
        demo.print_summary()
        print(f"  whole demo                           {time.monotonic() - began:.0f} s")
        if arguments.keep:
            leave_running(lab, arguments.build)
    return 0


if __name__ == "__main__":
    sys.exit(main())
