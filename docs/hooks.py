"""What the site makes while it is built: the home page, the reference, and how cards and names look.

The README, the registry, the stubs and the command line are the only sources; nothing here is written to the tree.
"""

import posixpath
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer.main
from mkdocs.structure.files import File, Files

from secateur.cli.main import app
from secateur.core import registry

sys.path.insert(0, str(Path(__file__).parent))
import public_api

ROOT = Path(__file__).parent.parent
COPIED = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "benchmarks/README.md": "benchmarks.md"}
VERDICTS = {"Holds": "success", "Does not hold": "failure", "Undecided": "warning", "Not measured yet": "info"}


def on_config(config: Any) -> Any:
    """Put the cards and the reference into the navigation, so that no page is listed twice."""
    sections = {title: pages for section in config.nav for title, pages in section.items()}
    sections["Methods"] += [{id: f"methods/{id}.md"} for id in registry.entries()]
    sections["Reference"] += [{title: uri} for uri, title in _api_titles().items()]
    config.watch += [str(ROOT / "src"), *(str(ROOT / name) for name in COPIED)]
    return config


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that exist only in the site."""
    made = {"reference/index.md": _overview(), "reference/cli.md": _command_line()}
    made |= {uri: (ROOT / name).read_text(encoding="utf-8") for name, uri in COPIED.items()}
    made["index.md"] = "---\nhide: [navigation]\n---\n" + made["index.md"]
    made |= {uri: _api_page(package) for uri, package in _api_pages().items()}
    for uri, text in made.items():
        files.append(File.generated(config, uri, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Mend links of copied pages, dress cards, and link the names of the API and of commands."""
    uri = page.file.src_uri
    markdown = _relinked(_plain_bars(markdown), uri)
    if uri.removeprefix("methods/").removesuffix(".md") in registry.entries():
        markdown = _dressed(markdown)
    return markdown if uri.startswith("reference/") else _linked(markdown, uri)


def _plain_bars(markdown: str) -> str:
    """A bar in the code of a table's cell needs a backslash on a code host, and shows it here."""
    rows = (
        re.sub(r"`[^`]*`", lambda code: code[0].replace("\\|", "|"), line) if line.startswith("|") else line
        for line in markdown.split("\n")
    )
    return "\n".join(rows)


def _relinked(markdown: str, uri: str) -> str:
    """Links that are right in the repository, as they must be in the site; links to what the site lacks become text."""
    here = next((ROOT / name for name, copied in COPIED.items() if copied == uri), ROOT / "docs" / uri).parent

    def mended(link: re.Match[str]) -> str:
        target = (here / link[2]).resolve().relative_to(ROOT).as_posix()
        site = COPIED.get(target) or (target.removeprefix("docs/") if target.startswith("docs/") else None)
        return f"[{link[1]}]({posixpath.relpath(site, posixpath.dirname(uri))}{link[3] or ''})" if site else link[1]

    return re.sub(r"\[([^\]]+)\]\((?!\w+:|#)([^)#\s]+)(#[^)]*)?\)", mended, markdown)


def _dressed(markdown: str) -> str:
    """A card whose title is the id, and whose verdicts stand out."""
    title, _, rest = markdown.partition("\n")
    id, _, facts = title.partition(" · ")
    lines = [id, "", f"*{facts}*", ""]
    for paragraph in rest.strip().split("\n\n"):
        found = re.match(r"\*\*([A-Z][a-z ]+)[:.]\*\*\s*(.*)", paragraph, flags=re.S)
        if found and found[1] in VERDICTS:
            lines += [f'!!! {VERDICTS[found[1]]} "{found[1]}"', "", f"    {found[2] or 'No claim has a result.'}", ""]
        else:
            lines += [paragraph, ""]
    return "\n".join(lines)


def _linked(markdown: str, uri: str) -> str:
    """The first `sc.name` and the first `secateur command` in the running text of a page lead to the reference."""
    up = "../" * uri.count("/")
    known, seen = public_api.everything(), set()

    def link(code: re.Match[str]) -> str:
        text = code[1]
        path, command = re.sub(r"^sc\.", "secateur.", text), text.removeprefix("secateur ")
        if text in seen:
            return code[0]
        seen.add(text)
        if path in known:
            return f"[`{text}`][{public_api.anchor(path)}]"
        return f"[`{text}`]({up}reference/cli.md#secateur-{command})" if command in _commands() else code[0]

    parts = re.split(r"(^```.*?^```$)", markdown, flags=re.S | re.M)
    pattern = r"(?<![\[`])`((?:sc\.|secateur )[\w.]+)`(?![\]`])"
    return "".join(part if part.startswith("```") else re.sub(pattern, link, part) for part in parts)


def _api_pages() -> dict[str, str]:
    return {f"reference/{p}.md": f"secateur.{p}" if p != "secateur" else p for p in ("secateur", *public_api.rooms())}


def _api_titles() -> dict[str, str]:
    return {uri: package.replace("secateur.", "sc.") for uri, package in _api_pages().items()}


def _api_page(package: str) -> str:
    """One directive for each name; names that stand on another page are linked."""
    shown = public_api.everything()
    by_home = {home: path for path, home in shown.items()}
    here, elsewhere = [], []
    for public in public_api.names(package):
        (here if public.path in shown else elsewhere).append(public)
    lines = [f"::: {package}", "    options: {heading_level: 1, members: false, show_symbol_type_heading: false}", ""]
    if elsewhere:
        links = (f"[`{p.name}`][{public_api.anchor(by_home[public_api.defined_in(p.home)])}]" for p in elsewhere)
        lines += [f"On other pages: {', '.join(links)}.", ""]
    for public in sorted(here, key=_in_order) if package == public_api.ROOT else here:
        lines += _entry(public)
    return "\n".join(lines)


def _entry(public: public_api.Public) -> list[str]:
    """The directive of one name."""
    if not public_api.is_module(public.path):
        return [f"::: {public.path}", ""]
    if public.home == public.path:
        return [f"::: {public.path}", "    options: {members: false}", ""]
    # as users write it, although griffe sees the file first
    return [f"::: {public_api.anchor(public.path)}", f"    options: {{heading: {public.path}}}", ""]


def _in_order(public: public_api.Public) -> tuple[bool, bool, str]:
    """Functions, classes, errors."""
    return ".errors." in public_api.defined_in(public.home), public.name[0].isupper(), public.name


def _overview() -> str:
    """Every public name with its page."""
    lines = ["# Reference", "", "Everything public, as `import secateur as sc` shows it; the command line is on", ""]
    lines[2] += " [a page of its own](cli.md)."
    for package in _api_pages().values():
        shown = [p for p in public_api.names(package) if p.path in public_api.everything()]
        title = package.replace("secateur", "sc", 1)
        links = (f"[`{p.name}`][{public_api.anchor(p.path)}]" for p in sorted(shown, key=_in_order))
        lines += [f"## {title}", "", f"{public_api.summary(package)}", "", " · ".join(links), ""]
    return "\n".join(lines)


def _commands() -> dict[str, Any]:
    """Every command by its words: `claims run`."""

    def walk(group: Any, before: str) -> Iterator[tuple[str, Any]]:
        for name, command in group.commands.items():
            if hasattr(command, "commands"):
                yield from walk(command, f"{before}{name} ")
            else:
                yield f"{before}{name}", command

    return dict(walk(typer.main.get_command(app), ""))


def _command_line() -> str:
    """The command line as typer knows it."""
    lines = ["# Command line", "", (app.info.help or ""), "", "Results go to standard output and everything else to"]
    lines[-1] += " standard error. Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted."
    for words, command in _commands().items():
        text, _, example = (command.help or "").partition("Example: ")
        lines += ["", f"## secateur {words}", "", text.strip(), ""]
        if example:
            lines += ["```bash", example.strip(), "```", ""]
        lines += ["| argument | what | default |", "|---|---|---|", *map(_parameter, command.params)]
    return "\n".join(lines) + "\n"


def _parameter(p: Any) -> str:
    names = ", ".join(f"`{o}`" for o in (*sorted(p.opts, key=len, reverse=True), *p.secondary_opts) if o != "--")
    if p.param_type_name == "argument":
        return f"| `{p.name.upper()}` | {_cell(p.help)} | required |"
    silent = p.default in (None, False, [], ()) or callable(p.default)
    default = "required" if p.required else "" if silent else f"`{p.default}`"
    return f"| {names} | {_cell(p.help)} | {default} |"


def _cell(text: str | None) -> str:
    return (text or "").replace("|", "\\|").replace("\n", " ").replace("*", "\\*")
