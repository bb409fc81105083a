"""The registry: what is read off a method's file is what its decorator registers."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from secateur.core import Paper, RecipeError, When, method, registry

METHOD = '''
from secateur.core import Paper, Recipe, When, method


@method(
    {id},
    paper=Paper("A title", "A. Author", 2031, url="https://example.org"),
    structure="weights",
    when=When.DURING,
    data="none",
    models=["any", "cnn"],
)
def quill(p: float = 0.98, *, rounds: int = 3, name: str = "x") -> Recipe:
    """What it does.

    More of it.
    """
'''


def run(code, *path):
    """Run code in a process of its own; gives what it printed."""
    own = Path(registry.__file__).parents[2]
    script = f"import sys; sys.path[:0] = {[str(p) for p in (own, *path)]!r}\n{code}"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def plain(entry):
    """An entry without annotations: source says `Point` where the running function says `int | float | str`."""
    return replace(entry, parameters=tuple(replace(p, type="") for p in entry.parameters))


@pytest.mark.parametrize("id", registry.entries())
def test_the_file_read_statically_says_what_the_decorator_registers(id):
    assert plain(registry.entries()[id]) == plain(registry.get(id).entry)


@pytest.mark.parametrize("id", registry.entries())
def test_every_method_has_a_summary_and_a_paper(id):
    entry = registry.entries()[id]
    assert entry.summary.endswith(".") and entry.paper.title and entry.paper.url.startswith("https://")


def test_entries_come_in_the_order_of_ids():
    assert list(registry.entries()) == sorted(registry.entries())


def test_listing_methods_imports_neither_torch_nor_any_method():
    code = """
from secateur.core import registry
assert registry.entries()
heavy = ("torch", "numpy", "pydantic", "secateur.methods")
print([m for m in sys.modules if m.startswith(heavy)])
"""
    assert run(code).strip() == "[]"


def test_importing_secateur_imports_no_torch():
    assert run("import secateur; print('torch' in sys.modules)").strip() == "False"


def test_an_unknown_id_suggests_the_nearest():
    with pytest.raises(RecipeError, match="did you mean 'magnitude'"):
        registry.get("magnitud")


def test_an_id_like_none_of_them_lists_them_all():
    with pytest.raises(RecipeError, match=r"choose one of: .*gmp.*magnitude"):
        registry.get("zzzz")


def test_everything_about_a_method_is_read_without_running_it():
    (entry,) = registry.read_entries("their.module", METHOD.format(id='"quill"'))
    assert (entry.id, entry.module, entry.start, entry.when) == ("quill", "their.module", "trained", When.DURING)
    assert entry.paper == Paper("A title", "A. Author", 2031, "https://example.org")
    assert (entry.summary, entry.models) == ("What it does.", ("any", "cnn"))
    assert [(p.name, p.type, p.default) for p in entry.parameters] == [
        ("p", "float", "0.98"),
        ("rounds", "int", "3"),
        ("name", "str", "'x'"),
    ]


def test_an_id_given_by_keyword_is_read_too():
    (entry,) = registry.read_entries("m", METHOD.format(id='id="quill"'))
    assert entry.id == "quill"


def test_a_file_without_methods_has_no_entries():
    assert registry.read_entries("m", "def quill(): ...") == []


def test_an_argument_that_is_no_literal_names_the_line():
    with pytest.raises(RecipeError, match=r"(?s)'name\(\)' is not a literal.*their\.module, line 5"):
        registry.read_entries("their.module", METHOD.format(id="name()"))


@pytest.fixture
def registered(monkeypatch):
    monkeypatch.setattr(registry, "_loaded", dict(registry._loaded))


def build(module):
    def quill(p: float = 0.98, *, exact: bool = False) -> None:
        """What it does."""

    quill.__module__ = module
    facts = {"structure": "weights", "when": When.AFTER, "data": "none", "models": ["any"]}
    return method("quill", paper=Paper("T", "A", 2031, "https://example.org"), **facts)(quill)


def test_a_method_defined_at_a_prompt_is_listed(registered):
    build("__main__")
    assert [p.name for p in registry.entries()["quill"].parameters] == ["p", "exact"]


def test_two_methods_of_one_id_are_an_error(registered):
    build("first")
    with pytest.raises(RecipeError, match=r"(?s)two methods are called 'quill'.*first and second"):
        build("second")


def test_a_method_may_be_defined_again_in_its_own_module(registered):
    build("__main__")
    build("__main__")
    assert registry.get("quill").entry.module == "__main__"


def test_an_entry_is_plain_json_with_the_settings():
    data = registry.entries()["gmp"].to_json()
    assert data["when"] == "during"
    assert {"name": "end", "type": "Point", "default": "0.7"} in data["parameters"]


@pytest.fixture
def third_party(tmp_path):
    """A package with a method, and the metadata that an installer would leave."""

    def make(id, package="their_pruning"):
        folder = tmp_path / package
        folder.mkdir()
        body = METHOD.format(id=repr(id)) + "    from secateur.core import registry\n    return (p, rounds)\n"
        (folder / "quill.py").write_text(body)
        (folder / "__init__.py").write_text("")
        info = tmp_path / f"{package}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[secateur.methods]\nquill = {package}.quill\n")
        return tmp_path

    return make


def test_a_third_partys_method_is_listed_and_can_be_built(third_party):
    code = """
from secateur.core import registry
assert registry.entries()["quill"].module == "their_pruning.quill" and "torch" not in sys.modules
print(registry.get("quill").recipe(p=0.5))
"""
    assert run(code, third_party("quill")).strip() == "(0.5, 3)"


def test_a_third_partys_method_under_one_of_our_ids_is_an_error_that_names_both_modules(third_party):
    code = """
from secateur.core import registry, RecipeError
try:
    registry.entries()
except RecipeError as error:
    print(error)
"""
    message = run(code, third_party("gmp"))
    assert "two methods are called 'gmp'" in message
    assert "secateur.methods.weights.gmp and their_pruning.quill" in message


def test_a_broken_package_of_somebody_else_leaves_the_list_whole(tmp_path):
    info = tmp_path / "their_pruning-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: their-pruning\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[secateur.methods]\nbroken = package_that_is_gone.methods\n")
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from secateur.core import registry; "
    code += "print(*registry.entries())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.split() == list(registry.entries()) and "package_that_is_gone" in done.stderr
