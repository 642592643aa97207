#!/usr/bin/env python3
"""Lists the valid records of a guest's disk image, and holds them against what the guest acknowledged.

read_records.py IMAGE                      one line: valid records, the highest, the first gaps
read_records.py IMAGE --list               every valid number, one per line
read_records.py IMAGE --serial LOG...      exit 1 with the missing numbers when a number acknowledged in a serial log is
                                           not in the image; exit 2 when there is nothing to compare
read_records.py IMAGE --acknowledged FILE  the same with a file of one number per line
"""
import argparse
import json
import os
import re
import sys
import zlib

BLOCK = 4096
HEAD = 64
CHUNK = 1024 * BLOCK
RECORD = re.compile(rb"record (\d+) ([0-9a-f]{8})\n")
ACKNOWLEDGED = re.compile(rb"^ACK (\d+)\r?$", re.MULTILINE)


def data_ranges(fd, size):
    """The parts of a file that are not holes."""
    position = 0
    while position < size:
        try:
            start = os.lseek(fd, position, os.SEEK_DATA)
        except OSError:
            return
        end = os.lseek(fd, start, os.SEEK_HOLE)
        yield start // BLOCK * BLOCK, min(size, (end + BLOCK - 1) // BLOCK * BLOCK)
        position = end


def is_record(number, block):
    match = RECORD.match(block)
    if not match or int(match.group(1)) != number:
        return False
    checksum = zlib.crc32(block[HEAD:], zlib.crc32(b"record %d" % number))
    return int(match.group(2), 16) == checksum


def read_records(path):
    """The set of numbers whose record is whole and in its place."""
    found = set()
    fd = os.open(path, os.O_RDONLY)
    try:
        for start, end in data_ranges(fd, os.fstat(fd).st_size):
            for at in range(start, end, CHUNK):
                chunk = os.pread(fd, min(CHUNK, end - at), at)
                for offset in range(0, len(chunk) - BLOCK + 1, BLOCK):
                    number = (at + offset) // BLOCK
                    if number and chunk.startswith(b"record ", offset):
                        if is_record(number, chunk[offset:offset + BLOCK]):
                            found.add(number)
    finally:
        os.close(fd)
    return found


def acknowledged_in(path):
    """Only whole lines count: a line cut off by the guest's end says less than it seems to (ACK 12 of ACK 123)."""
    with open(path, "rb") as stream:
        text = stream.read()
    whole = text[:text.rfind(b"\n") + 1]
    return {int(number) for number in ACKNOWLEDGED.findall(whole)}


def ranges(numbers):
    """[1, 2, 3, 7] as "1-3 7"."""
    parts = []
    for number in sorted(numbers):
        if parts and parts[-1][1] + 1 == number:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    return " ".join(f"{a}" if a == b else f"{a}-{b}" for a, b in parts)


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("image")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--json", action="store_true", help="the result as one JSON object")
    parser.add_argument("--serial", nargs="+", default=[])
    parser.add_argument("--acknowledged", nargs="+", default=[])
    arguments = parser.parse_args()
    found = read_records(arguments.image)
    if arguments.list:
        print("\n".join(str(number) for number in sorted(found)))
        return 0
    highest = max(found, default=0)
    gaps = set(range(1, highest + 1)) - found
    promised = set()
    for path in arguments.serial:
        promised |= acknowledged_in(path)
    for path in arguments.acknowledged:
        with open(path, encoding="ascii") as stream:
            promised |= {int(line) for line in stream if line.strip()}
    missing = promised - found
    if arguments.json:
        print(json.dumps({"records": len(found), "highest": highest, "gaps": sorted(gaps)[:100],
                          "acknowledged": len(promised), "missing": sorted(missing)[:1000]}))
    else:
        print(f"{len(found)} valid records, highest {highest}, {len(gaps)} gaps {ranges(gaps)[:200]}".rstrip())
    if not arguments.serial and not arguments.acknowledged:
        return 0
    if not promised:
        print("nothing was acknowledged: nothing to compare", file=sys.stderr)
        return 2
    if not arguments.json:
        print(f"{len(promised)} acknowledged, {len(missing)} of them missing")
    if missing:
        print(f"missing: {ranges(missing)[:2000]}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
