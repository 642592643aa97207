#!/usr/bin/env python3
"""A bad cable: carries the frames between two interfaces of this network namespace, later, not at all, or not all of them.

relay.py INTERFACE INTERFACE     reads commands on stdin, one per line, and answers each with "ok":
  delay SECONDS                  each frame arrives that much later, in order
  down | up                      nothing, or everything, passes
  rate BYTES_PER_SECOND          no more than that passes each way; 0: as much as there is
  loss SHARE SEED                that share of the frames is lost, chosen by the seed
"""
import collections
import random
import select
import socket
import sys
import time

SOL_PACKET = 263
PACKET_IGNORE_OUTGOING = 23
PACKET_VNET_HDR = 15
FRAME_MAX = 1 << 17
QUEUE_FRAMES_MAX = 500


class Cable:
    def __init__(self):
        self.delay = 0.0
        self.up = True
        self.rate = 0.0
        self.free_at = {}
        self.loss = 0.0
        self.random = random.Random(0)

    def obey(self, line):
        word, *rest = line.split()
        if word == "delay":
            self.delay = float(rest[0])
        elif word == "rate":
            self.rate = float(rest[0])
        elif word == "loss":
            self.loss = float(rest[0])
            self.random = random.Random(int(rest[1]))
        elif word in ("up", "down"):
            self.up = word == "up"
        else:
            raise ValueError(line)

    def arrival(self, target, size):
        """When a frame of `size` that enters now leaves towards `target`."""
        now = time.monotonic()
        if self.rate <= 0:
            return now + self.delay
        self.free_at[target] = max(now, self.free_at.get(target, now)) + size / self.rate
        return self.free_at[target] + self.delay

    def loses(self):
        return not self.up or (self.loss > 0 and self.random.random() < self.loss)


def open_port(interface):
    # Every protocol. Offloaded frames keep their header, so that a checksum that is still to be made is made at last.
    port = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    port.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
    port.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
    port.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
    port.bind((interface, 0))
    port.setblocking(False)
    return port


def main():
    ports = [open_port(name) for name in sys.argv[1:3]]
    queues = {ports[0]: collections.deque(), ports[1]: collections.deque()}
    cable = Cable()
    print("ready", flush=True)
    while True:
        due = [queue[0][0] for queue in queues.values() if queue]
        patience = max(0.0, min(due) - time.monotonic()) if due else None
        readable, _, _ = select.select(ports + [sys.stdin], [], [], patience)
        for source in readable:
            if source is sys.stdin:
                line = sys.stdin.readline()
                if not line:
                    return
                cable.obey(line)
                print("ok", flush=True)
                continue
            target = ports[1 - ports.index(source)]
            for _ in range(64):
                try:
                    frame = source.recv(FRAME_MAX)
                except BlockingIOError:
                    break
                except OSError:
                    return
                if not cable.loses() and len(queues[target]) < QUEUE_FRAMES_MAX:
                    queues[target].append((cable.arrival(target, len(frame)), frame))
        for target, queue in queues.items():
            while queue and queue[0][0] <= time.monotonic():
                _, frame = queue.popleft()
                try:
                    target.send(frame)
                except OSError:
                    pass


if __name__ == "__main__":
    main()
