"""The report of 500 runs: how long it takes to write, how large it is, how long a browser takes to open it.

The comparison is synthetic, but laid down as on disk: masks of a digits-cnn's size as real safetensors, manifests with
their hash, 200 points of training loss for each run. Opening is measured in Chromium, where there is one, from the
start of navigation to the table and to the first plot: wall time, so another process on the machine counts.
"""

import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from harness import parser, tell
from secateur.report import write_report

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "report"))
from synthetic import METHODS, write_comparison

TARGETS = {"write_s": 5.0, "megabytes": 6.0, "open_s": 2.0}
FLAGS = "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
FLAGS += " --disable-component-update --disable-sync"


def written(folder: Path, page: Path, times: int) -> dict[str, Any]:
    """Processor and wall time of writing the report, after a first time that imports and warms up."""
    cpu, wall = [], []
    for _ in range(times + 1):
        begin, clock = time.process_time(), time.perf_counter()
        write_report(folder, page)
        cpu.append(time.process_time() - begin)
        wall.append(time.perf_counter() - clock)
    return {"first_cpu_s": cpu[0], "cpu_s": statistics.median(cpu[1:]), "wall_s": statistics.median(wall[1:])}


def opened(page: Path, times: int) -> dict[str, Any] | None:
    """Seconds from navigation to the table and to the first plot, medians of fresh browsers; None without Chromium."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        return None
    from playwright.sync_api import sync_playwright

    found: dict[str, list[float]] = {"table-ready": [], "first-plot": []}
    for _ in range(times):
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS.split())
            tab = browser.new_page(viewport={"width": 1280, "height": 900})
            tab.goto(page.as_uri())
            tab.wait_for_selector("#tradeoff-plot .scatterlayer .point", state="attached")
            for mark, times_ in found.items():
                times_.append(tab.evaluate(f"performance.getEntriesByName('{mark}')[0].startTime") / 1000)
            browser.close()
    return {f"{mark.replace('-', '_')}_s": statistics.median(seconds) for mark, seconds in found.items()}


def main() -> None:
    """The command line."""
    options = parser(__doc__)
    options.add_argument("--times", type=int, default=5)
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder, page = Path(place) / "compare", Path(place) / "report.html"
        recoveries = ("finetune", "finetune+distill")
        write_comparison(folder, METHODS, (0.5, 0.7, 0.8, 0.9, 0.95), 5, recoveries, points=200)
        runs = len(list(folder.glob("cells/*/row.json")))
        figures = {"runs": runs, "write": written(folder, page, given.times)}
        figures |= {"megabytes": page.stat().st_size / 1e6, "open": opened(page, given.times), "targets": TARGETS}
    tell("report", figures, given.json)


if __name__ == "__main__":
    main()
