"""What the benchmarks share: pairs of processor times, a description of the machine, and where figures are stored."""

import argparse
import contextlib
import datetime
import json
import os
import platform
import re
import resource
import signal
import statistics
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import secateur

RESULTS = Path(__file__).parent / "results"


def cpu_s(work: Callable[..., object], *arguments: object) -> float:
    """Processor time of one call, in seconds: another process on the machine does not count."""
    begin = time.process_time()
    work(*arguments)
    return time.process_time() - begin


def paired(
    ours: Callable[..., object],
    theirs: Callable[..., object],
    pairs: int,
    prepare: Callable[[], tuple[object, ...]] = tuple,
) -> dict[str, Any]:
    """Medians of both sides and of their ratio, from interleaved pairs in one process; the order alternates.

    Args:
        prepare: gives the arguments of each call; its time does not count.
    """
    mine: list[float] = []
    other: list[float] = []
    for i in range(pairs):
        for side, times in ((ours, mine), (theirs, other)) if i % 2 else ((theirs, other), (ours, mine)):
            times.append(cpu_s(side, *prepare()))
    ratios = sorted(a / b for a, b in zip(mine, other, strict=True))
    quartiles = statistics.quantiles(ratios, n=4) if pairs > 1 else [ratios[0]] * 3
    return {
        "ours_s": statistics.median(mine),
        "theirs_s": statistics.median(other),
        "ratio": quartiles[1],
        "ratio_quartiles": [quartiles[0], quartiles[2]],
        "pairs": pairs,
    }


def forked(work: Callable[[], dict[str, Any]], limit_s: int, most_memory: int = 10 << 30) -> dict[str, Any]:
    """What work gives in a process of its own, with limits on its processor time and memory."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.close(reader)
        resource.setrlimit(resource.RLIMIT_CPU, (limit_s, limit_s + 5))
        resource.setrlimit(resource.RLIMIT_AS, (most_memory, most_memory))
        warnings.simplefilter("ignore")
        with (
            Path(os.devnull).open("w") as nowhere,
            contextlib.redirect_stdout(nowhere),
            contextlib.redirect_stderr(nowhere),
        ):
            try:
                told = work()
            except Exception as error:  # whatever a model does: it is a finding
                told = {"error": f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:200]}"}
        os.write(writer, json.dumps(told).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        told = pipe.read()
    _, status, used = os.wait4(child, 0)
    if told:
        return dict(json.loads(told))
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) in (signal.SIGXCPU, signal.SIGKILL):
        return {"error": "no end", "ended_after_s": round(used.ru_utime + used.ru_stime, 1)}
    return {"error": f"ended with status {status}"}


class Watch:
    """The high-water mark of memory above what there was, looked at every few milliseconds."""

    def __init__(self) -> None:
        self._before = self._peak = _anonymous_mib()
        self._on = True
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def _look(self) -> None:
        while self._on:
            self._peak = max(self._peak, _anonymous_mib())
            time.sleep(0.02)

    def stop(self) -> float:
        """MiB above the beginning."""
        self._on = False
        self._thread.join()
        return self._peak - self._before


def _anonymous_mib() -> float:
    """MiB of anonymous memory: pages of files come and go as the system likes."""
    told = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssAnon"))
    return int(told.split()[1]) / 2**10


def machine() -> dict[str, Any]:
    """The processor and the versions, nothing that names a host or a place."""
    info = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*: (.*)", info.read_text()) if info.exists() else None
    return {
        "processor": found[1] if found else platform.processor(),
        "system": f"{platform.system()} {platform.machine()}",
        "threads": torch.get_num_threads(),
        "versions": {"secateur": secateur.__version__, "torch": torch.__version__, "python": platform.python_version()},
    }


def parser(doc: str | None) -> argparse.ArgumentParser:
    """A parser with the options that every benchmark has."""
    made = argparse.ArgumentParser(description=(doc or "").splitlines()[0])
    made.add_argument("--json", type=Path, metavar="FILE", help="store the figures there; results/NAME.json is ours")
    return made


def tell(name: str, figures: dict[str, Any], file: Path | None) -> None:
    """Print the figures, and store them with machine, versions and date."""
    date = datetime.datetime.now(datetime.UTC).date().isoformat()
    text = json.dumps({"benchmark": name, "date": date, "machine": machine(), "figures": figures}, indent=1)
    print(text)
    if file is not None:
        file.write_text(text + "\n", encoding="utf-8")
