"""What a Markdown page of ours holds to run, and how it is run.

Blocks run in their order in one process: Python, and lines of bash that begin with `secateur `. A block with a `title`
is a file of that name, written where the page runs; a YAML file is checked by `secateur run --check`. A block after the
comment `<!-- not run: reason -->` is left alone, as is every other language.
"""

import re
import shlex
import shutil
import socket
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
GUIDE = sorted((ROOT / "docs" / "guide").glob("*.md"))
_FENCE = re.compile(
    r"(?:^<!-- not run: (?P<reason>[^>]+) -->\n)?"
    r'^```(?P<language>\w+)(?: title="(?P<title>[^"]+)")?\n(?P<code>.*?)^```$',
    flags=re.S | re.M,
)


@dataclass(frozen=True)
class Block:
    """One fenced block: its language, its code, the line where the code begins, its title, why it is not run."""

    language: str
    code: str
    line: int
    title: str | None = None
    reason: str | None = None

    @property
    def commands(self) -> list[str]:
        """Lines of bash that are ours to run."""
        lines = self.code.replace("\\\n", " ").splitlines() if self.language == "bash" else []
        return [line for line in lines if line.startswith("secateur ")]


def blocks(page: Path) -> list[Block]:
    """Every fenced block of a page, in order."""
    text = page.read_text(encoding="utf-8")
    return [
        Block(f["language"], f["code"], text.count("\n", 0, f.start("code")) + 1, f["title"], f["reason"])
        for f in _FENCE.finditer(text)
    ]


def links(page: Path) -> list[str]:
    """Relative links in the running text of a page, without their anchors."""
    text = re.sub(r"^```.*?^```$|`[^`\n]*`", "", page.read_text(encoding="utf-8"), flags=re.S | re.M)
    return re.findall(r"\]\((?!\w+:|#)([^)#\s]+)", text)


def run_page(page: Path, alone: bool = False) -> None:
    """Run a page in this process, in the current folder, an empty one.

    Args:
        alone: whether every Python block has a namespace of its own.
    """
    _no_network()
    sys.path.insert(0, ".")
    shutil.copytree(ROOT / "examples", "examples")
    names: dict[str, object] = {"__name__": "page"}
    for block in blocks(page):
        if block.reason is not None:
            continue
        if block.title is not None:
            Path(block.title).write_text(block.code, encoding="utf-8")
        if block.language == "yaml":
            name = block.title or f"block-{block.line}.yaml"
            Path(name).write_text(block.code, encoding="utf-8")
            _command(f"secateur run {name} --check", page, block)
        elif block.language == "python" and block.title is None:
            # blank lines in front, so that a traceback tells the line of the page
            exec(compile("\n" * (block.line - 1) + block.code, str(page), "exec"), {**names} if alone else names)
        for command in block.commands:
            _command(command, page, block)


def _command(line: str, page: Path, block: Block) -> None:
    from secateur.cli.main import run

    sys.argv = shlex.split(line)
    try:
        run()
    except SystemExit as end:
        if end.code:
            raise AssertionError(f"{page.name}, line {block.line}: exit code {end.code} of {line}") from end


def _no_network() -> None:
    def refuse(self: socket.socket, address: object) -> None:
        raise AssertionError(f"a page asks the network for {address}")

    socket.socket.connect = refuse  # type: ignore[method-assign, assignment]
