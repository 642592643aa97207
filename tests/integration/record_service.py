#!/usr/bin/env python3
"""The service of the integration tests. Called by the agent as `record_service.py start|stop|force` with FOLDER set.

One process appends numbered records to FOLDER/records with an fsync each, and only then writes the number to a log outside
the replicated folder. Another one does nothing but note that it executes. Both logs carry the boot-time clock, which all
nodes of a lab share.
"""
import os
import signal
import sys
import time
from pathlib import Path

RECORD_SIZE = 64
NODE_DIRECTORY = Path("/run/node")


def now():
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def name_of_node():
    return os.uname().nodename


def encode(number, node, at):
    return f"{number:012d} {node} {at}".ljust(RECORD_SIZE - 1).encode() + b"\n"


def decode(block):
    """(number, node, time), or None when the block is no whole record."""
    fields = block.split()
    if len(block) != RECORD_SIZE or not block.endswith(b"\n") or len(fields) != 3:
        return None
    try:
        return int(fields[0]), fields[1].decode(), int(fields[2])
    except ValueError:
        return None


def read_records(path):
    """The whole records of a file, as a set of (number, node, time)."""
    content = Path(path).read_bytes()
    found = set()
    for at in range(0, len(content), RECORD_SIZE):
        record = decode(content[at:at + RECORD_SIZE])
        if record and record[0] == at // RECORD_SIZE + 1:
            found.add(record)
    return found


def read_acknowledged(path):
    """What the service was told is safe: the same triples, in the order of their acknowledgement."""
    if not Path(path).exists():
        return []
    triples = []
    for line in Path(path).read_text().splitlines(keepends=True):
        fields = line.split()
        if line.endswith("\n") and len(fields) == 3:
            triples.append((int(fields[0]), fields[1], int(fields[2])))
    return triples


class Paths:
    def __init__(self, folder):
        module = folder.name
        self.records = folder / "records"
        self.acknowledged = NODE_DIRECTORY / "service" / f"{module}.acknowledged"
        self.ticks = NODE_DIRECTORY / "service" / f"{module}.ticks"
        self.paused = NODE_DIRECTORY / "service" / f"{module}.paused"
        self.errors = NODE_DIRECTORY / "service" / f"{module}.errors"
        self.pids = Path("/run") / f"record-service-{module}.pids"


def write_records(paths):
    stop = []
    signal.signal(signal.SIGTERM, lambda *_: stop.append(True))
    node = name_of_node()
    try:
        file = os.open(paths.records, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        number = os.fstat(file).st_size // RECORD_SIZE
        # Whatever an interrupted write left behind the last whole record is written over.
        while number and decode(os.pread(file, RECORD_SIZE, (number - 1) * RECORD_SIZE)) is None:
            number -= 1
        with open(paths.acknowledged, "a", buffering=1, encoding="ascii") as acknowledged:
            while not stop:
                if paths.paused.exists():
                    time.sleep(0.01)
                    continue
                at = now()
                os.pwrite(file, encode(number + 1, node, at), number * RECORD_SIZE)
                os.fsync(file)
                number += 1
                acknowledged.write(f"{number} {node} {at}\n")
                time.sleep(0.01)
    except OSError as error:
        with open(paths.errors, "a", encoding="utf-8") as errors:
            errors.write(f"{now()} {error}\n")
        sys.exit(1)


def tick(paths):
    with open(paths.ticks, "a", buffering=1, encoding="ascii") as ticks:
        while True:
            ticks.write(f"{now()} {name_of_node()}\n")
            time.sleep(0.005)


def start_process(body, paths):
    pid = os.fork()
    if pid:
        return pid
    # Nothing of the caller's: an inherited pipe would keep the agent waiting for the end of our output.
    null = os.open("/dev/null", os.O_RDWR)
    for descriptor in range(3):
        os.dup2(null, descriptor)
    os.chdir("/")
    body(paths)
    os._exit(0)


def is_alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def stop_processes(paths, number):
    if not paths.pids.exists():
        return
    writer, ticker = [int(word) for word in paths.pids.read_text().split()]
    for pid, how in ((writer, number), (ticker, signal.SIGKILL)):
        try:
            os.kill(pid, how)
        except ProcessLookupError:
            pass
    while is_alive(writer) or is_alive(ticker):
        time.sleep(0.01)
    paths.pids.unlink()


def main():
    if os.environ.pop("LD_PRELOAD", None):
        # A false clock is meant for the agent alone.
        os.execv(sys.executable, [sys.executable] + sys.argv)
    folder = Path(os.environ["FOLDER"])
    paths = Paths(folder)
    word = sys.argv[-1]
    paths.acknowledged.parent.mkdir(exist_ok=True)
    if word == "start":
        stop_processes(paths, signal.SIGKILL)
        print(f"records of {folder}: {paths.records.stat().st_size // RECORD_SIZE if paths.records.exists() else 0}")
        sys.stdout.flush()
        pids = [start_process(write_records, paths), start_process(tick, paths)]
        paths.pids.write_text(" ".join(str(pid) for pid in pids))
    elif word in ("stop", "force"):
        stop_processes(paths, signal.SIGTERM if word == "stop" else signal.SIGKILL)
    else:
        sys.exit(f"what is {word}?")


if __name__ == "__main__":
    main()
