"""All operations of a file system, by several processes, while the peer is cut off and comes back."""
import os
import subprocess
import time

import folders
from checks import check
from configuration import Module
from lab import seeded
from namespaces import wait_until


def test_exerciser_under_cuts(lab):
    program = lab.build / "tests" / "integration" / "exerciser" / "safepair-exerciser"
    draw = seeded("exerciser_under_cuts")
    seconds = int(15 * float(os.environ.get("SAFEPAIR_LAB_FACTOR", "1")))
    lab.configure(modules=[Module("vm1", kind="idle")]).start().pair()
    model = lab.node1.directory / "model"
    model.mkdir()
    exerciser = lab.track(lab.node1.popen(
        program, "--mount", "/srv/vm1", "--model", "/run/node/model", "--seed", str(draw.randrange(1 << 31)),
        "--seconds", str(seconds), "--processes", "3", stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True))
    # The output is short; a pipe holds it.
    while exerciser.poll() is None:
        time.sleep(draw.uniform(0.5, 2))
        how = draw.choice(["replication", "all", "power", "agent"])
        if how == "power":
            lab.node2.power_off()
            time.sleep(draw.uniform(0, 3))
            lab.node2.power_on()
            lab.node2.start_agent()
        elif how == "agent":
            lab.node2.kill_agent()
            time.sleep(draw.uniform(0, 3))
            lab.node2.start_agent()
        else:
            lab.cut(*([] if how == "all" else [how]))
            time.sleep(draw.uniform(0.1, 4))
            lab.heal()
        if exerciser.poll() is None and draw.random() < 0.6:
            wait_until(lambda: exerciser.poll() is not None or lab.node2.state() == "SECOND Ready", 90,
                       f"node2 is SECOND Ready again after a cut ({how})")
    said = exerciser.stdout.read()
    check(exerciser.returncode == 0, f"the exerciser found a difference between mount and model:\n{said[-4000:]}")
    print(said[-2000:])
    lab.wait_for("node1 PRIM Ready", "node2 SECOND Ready", timeout=90)
    check(len(folders.read_tree(lab.node1.data())) > 1, "the exerciser left nothing, so nothing was compared")
    lab.finish()
