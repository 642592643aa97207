#!/usr/bin/env python3
"""Runs one test of a test_*.py file: harness.py --build build/dev FILE NAME

A test is a function test_NAME(lab). It gets a Lab that makes nothing until the test asks for it; the lab is ended and removed
however the test ends. Exit 0: passed. What is missing on this machine is said with "SKIPPED: reason".
"""
import argparse
import importlib.util
import os
import shutil
import signal
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
# pylint: disable=wrong-import-position
from lab import Lab  # noqa: E402


def missing():
    """Why real nodes cannot be made here."""
    if os.geteuid() != 0:
        return "needs root for network namespaces and mounts"
    if not Path("/dev/fuse").exists():
        return "needs /dev/fuse"
    for program in ("nft", "ip", "unshare", "nsenter"):
        if shutil.which(program) is None:
            return f"needs {program}"
    return ""


def end_on_signals():
    def stop(number, _):
        # A second signal must not interrupt the cleaning up.
        for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(one, signal.SIG_IGN)
        raise SystemExit(128 + number)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)


def load(file):
    spec = importlib.util.spec_from_file_location(Path(file).stem, file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", required=True)
    parser.add_argument("--show", action="store_true", help="print every safectl command and its output")
    parser.add_argument("file")
    parser.add_argument("name")
    arguments = parser.parse_args()
    test = getattr(load(HERE / arguments.file), f"test_{arguments.name}")
    reason = missing()
    if reason:
        print(f"SKIPPED: {reason}")
        return 0
    end_on_signals()
    began = time.monotonic()
    show = (lambda line: print(f"{time.monotonic() - began:7.2f} {line}", flush=True)) if arguments.show else None
    with Lab(arguments.build, arguments.name, show=show) as lab:
        test(lab)
    print(f"{arguments.name}: passed in {time.monotonic() - began:.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
