"""Cuts at random over the zoo of the tests: does every smaller model give what the dense one gives without those units?

Each cut draws a model and a keep-set, and is compared with both masked references in float64: consumers that read
zeros, and the same with large random numbers where the removed positions are made. A refusal is an error of ours that
changes nothing, and is counted by model.
"""

import logging
import sys
from pathlib import Path

import torch

from harness import cpu_s, parser, tell

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "graph"))

import zoo


def main() -> None:
    """The command line."""
    options = parser(__doc__)
    options.add_argument("--cuts", type=int, default=2000)
    options.add_argument("--seed", type=int, default=0, help="of the first cut; the others count on")
    options.add_argument("--only", action="append", choices=zoo.ZOO, help="by default all")
    given = options.parse_args()
    torch.set_num_threads(1)
    logging.getLogger("secateur").setLevel(logging.ERROR)
    names = given.only or list(zoo.ZOO)
    found = zoo.Tally()

    def run() -> None:
        nonlocal found
        found = zoo.random_cuts(range(given.seed, given.seed + given.cuts), names)

    seconds = cpu_s(run)
    figures = {
        "models": len(names),
        "cuts": given.cuts,
        "seed": given.seed,
        "right": found.right,
        "wrong": found.wrong,
        "refused": dict(found.refused),
        "cpu_s": round(seconds, 1),
    }
    tell("keepsets", figures, given.json)


if __name__ == "__main__":
    main()
