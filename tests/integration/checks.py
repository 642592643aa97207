"""Small judgements that several tests share."""
import random
import time
from pathlib import Path

from namespaces import LabError


def check(condition, what):
    if not condition:
        raise LabError(what)


def refused(answer, *words, code=None):
    """The command was refused, with these words in what it says."""
    text = answer.out + answer.err
    check(answer.code != 0, f"was not refused: {answer}")
    check(code is None or answer.code == code, f"exit code is not {code}: {answer}")
    for word in words:
        check(word in text, f"does not say {word!r}: {answer}")


def first_tick_after(node, since, module="vm1"):
    """When the service first executed on `node` after a boot-time moment; None while it did not."""
    return next((tick for tick in node.ticks(module) if tick > since), None)


def boot_time():
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def fill(path, size, seed=1):
    """A file of incompressible, repeatable bytes."""
    Path(path).write_bytes(random.Random(seed).randbytes(size))


def transitions(node, module="vm1"):
    """["SECOND Ready -> ALONE Transient", ...] of the node's event log, oldest first."""
    return [f"{event['from']} -> {event['to']}" for event in node.events(module) if event.get("kind") == "transition"]
