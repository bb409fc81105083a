"""README and guide are run, links lead somewhere, generated parts are fresh, the site builds and misses nothing."""

import html
import os
import re
import subprocess
import sys

import markdown_pages as pages
import public_api
import pytest
import yaml
from griffe_names import apart

import commands

ROOT = pages.ROOT
README = ROOT / "README.md"
ENVIRONMENT = {k: v for k, v in os.environ.items() if not k.startswith("SECATEUR")} | {
    "PYTHONPATH": str(ROOT / "src"),
    "OMP_NUM_THREADS": "1",
    "HF_HUB_OFFLINE": "1",
    "NO_MKDOCS_2_WARNING": "1",
}


def assert_runs(*arguments, cwd=ROOT):
    done = subprocess.run(
        [sys.executable, *arguments], cwd=cwd, capture_output=True, text=True, env=ENVIRONMENT, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]


def runs_something(page):
    return any(b.reason is None and (b.language in ("python", "yaml") or b.commands) for b in pages.blocks(page))


@pytest.mark.parametrize("page", [page for page in pages.GUIDE if runs_something(page)], ids=lambda page: page.stem)
def test_every_block_of_a_guide_page_runs(page, tmp_path):
    done = commands.page(page, tmp_path)
    assert done.returncode == 0, done.stderr[-4000:]


def test_every_block_of_the_readme_runs_by_itself(tmp_path):
    done = commands.page(README, tmp_path, alone=True)
    assert done.returncode == 0, done.stderr[-4000:]


def test_hardly_any_block_is_exempt():
    exempt = [(page.stem, b.reason) for page in (README, *pages.GUIDE) for b in pages.blocks(page) if b.reason]
    assert len(exempt) <= 2, exempt


def test_blocks_are_of_a_known_language():
    known = {"python", "bash", "yaml", "text", "toml"}
    found = {(page.name, b.language) for page in (README, *pages.GUIDE) for b in pages.blocks(page)}
    assert {language for _, language in found} <= known, found


def test_the_method_of_the_readme_has_at_most_thirty_lines_of_code():
    own = next(b.code for b in pages.blocks(README) if "@method(" in b.code)
    assert len([line for line in own.split("result =")[0].splitlines() if line.strip()]) <= 30


def test_generated_pages_are_up_to_date():
    assert_runs(str(ROOT / "docs" / "build.py"), "--check")


def test_relative_links_lead_to_files_of_the_repository():
    found = [README, ROOT / "CONTRIBUTING.md", ROOT / "benchmarks" / "README.md", *(ROOT / "docs").rglob("*.md")]
    dead = [(page.name, link) for page in found for link in pages.links(page) if not (page.parent / link).exists()]
    assert not dead


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    assert_runs("-m", "mkdocs", "build", "--strict", "--site-dir", str(folder))
    return folder


def text_of(site, pattern):
    return "\n".join(path.read_text(encoding="utf-8") for path in site.glob(pattern))


def test_every_public_name_has_its_entry(site):
    reference = text_of(site, "reference/*.html")
    missing = [path for path in public_api.everything() if f'id="{public_api.anchor(path)}"' not in reference]
    assert not missing


def test_the_names_of_the_package_are_those_of_its_stub():
    import secateur

    shown = {p.name for p in public_api.names()} | set(public_api.rooms())
    assert shown == {name for name in secateur.__all__ if not name.startswith("_")}


def test_entries_carry_signatures_and_docstrings(site):
    reference = html.unescape(re.sub(r"<[^>]+>", "", text_of(site, "reference/secateur.html")))
    assert "Prune a subject, heal it, measure it." in reference
    assert re.search(r"sparsity\s*:\s*float \| None = None", reference)


def test_arguments_that_share_a_line_of_a_docstring_are_two():
    assert apart("X.\n\nArgs:\n    a, b: of\n        both.\n    c: of c.\n\nRaises:\n    A, B: why.\n") == (
        "X.\n\nArgs:\n    a: of\n        both.\n    b: of\n        both.\n    c: of c.\n\nRaises:\n    A, B: why.\n"
    )


def test_every_command_has_its_entry(site):
    from secateur.cli.main import app

    page = text_of(site, "reference/cli.html")
    names = [c.name for c in app.registered_commands] + [f"{g.name}-" for g in app.registered_groups]
    assert not [name for name in names if f'id="secateur-{name}' not in page]


def test_every_card_is_in_the_site_and_begins_with_its_verdicts(site):
    cards = sorted((ROOT / "docs" / "methods").glob("*.md"))
    for card in cards:
        page = (site / "methods" / f"{card.stem}.html").read_text(encoding="utf-8")
        if card.stem != "index":
            assert 0 < page.find('class="admonition') < page.find("In a sentence")


def test_no_page_asks_another_host_for_anything(site):
    for page in site.rglob("*.html"):
        loaded = re.findall(r"""<(?:script|img|link|iframe)\b[^>]*?(?:src|href)=["'](\w+:)?//""", page.read_text())
        assert not loaded, page.name


def test_a_dead_link_fails_the_build(tmp_path):
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "page.md").write_text("# Page\n")
    (tmp_path / "docs" / "index.md").write_text("# Home\n\n[a](page.md#nowhere) [b](nowhere.md) [`c`][secateur.none]\n")
    config = yaml.safe_load((ROOT / "mkdocs.yml").read_text())
    small = {k: config[k] for k in ("site_name", "strict", "theme", "validation", "plugins")}
    (tmp_path / "mkdocs.yml").write_text(yaml.safe_dump(small))
    with pytest.raises(AssertionError, match="Aborted with 3 warnings in strict mode"):
        assert_runs("-m", "mkdocs", "build", cwd=tmp_path)
