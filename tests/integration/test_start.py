"""Starting: who may lead, who follows, what is refused."""
import errno
import os
import signal
import subprocess

from checks import check, fill, refused, transitions
from configuration import Module
from namespaces import child_of, wait_until


def test_first_start_both_wait(lab):
    lab.start()
    for node in (lab.node1, lab.node2):
        node.safectl("start", "vm1", check=False)
    lab.wait_for("node1 WAIT NotReady", "node2 WAIT NotReady")
    for node in (lab.node1, lab.node2):
        row = node.row()
        check(row["reason"] == "first-start" and "as-primary" in row["text"], f"{row} does not say what to do")
    lab.stays("node1 WAIT NotReady", "node2 WAIT NotReady", seconds=2)
    refused(lab.node1.safectl("as-primary", "vm1", check=False), "safectl stop vm1")
    lab.node1.safectl("stop", "vm1")
    lab.node1.safectl("as-primary", "vm1")
    lab.wait_for("node1 PRIM Ready", "node2 SECOND Ready")
    lab.wait_for_records(lab.node1)
    lab.finish()


def test_as_primary_then_second_full_copy(lab):
    lab.make()
    source = lab.node1.data()
    (source / "deep" / "er").mkdir(parents=True)
    fill(source / "deep" / "er" / "big", 6_000_000)
    (source / "sparse").touch()
    os.truncate(source / "sparse", 64 << 20)
    os.link(source / "deep" / "er" / "big", source / "second-name")
    os.symlink("deep/er/big", source / "link")
    os.setxattr(source / "deep", "user.colour", b"green")
    os.chmod(source / "deep" / "er", 0o2750)
    os.chown(source / "sparse", 1234, 4321)
    os.utime(source / "deep", ns=(1_000_000_000, 1_234_567_890_123_456_789))
    (lab.node2.data() / "left-over").write_text("not in the other copy")
    for node in (lab.node1, lab.node2):
        node.start_agent()
    lab.pair()
    check(not (lab.node2.data() / "left-over").exists(), "a file that only the target had is still there")
    holes = (lab.node2.data() / "sparse").stat().st_blocks
    check(holes < 1024, f"a sparse file takes {holes} blocks on the target: holes were filled")
    lab.finish()


def test_later_start_picks_newest(lab):
    lab.start().pair()
    lab.node2.safectl("stop", "vm1")
    lab.wait_for("node1 ALONE Ready")
    lab.wait_for_records(lab.node1)
    lab.node1.safectl("stop", "vm1")
    lab.wait_for("node1 STOP NotReady")
    # The older copy first: it waits, and says for whom.
    lab.node2.safectl("start", "vm1", check=False)
    lab.wait_for("node2 WAIT NotReady")
    check("node1" in lab.node2.row()["text"], "the waiting node does not say for whom")
    lab.stays("node2 WAIT NotReady", seconds=3)
    lab.node1.safectl("start", "vm1", check=False)
    lab.wait_for("node1 PRIM Ready", "node2 SECOND Ready")
    lab.wait_for_records(lab.node1)
    lab.finish()


def test_restart_keeps_roles(lab):
    lab.start().pair()
    before = transitions(lab.node2)
    last = lab.node1.acknowledged()[-1]
    lab.node1.safectl("restart", "vm1")
    lab.wait_for("node1 PRIM Ready", "node2 SECOND Ready")
    lab.wait_for_records(lab.node1)
    check(transitions(lab.node2) == before, f"the second changed its state: {transitions(lab.node2)[len(before):]}")
    check(lab.node1.acknowledged()[-1][0] > last[0], "the service went back")
    lab.finish()


def test_write_on_second_denied(lab):
    lab.start().pair()
    folder = lab.node2.mounted("/srv/vm1")
    check((folder / "records").read_bytes(), "the second cannot be read")
    attempts = {
        "open for writing": lambda: os.open(folder / "records", os.O_WRONLY),
        "create": lambda: os.open(folder / "new", os.O_CREAT | os.O_WRONLY, 0o600),
        "truncate": lambda: os.truncate(folder / "records", 0),
        "mkdir": lambda: os.mkdir(folder / "directory"),
        "rename": lambda: os.rename(folder / "records", folder / "stolen"),
        "unlink": lambda: os.unlink(folder / "records"),
        "link": lambda: os.link(folder / "records", folder / "again"),
        "symlink": lambda: os.symlink("records", folder / "soft"),
        "chmod": lambda: os.chmod(folder / "records", 0o600),
        "chown": lambda: os.chown(folder / "records", 1, 1),
        "utime": lambda: os.utime(folder / "records"),
        "setxattr": lambda: os.setxattr(folder / "records", "user.x", b"y"),
    }
    for name, attempt in attempts.items():
        try:
            attempt()
        except OSError as error:
            check(error.errno == errno.EROFS, f"{name} failed with {error}, not as on a read-only file system")
        else:
            check(False, f"{name} was possible on the second")
    lab.finish()


def test_as_secondary_full(lab):
    lab.make()
    fill(lab.node1.data() / "big", 12_000_000)
    for node in (lab.node1, lab.node2):
        node.start_agent()
    lab.pair()
    lab.node2.safectl("stop", "vm1")
    lab.wait_for("node1 ALONE Ready", "node2 STOP NotReady")
    lab.node2.safectl("as-secondary", "vm1", "--full", check=False)
    lab.wait_for("node1 PRIM Ready", "node2 SECOND Ready")
    copied = int(lab.node1.row()["last_resync_copied_bytes"])
    check(copied >= 12_000_000, f"a full copy sent only {copied} bytes")
    lab.finish()


def test_stop_second_during_resync_then_prim_refused(lab):
    lab.configure(relayed=("replication",)).make()
    fill(lab.node1.data() / "big", 24_000_000)
    for node in (lab.node1, lab.node2):
        node.start_agent()
    lab.relay("replication", "rate 3000000")
    lab.node1.safectl("as-primary", "vm1")
    lab.node2.safectl("start", "vm1", check=False)
    lab.wait_for("node2 SECOND Transient")
    wait_until(lambda: (lab.node1.row(of="node2").get("resync") or {}).get("bytes_copied", 0) > 3_000_000, 30,
               "the resynchronisation got somewhere")
    refused(lab.node1.safectl("stop", "vm1", check=False), "node2", code=107)
    lab.node2.safectl("stop", "vm1")
    lab.wait_for("node2 STOP NotReady", "node1 ALONE Ready")
    lab.node1.power_off()
    wait_until(lambda: lab.node2.row(of="node1").get("heard") is False, 20, "node2 counts node1 as silent")
    refused(lab.node2.safectl("as-primary", "vm1", check=False), "half", "--force-inconsistent", code=107)
    lab.node2.safectl("start", "vm1", check=False)
    lab.wait_for("node2 WAIT NotReady")
    lab.node1.power_on()
    lab.node1.start_agent()
    lab.wait_for("node1 PRIM Ready", "node2 SECOND Ready", timeout=90)
    lab.wait_for_records(lab.node1)
    lab.finish()


def test_busy_folder_refused(lab):
    lab.start()
    (lab.node1.data() / "used").write_text("by another process")
    busy = lab.track(lab.node1.popen("tail", "-f", "/srv/vm1/used", stdout=subprocess.DEVNULL))
    wait_until(lambda: "/srv/vm1/used" in lab.node1.run("sh", "-c", "readlink /proc/[0-9]*/fd/* || true"), 10, "tail runs")
    answer = lab.node1.safectl("as-primary", "vm1", check=False)
    refused(answer, "tail", "used")
    check((lab.node1.outside("/srv/vm1") / "used").exists(), "the folder was taken although it was in use")
    os.kill(child_of(busy.pid), signal.SIGKILL)
    busy.wait()
    lab.node1.safectl("stop", "vm1", check=False)
    lab.pair()
    lab.finish()


def test_folder_not_recognised_when_disk_unmounted(lab):
    lab.configure(disk="/srv/disk", modules=[Module("vm1", folder="/srv/disk/vm1")]).make(power=False)
    for node in (lab.node1, lab.node2):
        # What lies under the mount point: the trap.
        (node.directory / "srv" / "disk" / "vm1").mkdir(parents=True)
        node.power_on()
        node.start_agent()
    lab.pair()
    lab.node1.power_off()
    lab.wait_for("node2 ALONE Ready")
    lab.wait_for_records(lab.node2)
    lab.node1.unplugged = True
    lab.node1.power_on()
    lab.node1.start_agent()
    lab.wait_for("node1 WAIT NotReady")
    row = lab.node1.row()
    check(row["reason"] == "folder-not-recognised" and "mount" in row["text"], f"{row} does not name the likely cause")
    lab.stays("node1 WAIT NotReady", "node2 ALONE Ready", seconds=4)
    check(not list((lab.node1.directory / "srv" / "disk" / "vm1").iterdir()), "something was written under the mount point")
    lab.wait_for_records(lab.node2)
    lab.node1.stop_agent()
    lab.node1.unplugged = False
    lab.node1.run("sh", "-c", lab.node1.mount_disk_command())
    lab.node1.start_agent()
    lab.wait_for("node2 PRIM Ready", "node1 SECOND Ready")
    lab.finish()


def test_four_modules_mixed_primaries(lab):
    names = [f"vm{n}" for n in range(1, 5)]
    lab.configure(modules=[Module(name) for name in names]).start()
    leaders = {name: lab.nodes[f"node{1 + n % 2}"] for n, name in enumerate(names)}
    for name, leader in leaders.items():
        leader.safectl("as-primary", name)
    for name, leader in leaders.items():
        lab.other(leader).safectl("start", name, check=False)
    for name, leader in leaders.items():
        lab.wait_for(f"{leader.name} PRIM Ready", f"{lab.other(leader).name} SECOND Ready", module=name)
        lab.wait_for_records(leader, module=name)
    lab.node1.power_off()
    for name in names:
        lab.wait_for("node2 ALONE Ready", module=name)
        lab.wait_for_records(lab.node2, module=name)
    lab.node1.power_on()
    lab.node1.start_agent()
    for name in names:
        lab.wait_for("node2 PRIM Ready", "node1 SECOND Ready", module=name)
    for name in names[::2]:
        lab.node2.safectl("swap", name)
        lab.wait_for("node1 PRIM Ready", "node2 SECOND Ready", module=name)
        lab.wait_for_records(lab.node1, module=name)
    for name in names:
        lab.finish(name)
