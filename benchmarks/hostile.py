"""Thousands of damaged and hostile inputs, each read within ten seconds and 1 GiB: refused, or read as it was.

`tests/engine/hostile.py` explains the inputs. A server that has imported everything forks workers; a worker tells each
input before it reads it, so a hang or a crash has a name. Memory is limited by RLIMIT_DATA, at 1 GiB above what the
worker has when it starts: it counts what is allocated even if it is never touched, and unlike RLIMIT_AS it leaves out
the libraries, which map gigabytes of code. The peak of the resident memory is measured beside it.
"""

import json
import logging
import os
import re
import resource
import select
import signal
import sys
import tempfile
import time
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

from harness import parser, tell

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "engine"))

import hostile

LIMIT_S, LIMIT_BYTES = 10, 1 << 30


def status_bytes(key: str) -> int:
    """A figure of this process from the kernel."""
    found = re.search(rf"{key}:\s*(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) << 10


def work(place: Path, told: dict[str, str], seeds: range, out: int) -> None:
    """The inputs of these seeds, one after the other, each told before and after."""
    limit = status_bytes("VmData") + LIMIT_BYTES
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    for seed in seeds:
        case = hostile.CASES[seed % len(hostile.CASES)]
        os.write(out, f"{json.dumps({'seed': seed})}\n".encode())
        Path("/proc/self/clear_refs").write_text("5")
        resident, begin = status_bytes("VmRSS"), time.monotonic()
        ended = hostile.attempt(place, told[case[0]], case, seed)
        figures = {"seconds": time.monotonic() - begin, "peak_bytes": status_bytes("VmHWM") - resident}
        os.write(out, f"{json.dumps({'seed': seed, 'ended': ended, **figures})}\n".encode())


def worker(place: Path, told: dict[str, str], seeds: range) -> tuple[int, int]:
    """A forked worker and the pipe that it tells on."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(read)
        try:
            work(place, told, seeds, write)
        finally:
            os._exit(0)
    os.close(write)
    return pid, read


def attempts(place: Path, told: dict[str, str], count: int) -> list[dict[str, Any]]:
    """What came of every input; a hang or a crash ends its worker, and the next one goes on behind it."""
    found: list[dict[str, Any]] = []
    while len(found) < count:
        pid, pipe = worker(place, told, range(len(found), count))
        rest = b""
        while True:
            ready = select.select([pipe], [], [], LIMIT_S)[0]
            read = os.read(pipe, 1 << 16) if ready else b""
            if not read:
                break
            *lines, rest = (rest + read).split(b"\n")
            for line in map(json.loads, lines):
                found += [line] if "ended" in line else []
        os.close(pipe)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        if len(found) < count:
            found.append({"seed": len(found), "ended": "crash" if ready else "hang", "seconds": 0, "peak_bytes": 0})
    return found


def main() -> None:
    """The command line."""
    options = parser(__doc__)
    options.add_argument("--inputs", type=int, default=5000)
    given = options.parse_args()
    target = given.json.resolve() if given.json else None
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        os.chdir(place)  # where a module of the canary's name lies, and can be imported
        sys.path.insert(0, name)
        told = hostile.prepare(place)
        before = hostile.sentinel(place)
        found = attempts(place, told, given.inputs)
        touched = hostile.sentinel(place) != before
        os.chdir("/")
    by_target: dict[str, Counter[str]] = {t: Counter() for t in hostile.TARGETS}
    bad = []
    for one in found:
        case = hostile.CASES[one["seed"] % len(hostile.CASES)]
        kind = one["ended"].split(":")[0]
        over = one["peak_bytes"] > LIMIT_BYTES or one["seconds"] > LIMIT_S
        by_target[case[0]][kind] += 1
        if over or kind not in ("refused", "harmless", "edited"):
            bad.append({"case": "/".join(case), **one})
    figures = {
        "inputs": len(found),
        "ended": Counter(one["ended"].split(":")[0] for one in found),
        "by_target": by_target,
        "kinds_of_input": len(hostile.CASES),
        "longest_s": max(one["seconds"] for one in found),
        "largest_peak_bytes": max(one["peak_bytes"] for one in found),
        "touched_or_executed": touched,
        "failures": bad,
    }
    tell("hostile", figures, target)
    raise SystemExit(bool(bad) or touched)


if __name__ == "__main__":
    main()
