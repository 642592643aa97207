"""Modules with a real guest: QEMU through libvirt, in libvirt's embedded mode and through Debian's libvirtd."""
import os
import re
import subprocess
import sys
import time

from checks import boot_time, check
from configuration import Module
from demo import Demo
from guests import SerialRecorder, check_image, compare_while_held, guest_processes, put_guest
from lab import HERE
from namespaces import is_alive, wait_until

# A libvirt of Debian for each node, with everything it writes on the node's own disk.
LIBVIRTD_SETUP = """\
mkdir -p /run/node/libvirt/lib /run/node/libvirt/etc /run/node/libvirt/cache /run/node/libvirt/log
[ -e /run/node/libvirt/etc/qemu.conf ] || cp -a /etc/libvirt/. /run/node/libvirt/etc/
mount --bind /run/node/libvirt/etc /etc/libvirt
mount --bind /run/node/libvirt/lib /var/lib/libvirt
mount --bind /run/node/libvirt/cache /var/cache/libvirt
mount --bind /run/node/libvirt/log /var/log/libvirt
mkdir -p /var/lib/libvirt/images /var/lib/libvirt/qemu /run/libvirt
chmod 711 /run/node /var/lib/libvirt
"""
LIBVIRTD_CONFIGURATION = """
stdio_handler = "file"
cgroup_controllers = []
security_driver = "none"
"""


def judge(recorder, node):
    promised, _, lost = check_image(recorder, node)
    check(promised, "the guest acknowledged nothing")
    check(not lost, f"{len(lost)} of {promised} acknowledged records are not on {node.name}: {sorted(lost)[:5]}")


def vm_pair(lab, **options):
    lab.configure(timeout="3s", modules=[Module("vm1", kind="vm", **options)]).make()
    put_guest(lab, lab.node1)
    return SerialRecorder(lab)


def start_pair(lab, recorder):
    for node in (lab.node1, lab.node2):
        node.start_agent()
    lab.pair(timeout=120)
    recorder.wait_for_records("node1", 50)


def test_vm_failover(lab):
    Demo(lab, say=lambda line: print(line, flush=True)).run()


def test_vm_agent_killed_alone(lab):
    """The agent dies alone: no QEMU executes on node1 when node2 starts the guest (R4)."""
    recorder = vm_pair(lab)
    start_pair(lab, recorder)
    old = guest_processes(lab.node1)
    check(len(old) == 1, f"QEMU processes on node1: {old}")
    lab.node1.kill_agent()
    wait_until(lambda: guest_processes(lab.node2), 30, "node2 starts the guest")
    check(not is_alive(old[0]), "QEMU still runs on node1 while node2 starts the guest")
    lab.wait_for("node2 ALONE Ready", timeout=60)
    recorder.wait_for_records("node2", 50)
    judge(recorder, lab.node2)
    lab.node1.start_agent()
    lab.wait_for("node2 PRIM Ready", "node1 SECOND Ready", timeout=120)
    judge(recorder, lab.node1)
    compare_while_held(lab)


def test_vm_agent_stopped_alone(lab):
    """The agent hangs: the guest does not execute when node2 starts it, and node1 yields when its agent goes on."""
    recorder = vm_pair(lab)
    start_pair(lab, recorder)
    lab.node1.freeze_agent()
    wait_until(lambda: guest_processes(lab.node2), 30, "node2 starts the guest")
    executing = [pid for pid in guest_processes(lab.node1) if process_state(pid) not in "TZX"]
    check(not executing, "QEMU still executes on node1 while node2 starts the guest")
    lab.wait_for("node2 ALONE Ready", timeout=60)
    recorder.wait_for_records("node2", 50)
    lab.node1.thaw_agent()
    lab.wait_for("node2 PRIM Ready", "node1 SECOND Ready", timeout=120)
    check(not guest_processes(lab.node1), "QEMU is still there on node1")
    judge(recorder, lab.node1)
    judge(recorder, lab.node2)
    compare_while_held(lab)


def process_state(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as stream:
            return stream.read().rsplit(")", 1)[1].split()[0]
    except OSError:
        return "X"


def start_libvirtd(node):
    configuration = node.directory / "libvirt" / "etc" / "qemu.conf"
    text = configuration.read_text()
    if LIBVIRTD_CONFIGURATION not in text:
        configuration.write_text(text + LIBVIRTD_CONFIGURATION)
    log = open(node.directory / "logs" / "libvirtd.log", "a", encoding="utf-8")
    node.lab.track(node.popen("libvirtd", stdout=log, stderr=log))
    log.close()
    wait_until(lambda: subprocess.run(node.holder.command(["virsh", "-c", "qemu:///system", "uri"]), check=False,
                                      stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0,
               30, f"libvirtd answers on {node.name}")


def test_vm_system_libvirtd(lab):
    """Debian's own libvirtd on each node: start, hand-over by save and restore, failover; QEMU runs as libvirt's user."""
    lab.configure(node_setup=LIBVIRTD_SETUP)
    recorder = vm_pair(lab, uri="qemu:///system", normal_stop="save")
    for node in (lab.node1, lab.node2):
        # QEMU's user writes the serial line of the guest, and reaches the folder.
        os.chmod(node.directory / "serial", 0o777)
        start_libvirtd(node)
    start_pair(lab, recorder)
    user = owner_of(guest_processes(lab.node1)[0])
    check(user == "libvirt-qemu", f"QEMU runs as {user}")
    xml = lab.node1.run("virsh", "-c", "qemu:///system", "dumpxml", "vm1")
    check(re.search(r"<name>vm1</name>", xml), "the domain is not registered")

    # A saved guest goes on where it was: it does not boot again.
    at = time.clock_gettime_ns(time.CLOCK_REALTIME)
    lab.node1.safectl("swap", "vm1")
    lab.wait_for("node2 PRIM Ready", "node1 SECOND Ready", timeout=120)
    recorder.wait_for_records("node2", 30)
    check(recorder.first("node2", "BOOT", at) is None, "the guest booted on node2 although it was saved on node1")
    check(not guest_processes(lab.node1), "QEMU still runs on node1")
    judge(recorder, lab.node1)
    judge(recorder, lab.node2)

    lab.node2.power_off()
    lab.wait_for("node1 ALONE Ready", timeout=60)
    recorder.wait_for_records("node1", 30)
    judge(recorder, lab.node1)
    lab.node2.power_on()
    start_libvirtd(lab.node2)
    lab.node2.start_agent()
    lab.wait_for("node1 PRIM Ready", "node2 SECOND Ready", timeout=120)
    judge(recorder, lab.node2)
    compare_while_held(lab)


def owner_of(pid):
    return subprocess.run(["ps", "-o", "user:32=", "-p", str(pid)], stdout=subprocess.PIPE, text=True, check=True).stdout.strip()


def test_vm_changed_memory_survives_failover(lab):
    """A change of the VM's definition through libvirt is in the folder, and the other node starts the VM with it."""
    lab.configure(node_setup=LIBVIRTD_SETUP)
    recorder = vm_pair(lab, uri="qemu:///system")
    for node in (lab.node1, lab.node2):
        os.chmod(node.directory / "serial", 0o777)
        start_libvirtd(node)
    start_pair(lab, recorder)
    lab.node1.run("virsh", "-c", "qemu:///system", "setmaxmem", "vm1", "192M", "--config")
    lab.node1.run("virsh", "-c", "qemu:///system", "setmem", "vm1", "192M", "--config")
    wait_until(lambda: str(192 * 1024) in (lab.node2.data() / "vm1.xml").read_text(), 20,
               "the other copy's domain XML has the new memory")
    lab.node1.power_off()
    lab.wait_for("node2 ALONE Ready", timeout=60)
    recorder.wait_for_records("node2", 20)
    told = lab.node2.run("virsh", "-c", "qemu:///system", "dominfo", "vm1")
    check(f"{192 * 1024} KiB" in told, f"the guest does not have its new memory: {told}")
    lab.node1.power_on()
    start_libvirtd(lab.node1)
    lab.node1.start_agent()
    lab.wait_for("node2 PRIM Ready", "node1 SECOND Ready", timeout=120)
    judge(recorder, lab.node1)
    compare_while_held(lab)


def test_demo_unacknowledged_must_fail(lab):
    """The demo with an agent that answers before its peer has the data: it must notice the lost records."""
    began = boot_time()
    done = subprocess.run([sys.executable, str(HERE / "demo.py"), "--build", str(lab.build), "--unacknowledged",
                           "--directory", str(lab.directory)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          timeout=500, check=False)
    print(done.stdout[-6000:])
    check(done.returncode == 1, f"the demo ended with {done.returncode} after {(boot_time() - began) / 1e9:.0f} s")
    check("acknowledged records are lost" in done.stdout, "the demo does not say that records were lost")
