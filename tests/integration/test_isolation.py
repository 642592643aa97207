"""Networks that are cut, one of them or all, one way or both, for a moment or for long."""
import time

from checks import check
from lab import ONE_NETWORK, seeded
from namespaces import wait_until


def link_states(node):
    return {link["network"]: link["state"] for link in (node.status() or {}).get("links", [])}


def test_isolation_one_lan_no_witness_two_alone_then_sacrifice_former_second(lab):
    lab.configure(networks=ONE_NETWORK).start().pair()
    lab.cut()
    lab.wait_for("node1 ALONE Ready", "node2 ALONE Ready")
    lab.wait_for_records(lab.node1, more=20)
    lab.wait_for_records(lab.node2, more=20)
    writer = lab.node1.run("cat", "/run/record-service-vm1.pids")
    lab.heal()
    lab.wait_for("node1 PRIM Ready", "node2 SECOND Ready", timeout=60)
    check(lab.node1.run("cat", "/run/record-service-vm1.pids") == writer, "the winner's service was restarted")
    lab.wait_for_records(lab.node1)
    lost = set(lab.node2.acknowledged())
    check(lost, "node2 wrote nothing while it was isolated, so nothing was tested")
    missing = lost - lab.archived_records()
    check(not missing, f"{len(missing)} of {len(lost)} records of the loser cannot be read back from the archive")
    log = [event for event in lab.node2.events() if "archive" in event.get("text", "")]
    check(log, "the loser's event log does not mention the archive")
    lab.finish(archived=True)


def test_isolation_with_dedicated_repl_lan_stays_prim_second(lab):
    lab.start().pair()
    lab.cut("production")
    wait_until(lambda: link_states(lab.node1).get("production") == "down", 10, "node1 sees the production network down")
    lab.stays("node1 PRIM Ready", "node2 SECOND Ready", seconds=5)
    lab.wait_for_records(lab.node1)
    lab.heal()
    wait_until(lambda: link_states(lab.node1).get("production") == "up", 10, "node1 sees the production network again")
    lab.stays("node1 PRIM Ready", "node2 SECOND Ready", seconds=1)
    lab.finish()


def test_replication_network_cut_prim_goes_on_and_resyncs(lab):
    lab.start().pair()
    lab.cut("replication")
    # A silent data channel counts as lost after 30 s, while the peer is still heard on the other network.
    wait_until(lambda: lab.node2.state() not in ("SECOND Ready", "? ?"), 60, "node2 is no longer ready")
    lab.wait_for_records(lab.node1, more=20)
    check(lab.node2.state().split()[0] not in ("ALONE", "PRIM"), "both lead although they hear each other")
    lab.heal()
    lab.wait_for("node1 PRIM Ready", "node2 SECOND Ready", timeout=60)
    lab.finish()


def test_one_way_loss_heals(lab):
    lab.start().pair()
    for sender in (lab.node1, lab.node2):
        lab.cut(sender=sender)
        time.sleep(5)
        lab.heal()
        leader = lab.wait_for_any_pair()
        lab.wait_for_records(leader)
    lab.finish(archived=True)


def test_isolation_shorter_than_timeout_changes_nothing(lab):
    lab.configure(timeout="4s").start().pair()
    for _ in range(3):
        lab.cut()
        time.sleep(1)
        lab.heal()
        time.sleep(1)
    lab.wait_for("node1 PRIM Ready", "node2 SECOND Ready")
    lab.wait_for_records(lab.node1)
    check(not lab.node2.acknowledged(), "the second led although the cuts were shorter than the timeout")
    lab.finish()


def test_link_flapping(lab):
    lab.configure(relayed=("production", "replication")).start().pair()
    draw = seeded("link_flapping")
    until = time.monotonic() + 20
    while time.monotonic() < until:
        network = draw.choice(["production", "replication"])
        lab.relay(network, "down")
        if draw.random() < 0.3:
            lab.relay("production", "down")
            lab.relay("replication", "down")
        time.sleep(draw.uniform(0.05, 3))
        lab.relay("production", "up")
        lab.relay("replication", "up")
        time.sleep(draw.uniform(0.05, 2))
    leader = lab.wait_for_any_pair(timeout=90)
    lab.wait_for_records(leader)
    lab.finish(archived=True)


def test_lossy_slow_network_stays_prim_second(lab):
    lab.configure(relayed=("replication",)).start().pair()
    lab.relay("replication", "delay 0.03")
    lab.relay("replication", "loss 0.02 7")
    lab.wait_for_records(lab.node1, more=40, timeout=60)
    lab.relay("replication", "loss 0 7")
    lab.wait_for("node1 PRIM Ready", "node2 SECOND Ready")
    check(not lab.node2.acknowledged(), "the second led although it heard its peer")
    lab.finish()
