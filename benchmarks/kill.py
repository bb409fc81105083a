"""Runs killed by SIGKILL at many seeded moments, and whether each ends as the unbroken run does, to the last bit.

Every story is one folder, of a pruning, a training or a whole comparison: processes killed at moments drawn from the
seed, some of them at a random instant wherever that is, until one comes to the end. What must agree with the unbroken
run: a hash over weights, masks, optimizer state, place in the schedule, history and random generators at the end of
training, and one over the result. Nothing half-written may be left.
`tests/engine/resume_driver.py` explains the moments.
"""

import json
import random
import signal
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from harness import parser, tell

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "engine"))

from resume_driver import CASES, import_before_the_forks, killed, left_over

MOST_KILLS_OF_A_STORY = 10


def out_of(folder: Path) -> Path:
    """Where the processes on this folder write down their hashes."""
    return Path(f"{folder}.out")


def told(folder: Path, key: str) -> list[Any]:
    """All values of one key that the processes on this folder wrote down."""
    lines = [json.loads(line) for line in out_of(folder).read_text().splitlines()]
    return [line[key] for line in lines if key in line]


def moment(rng: random.Random, counts: dict[str, int]) -> str:
    """A kill, more often early than late in what a label counts in a whole run, so that most of them hit."""
    label = rng.choice([*counts, "time"])
    if label == "time":
        return f"time:{rng.uniform(0, 0.7):.3f}"
    return f"{label}:{rng.randint(1, max(1, counts[label] // rng.choice((1, 2, 4))))}"


def story(case: str, folder: Path, kills: list[str], every: float) -> list[str]:
    """The kills that hit before a process came to the end."""
    hit = []
    for kill in kills:
        status = killed(case, folder, out_of(folder), kill, every)
        if status == 0:
            return hit
        if status != -signal.SIGKILL:
            raise SystemExit(f"{case} ended with {status} after {hit} and {kill}")
        hit.append(kill)
    if status := killed(case, folder, out_of(folder), "none", every):
        raise SystemExit(f"{case} ended with {status} after {hit}")
    return hit


def main() -> None:
    """The command line."""
    options = parser(__doc__)
    options.add_argument("--kills", type=int, default=200, help="kills that hit, over all cases")
    options.add_argument("--seed", type=int, default=0)
    given = options.parse_args()
    import_before_the_forks()
    rng = random.Random(given.seed)
    hits: dict[str, Counter[str]] = {case: Counter() for case in CASES}
    stories = dict.fromkeys(CASES, 0)
    differing: list[str] = []
    with tempfile.TemporaryDirectory() as place:
        whole = {case: Path(place) / case for case in CASES}
        for case, folder in whole.items():
            story(case, folder, [], 0)
        while sum(h.total() for h in hits.values()) < given.kills:
            case = min(CASES, key=lambda c: hits[c].total())
            folder = Path(place) / f"{case}-{stories[case]}"
            stories[case] += 1
            kills = [moment(rng, told(whole[case], "counts")[0]) for _ in range(MOST_KILLS_OF_A_STORY)]
            hit = story(case, folder, kills, rng.choice((0, 0, 0.02, 0.2)))
            hits[case].update(kill.split(":")[0] for kill in hit)
            same = all({*told(folder, key)} <= {*told(whole[case], key)} for key in ("state", "result"))
            left = left_over(folder)
            if not same or left or not told(folder, "result"):
                differing.append(f"{case}: {' '.join(hit)}")
    figures = {
        "seed": given.seed,
        "kills": sum(h.total() for h in hits.values()),
        "stories": sum(stories.values()),
        "kills_by_case_and_moment": hits,
        "stories_that_differ": differing,
    }
    tell("kill", figures, given.json)
    raise SystemExit(bool(differing))


if __name__ == "__main__":
    main()
