#!/usr/bin/env python3
"""The write path beside the same job on the plain folder, interleaved on one machine in one run; the median of the rounds.

bench.py --build build/dev [--rounds 3] [--seconds 5] [--job PART_OF_A_NAME]

Both nodes share this machine: its cores, its disk. The replicated folder is PRIM Ready / SECOND Ready throughout, and both
copies are compared afterwards; otherwise the run is void and says so.
"""
import argparse
import json
import os
import platform
import shlex
import statistics
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "integration"))
# pylint: disable=wrong-import-position
from checks import transitions  # noqa: E402
from configuration import Module  # noqa: E402
from harness import end_on_signals, missing  # noqa: E402
from lab import Lab  # noqa: E402
from namespaces import LabError  # noqa: E402

FILE_BYTES = 256 << 20

# name, fio options
JOBS = (
    ("4 KiB random write, 1 writer, O_DIRECT", "--rw=randwrite --bs=4k --direct=1 --numjobs=1"),
    ("4 KiB random write, 16 writers, O_DIRECT", "--rw=randwrite --bs=4k --direct=1 --numjobs=16"),
    ("4 KiB random write, 1 writer, buffered", "--rw=randwrite --bs=4k --direct=0 --numjobs=1"),
    ("4 KiB random write, 16 writers, buffered", "--rw=randwrite --bs=4k --direct=0 --numjobs=16"),
    ("4 KiB write + fdatasync, 1 writer", "--rw=randwrite --bs=4k --direct=0 --fdatasync=1 --numjobs=1"),
    ("1 MiB sequential write, O_DIRECT", "--rw=write --bs=1m --direct=1 --numjobs=1"),
    ("1 MiB sequential write, buffered", "--rw=write --bs=1m --direct=0 --numjobs=1"),
)
FOLDERS = (("plain", "/run/node/plain"), ("replicated", "/srv/vm1"))


def fio(node, folder, options, seconds):
    """Operations per second and bytes per second of one job."""
    command = ["fio", "--name=job", "--ioengine=psync", f"--filename={folder}/data", f"--size={FILE_BYTES}", "--overwrite=1",
               "--randrepeat=1", "--time_based", f"--runtime={seconds}", "--group_reporting", "--thread",
               "--output-format=json"] + options.split()
    output = node.run(*command, timeout=seconds * 20 + 120)
    # Notes of fio may precede the object.
    result = json.loads(output[output.index("{"):])["jobs"][0]["write"]
    return result["iops"], result["bw_bytes"]


def measure(node, jobs, rounds, seconds, say):
    results = {(name, where): [] for name, _ in jobs for where, _ in FOLDERS}
    for turn in range(rounds):
        for name, options in jobs:
            for where, folder in FOLDERS:
                iops, rate = fio(node, folder, options, seconds)
                results[name, where].append((iops, rate))
                say(f"  round {turn + 1}: {name}: {where} {iops:.0f}/s")
    return results


def table(jobs, results):
    lines = [f"{'job':<42} {'plain':>12} {'replicated':>12} {'share':>7}", "-" * 76]
    for name, options in jobs:
        streaming = "--bs=1m" in options
        column = 1 if streaming else 0
        plain, ours = (statistics.median(value[column] for value in results[name, where]) for where, _ in FOLDERS)
        unit = (lambda value: f"{value / 1e6:.0f} MB/s") if streaming else (lambda value: f"{value:.0f} /s")
        lines.append(f"{name:<42} {unit(plain):>12} {unit(ours):>12} {ours / plain:>6.1%}")
    return "\n".join(lines)


def prepare(lab):
    lab.configure(modules=[Module("vm1", kind="idle")], timeout="5s").start()
    (lab.node1.directory / "plain").mkdir()
    lab.pair()
    for _, folder in FOLDERS:
        # Laid out before it is measured: no job pays for the allocation of blocks.
        lab.node1.run("fio", "--name=lay-out", f"--filename={folder}/data", f"--size={FILE_BYTES}", "--rw=write", "--bs=1m",
                      "--end_fsync=1", timeout=300)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--job", default="", help="only jobs with this in their name")
    arguments = parser.parse_args()
    reason = missing()
    if reason:
        print(f"SKIPPED: {reason}")
        return 0
    end_on_signals()
    jobs = [job for job in JOBS if arguments.job in job[0]]
    with Lab(arguments.build, "bench") as lab:
        prepare(lab)
        before = [transitions(node) for node in (lab.node1, lab.node2)]
        print(f"{os.cpu_count()} cores, {platform.release()}, both nodes on this machine; {arguments.rounds} rounds of "
              f"{arguments.seconds} s, {time.strftime('%Y-%m-%d')}", flush=True)
        results = measure(lab.node1, jobs, arguments.rounds, arguments.seconds,
                          lambda line: print(line, file=sys.stderr, flush=True))
        if before != [transitions(node) for node in (lab.node1, lab.node2)]:
            raise LabError("void: a node changed its state during the run")
        lab.wait_for("node1 PRIM Ready", "node2 SECOND Ready")
        lab.compare()
        print(table(jobs, results))
        print("both copies are identical afterwards")
    print(f"again: ./dev bench {shlex.join(sys.argv[3:])}".rstrip())
    return 0


if __name__ == "__main__":
    sys.exit(main())
