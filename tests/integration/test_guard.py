"""The agent dies or hangs alone: its service must no longer execute when the other node starts it (R4)."""
from checks import boot_time, check, first_tick_after
from namespaces import wait_until


def overlap_is_excluded(lab, since):
    """The service executed on node1 last before it executed on node2 first."""
    lab.wait_for("node2 ALONE Ready", timeout=30)
    first = wait_until(lambda: first_tick_after(lab.node2, since), 20, "the service runs on node2")
    lab.wait_for_records(lab.node2)
    last = lab.node1.ticks()[-1]
    check(last < first, f"the service still executed on node1 {(last - first) / 1e6:.0f} ms after its start on node2")
    return last


def test_guard_agent_killed_alone(lab):
    lab.start().pair()
    since = boot_time()
    lab.node1.kill_agent()
    last = overlap_is_excluded(lab, since)
    check((last - since) / 1e9 < 2, "the guard let the service run past the timeout")
    lab.node1.start_agent()
    lab.wait_for("node2 PRIM Ready", "node1 SECOND Ready")
    check(lab.node1.ticks()[-1] == last, "the service ran again on node1 without its role")
    lab.finish()


def test_guard_agent_stopped_alone(lab):
    lab.start().pair()
    since = boot_time()
    lab.node1.freeze_agent()
    last = overlap_is_excluded(lab, since)
    lab.node1.thaw_agent()
    lab.wait_for("node2 PRIM Ready", "node1 SECOND Ready", timeout=60)
    check(lab.node1.ticks()[-1] == last, "the service ran again on node1 without its role")
    lab.finish()


def test_guard_and_agent_killed(lab):
    """Without a guard nothing stops the service but the returning agent, which does so before it is heard."""
    lab.start().pair()
    lab.node2.safectl("stop", "vm1")
    lab.wait_for("node1 ALONE Ready")
    guards = lab.node1.run("sh", "-c", "for p in /proc/[0-9]*; do [ \"$(cat $p/comm 2>/dev/null)\" = safe-guard ] && basename $p; done; true")
    check(len(guards.split()) == 1, f"guards on node1: {guards.split()}")
    lab.node1.run("kill", "-KILL", *guards.split())
    lab.node1.kill_agent()
    before = boot_time()
    lab.node1.start_agent()
    lab.wait_for("node1 ALONE Ready")
    lab.wait_for_records(lab.node1)
    check(first_tick_after(lab.node1, before), "the service does not run")
    lab.node2.safectl("start", "vm1", check=False)
    lab.wait_for("node1 PRIM Ready", "node2 SECOND Ready")
    lab.finish()


def test_agent_stopped_briefly_goes_on(lab):
    """Shorter than the deadline: nobody takes over, the service is not touched."""
    lab.configure(timeout="5s").start().pair()
    writer = lab.node1.run("cat", "/run/record-service-vm1.pids")
    lab.node1.freeze_agent()
    wait_until(lambda: boot_time() - lab.node1.ticks()[-1] < 100_000_000, 5, "the service executes")
    lab.node1.thaw_agent()
    lab.wait_for("node1 PRIM Ready", "node2 SECOND Ready")
    lab.wait_for_records(lab.node1)
    check(lab.node1.run("cat", "/run/record-service-vm1.pids") == writer, "the service was restarted")
    lab.finish()


def test_guard_fired_and_agent_back_before_takeover(lab):
    """The guard stopped the service, but the agent runs again before anybody took over: the pair recovers, whoever leads."""
    lab.configure(timeout="4s").start().pair()
    lab.node1.freeze_agent()
    wait_until(lambda: boot_time() - lab.node1.ticks()[-1] > 200_000_000, 20, "the guard stopped the service")
    lab.node1.thaw_agent()
    leader = lab.wait_for_any_pair()
    lab.wait_for_records(leader)
    lab.finish()
