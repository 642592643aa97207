"""The agent as a program: systemd, configuration, addresses, clocks."""
import os
import signal
import socket
import subprocess
import sys
import time

from checks import check
from configuration import Module
from lab import FAKETIME, nanoseconds
from namespaces import wait_until

ADDRESS = "10.77.1.100"
LISTEN_FOR_ARP = """
import socket, sys
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0806))
s.settimeout(60)
print("ready", flush=True)
wanted = socket.inet_aton(sys.argv[1])
while True:
    frame = s.recv(2048)
    if frame[28:32] == wanted and frame[38:42] == wanted:
        print("announced", flush=True)
        break
"""


class NotifySocket:
    """What systemd gives to a Type=notify service."""

    def __init__(self, node):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        directory = os.open(node.directory, os.O_PATH)
        self.socket.bind(f"/proc/self/fd/{directory}/notify")
        os.close(directory)
        self.socket.settimeout(20)
        self.seen = []

    def wait_for(self, word):
        while not any(word in lines for lines in self.seen):
            self.seen.append(self.socket.recv(4096).decode().splitlines())


def test_notify_socket_watchdog(lab):
    lab.configure(timeout="10s").make()
    notify = NotifySocket(lab.node1)
    lab.node1.spawn_agent(["NOTIFY_SOCKET=/run/node/notify", "WATCHDOG_USEC=3000000"])
    lab.node2.start_agent()
    notify.wait_for("READY=1")
    check(lab.node1.status() is not None, "READY=1 was sent before the agent answered")
    notify.wait_for("WATCHDOG=1")
    lab.pair()
    # A decision loop that does not run pets no watchdog.
    lab.node1.freeze_agent()
    notify.socket.settimeout(0.05)
    time.sleep(0.2)
    try:
        while True:
            notify.socket.recv(4096)
    except TimeoutError:
        pass
    notify.socket.settimeout(1.5)
    try:
        check(not notify.socket.recv(4096), "a stopped agent still pets the watchdog")
    except TimeoutError:
        pass
    lab.node1.thaw_agent()
    notify.socket.settimeout(20)
    notify.seen.clear()
    notify.wait_for("WATCHDOG=1")
    lab.wait_for_any_pair()
    os.kill(lab.node1.agent_pid, signal.SIGTERM)
    notify.wait_for("STOPPING=1")
    check(lab.node1.wait_agent() == 0, "the agent did not end well")
    lab.wait_for("node2 ALONE Ready")
    lab.node1.start_agent()
    lab.wait_for("node2 PRIM Ready", "node1 SECOND Ready")
    lab.finish(archived=True)


def has_address(node):
    return f" {ADDRESS}/" in node.run("ip", "-o", "addr", "show", "dev", "production")


def listen_for_arp(lab):
    listener = lab.track(lab.hub.popen([sys.executable, "-c", LISTEN_FOR_ARP, ADDRESS], stdout=subprocess.PIPE, text=True))
    listener.stdout.readline()
    return listener


def test_addresses_move_with_the_service(lab):
    lines = [f"addresses: [{{address: {ADDRESS}/24, interface: production}}]"]
    lab.configure(modules=[Module("vm1", lines=lines)]).start()
    listener = listen_for_arp(lab)
    lab.pair()
    check(has_address(lab.node1) and not has_address(lab.node2), "the address is not where the service is")
    check(listener.wait(60) == 0, "the address was not announced")
    lab.node1.safectl("swap", "vm1")
    lab.wait_for("node2 PRIM Ready", "node1 SECOND Ready")
    check(has_address(lab.node2) and not has_address(lab.node1), "the address did not move with the service")
    # The agent alone dies: the guard removes the address as well.
    listener = listen_for_arp(lab)
    lab.node2.kill_agent()
    lab.wait_for("node1 ALONE Ready")
    check(has_address(lab.node1) and not has_address(lab.node2), "both nodes have the address, or none")
    check(listener.wait(60) == 0, "the address was not announced after the takeover")
    lab.node2.start_agent()
    lab.wait_for("node1 PRIM Ready", "node2 SECOND Ready")
    lab.compare()
    lab.node2.safectl("stop", "vm1")
    lab.node1.safectl("stop", "vm1")
    check(not has_address(lab.node1), "a stopped module keeps its address")
    lab.finish()


def test_configuration_errors_name_file_line_and_field(lab):
    lab.make()
    node = lab.node1
    cluster = node.directory / "cluster.yaml"
    module = node.directory / "modules" / "vm1.yaml"
    good = {file: file.read_text() for file in (cluster, module)}
    cases = [
        (cluster, good[cluster] + "colour: green\n", "colour"),
        (cluster, good[cluster].replace("timeout: 2s", "timeout: 2"), "timeout"),
        (cluster, good[cluster].replace("10.77.1.1", "10.77.1.777"), "production"),
        (cluster, good[cluster].replace("uses: [heartbeat, replication]", "uses: [heartbeat, telepathy]"), "uses"),
        (module, good[module].replace("folder: /srv/vm1", "folder: srv/vm1"), "folder"),
        (module, good[module] + "durability: sometimes\n", "durability"),
        (module, good[module] + "folder: /srv/vm1\n", "folder"),
        (module, good[module].replace("service:", "sevrice:"), "sevrice"),
        (module, good[module] + "failover: [\n", ""),
    ]
    for file, text, field in cases:
        check(text != good[file], f"the case {field} changes nothing")
        file.write_text(text)
        size = node.log_file.stat().st_size if node.log_file.exists() else 0
        node.spawn_agent()
        code = node.wait_agent(20)
        said = node.log_file.read_text()[size:]
        check(code == 78, f"{file.name} with a wrong {field}: exit {code}, not 78: {said}")
        check(f"{file.name}:" in said and field in said, f"{file.name} with a wrong {field}: it says {said!r}")
        number = said.split(f"{file.name}:")[1].split(":")[0].strip()
        check(number.isdigit(), f"{file.name} with a wrong {field}: no line number in {said!r}")
        file.write_text(good[file])
    node.start_agent()
    lab.node2.start_agent()
    lab.pair()
    lab.finish()


def test_settings_that_differ_are_refused(lab):
    lab.make()
    module = lab.node2.directory / "modules" / "vm1.yaml"
    good = module.read_text()
    module.write_text(good + "failover: off\n")
    lab.node1.start_agent()
    lab.node2.start_agent()
    lab.node1.safectl("as-primary", "vm1")
    lab.node2.safectl("start", "vm1", check=False)
    lab.wait_for("node2 WAIT NotReady")
    check(lab.node2.row()["reason"] == "settings-differ", f"{lab.node2.row()}")
    lab.node2.stop_agent()
    module.write_text(good)
    lab.node2.start_agent()
    lab.node2.safectl("start", "vm1", check=False)
    lab.wait_for("node1 PRIM Ready", "node2 SECOND Ready")
    lab.finish()


def test_clock_jump_changes_nothing(lab):
    """The wall clock of a node jumps, forwards and back by an hour: it decides nothing."""
    if not FAKETIME.exists():
        print("SKIPPED: needs the Debian package faketime")
        return
    lab.make()

    def jump(node, offset):
        # libfaketime reads the file at each call of a clock; a half-written one must not be read.
        file = node.directory / "faketime"
        file.with_suffix(".new").write_text(offset + "\n")
        file.with_suffix(".new").rename(file)

    for node in (lab.node1, lab.node2):
        jump(node, "+0")
        node.start_agent([f"LD_PRELOAD={FAKETIME}", "FAKETIME_TIMESTAMP_FILE=/run/node/faketime", "FAKETIME_NO_CACHE=1",
                          "FAKETIME_DONT_FAKE_MONOTONIC=1", "DONT_FAKE_MONOTONIC=1"])
    lab.pair()
    for node in (lab.node1, lab.node2):
        for offset in ("+3600", "-3600", "+0"):
            jump(node, offset)
            lab.stays("node1 PRIM Ready", "node2 SECOND Ready", seconds=3)
            lab.wait_for_records(lab.node1)
            if node is lab.node1 and offset == "+3600":
                ahead = nanoseconds(lab.node1.status()["time"]) - time.time_ns()
                check(ahead > 3000 * 10**9, f"the clock of node1 did not jump (by {ahead} ns), so nothing was tested")
    check(not lab.node2.acknowledged(), "the second led")
    lab.node1.power_off()
    lab.wait_for("node2 ALONE Ready")
    lab.wait_for_records(lab.node2)
    lab.node1.power_on()
    lab.node1.start_agent()
    lab.wait_for("node2 PRIM Ready", "node1 SECOND Ready")
    lab.finish()


def test_agent_takes_a_second_start_for_what_it_is(lab):
    """Another agent with the same directories is refused and harms nothing."""
    lab.start().pair()
    done = subprocess.run(lab.node1.holder.command(lab.node1.agent_command()), stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, timeout=60, check=False)
    check(done.returncode != 0, f"a second agent runs: {done.stdout}")
    lab.stays("node1 PRIM Ready", "node2 SECOND Ready", seconds=3)
    wait_until(lambda: lab.node1.status() is not None, 5, "the first agent still answers")
    lab.wait_for_records(lab.node1)
    lab.finish()
