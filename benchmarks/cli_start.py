"""How long a command takes to start: processor time of whole processes, the interpreter's own beside it.

Listing methods must not import torch: `--help` and `methods` must stay under half a second.
"""

import os
import resource
import statistics
import subprocess
import sys

from harness import parser, tell

COMMANDS = {
    "python": ["-c", "pass"],
    "secateur --help": ["-m", "secateur", "--help"],
    "secateur methods": ["-m", "secateur", "methods"],
    "registry.entries()": ["-c", "from secateur.core import registry; registry.entries()"],
    "import secateur": ["-c", "import secateur"],
}
TARGET_S = 0.5


def children_s() -> float:
    """Processor time of all processes that ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def process_s(arguments: list[str]) -> float:
    """Processor time of one process, from its start to its end."""
    begin = children_s()
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, *arguments], check=True, capture_output=True, env=environment)
    return children_s() - begin


def main() -> None:
    """The command line."""
    options = parser(__doc__)
    options.add_argument("--times", type=int, default=9)
    options.add_argument("--only", action="append", choices=COMMANDS, help="by default all")
    given = options.parse_args()
    wanted = given.only or list(COMMANDS)
    times: dict[str, list[float]] = {name: [] for name in wanted}
    for _ in range(given.times):
        for name in wanted:
            times[name].append(process_s(COMMANDS[name]))
    figures = {name: {"cpu_s": statistics.median(t), "target_s": TARGET_S} for name, t in times.items()}
    tell("cli_start", figures, given.json)


if __name__ == "__main__":
    main()
