"""A node goes, by command or by force, and comes back."""
import os

from checks import boot_time, check, fill, first_tick_after, transitions
from namespaces import wait_until


def test_stop_prim_immediate_failover(lab):
    # With this timeout a takeover by silence could not be mistaken for one at once.
    lab.configure(timeout="20s").start().pair()
    began = boot_time()
    lab.node1.safectl("stop", "vm1")
    lab.wait_for("node2 ALONE Ready", "node1 STOP NotReady", timeout=15)
    took = (boot_time() - began) / 1e9
    check(took < 15, f"an announced stop was taken over after {took:.1f} s only")
    check(not (lab.node1.outside("/srv/.vm1.safepair")).exists(), "after a clean stop the folder is still closed")
    lab.wait_for_records(lab.node2)
    lab.node1.safectl("start", "vm1", check=False)
    lab.wait_for("node2 PRIM Ready", "node1 SECOND Ready")
    lab.finish()


def test_restart_old_prim_becomes_second(lab):
    lab.start().pair()
    lab.node1.power_off()
    lab.wait_for("node2 ALONE Ready")
    lab.wait_for_records(lab.node2)
    lab.node1.power_on()
    lab.node1.start_agent()
    lab.wait_for("node2 PRIM Ready", "node1 SECOND Ready")
    lab.wait_for_records(lab.node2)
    check(not [t for t in transitions(lab.node2)[-3:] if "WAIT" in t], "the new primary was disturbed by the return of the old one")
    lab.finish()


def test_poweroff_prim_takeover_within_timeout(lab):
    lab.start().pair()
    began = boot_time()
    lab.node1.power_off()
    lab.wait_for("node2 ALONE Ready", timeout=20)
    tick = wait_until(lambda: first_tick_after(lab.node2, began), 10, "the service runs on node2")
    took = (tick - began) / 1e9
    # Timeout 2 s and one pulse; the rest is the start of the service on a machine that may be busy.
    check(took < 2.1 + 3, f"the service was gone for {took:.2f} s")
    lab.wait_for_records(lab.node2)
    lab.node1.power_on()
    lab.node1.start_agent()
    lab.wait_for("node2 PRIM Ready", "node1 SECOND Ready")
    lab.finish()


def test_poweroff_prim_on_slow_network_loses_nothing(lab):
    lab.configure(relayed=("replication",)).start()
    lab.pair()
    lab.relay("replication", "delay 0.15")
    lab.wait_for_records(lab.node1)
    lab.node1.power_off()
    lab.wait_for("node2 ALONE Ready")
    lab.wait_for_records(lab.node2)
    lab.node1.power_on()
    lab.node1.start_agent()
    lab.wait_for("node2 PRIM Ready", "node1 SECOND Ready")
    lab.finish()


def test_poweroff_second_prim_alone(lab):
    lab.start().pair()
    before = lab.node1.run("cat", "/run/record-service-vm1.pids")
    lab.node2.power_off()
    lab.wait_for("node1 ALONE Ready")
    lab.wait_for_records(lab.node1)
    lab.node2.power_on()
    lab.node2.start_agent()
    lab.wait_for("node1 PRIM Ready", "node2 SECOND Ready")
    check(lab.node1.run("cat", "/run/record-service-vm1.pids") == before, "the service was restarted")
    lab.finish()


def test_both_poweroff_first_waits_second_resolves(lab):
    lab.start().pair()
    for node in (lab.node1, lab.node2):
        lab.hub.unplug(node.name, [network.name for network in lab.options.networks])
    for node in (lab.node1, lab.node2):
        node.end()
    lab.node2.power_on()
    lab.node2.start_agent()
    lab.wait_for("node2 WAIT NotReady")
    check(lab.node2.row()["reason"] == "not-up-to-date", f"{lab.node2.row()}")
    lab.stays("node2 WAIT NotReady", seconds=3)
    lab.node1.power_on()
    lab.node1.start_agent()
    lab.wait_for("node1 PRIM Ready", "node2 SECOND Ready")
    lab.wait_for_records(lab.node1)
    lab.finish()


def test_swap_roundtrip(lab):
    lab.make()
    fill(lab.node1.data() / "big", 8_000_000)
    for node in (lab.node1, lab.node2):
        node.start_agent()
    lab.pair()
    for leader, follower in ((lab.node2, lab.node1), (lab.node1, lab.node2)):
        follower.safectl("swap", "vm1")
        lab.wait_for(f"{leader.name} PRIM Ready", f"{follower.name} SECOND Ready")
        lab.wait_for_records(leader)
        copied = int(leader.row().get("last_resync_copied_bytes", 0))
        check(copied < 4_000_000, f"a swap copied {copied} bytes")
    lab.finish()


def test_agent_restart_recovers(lab):
    lab.start().pair()
    lab.node2.safectl("stop", "vm1")
    lab.wait_for("node1 ALONE Ready")
    lab.node1.kill_agent()
    lab.node1.start_agent()
    lab.wait_for("node1 ALONE Ready")
    lab.wait_for_records(lab.node1)
    os.stat(lab.node1.mounted("/srv/vm1/records"))
    mounts = [line for line in (lab.node1.holder.root / "proc/1/mounts").read_text().splitlines() if " /srv/vm1 " in line]
    check(len(mounts) == 1, f"mounts at the folder: {mounts}")
    lab.node2.safectl("start", "vm1", check=False)
    lab.wait_for("node1 PRIM Ready", "node2 SECOND Ready")
    # The agents of both roles, one after the other, in a pair.
    for _ in range(2):
        leader = lab.wait_for_any_pair()
        for node in (lab.other(leader), leader):
            node.kill_agent()
            node.start_agent()
            lab.wait_for_any_pair()
    lab.finish()


def test_node_shutdown_is_clean_stop(lab):
    lab.configure(timeout="20s").make()
    fill(lab.node1.data() / "big", 8_000_000)
    for node in (lab.node1, lab.node2):
        node.start_agent()
    lab.pair()
    code = lab.node1.stop_agent()
    check(code == 0, f"safe-agent ended with {code} at SIGTERM")
    lab.wait_for("node2 ALONE Ready", timeout=15)
    check(not lab.node1.outside("/srv/.vm1.safepair").exists(), "after a shutdown the folder is still closed")
    lab.wait_for_records(lab.node2)
    lab.node1.start_agent()
    lab.wait_for("node2 PRIM Ready", "node1 SECOND Ready")
    copied = int(lab.node2.row()["last_resync_copied_bytes"])
    check(copied < 4_000_000, f"after a clean stop {copied} bytes were copied: more than what changed")
    lab.finish()
