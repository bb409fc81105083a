"""The public names, read off the `.pyi` and `__init__.py` files that define them, without running anything."""

import ast
from dataclasses import dataclass
from pathlib import Path

SOURCE = Path(__file__).parent.parent / "src"
ROOT = "secateur"


@dataclass(frozen=True)
class Public:
    """One public name.

    Attributes:
        path: as a user writes it: `secateur.structures.Weights`.
        home: the module that defines it, as far as the stubs tell: `secateur.structures.weights.Weights`.
    """

    path: str
    home: str

    @property
    def name(self) -> str:
        """The last part."""
        return self.path.rpartition(".")[2]


def rooms() -> list[str]:
    """The public packages below `secateur`, in alphabetical order."""
    return sorted(p.name for p in _imported(ROOT) if _is_package(p.path))


def names(package: str = ROOT) -> list[Public]:
    """The public names of a package in the order of its stub; packages and `__version__` are left out."""
    return [p for p in _imported(package) if not _is_package(p.path) and not p.name.startswith("_")]


def everything() -> dict[str, str]:
    """Every public path and where its entry stands: names of the top first, then those that only a package has."""
    found: dict[str, str] = {}
    homes: set[str] = set()
    for package in (ROOT, *(f"{ROOT}.{room}" for room in rooms())):
        for public in names(package):
            home = defined_in(public.home)
            if home not in homes:
                homes.add(home)
                found[public.path] = home
    return found


def defined_in(home: str) -> str:
    """The path of the module that really defines a name: follows packages that only pass it on."""
    module, _, name = home.rpartition(".")
    if (SOURCE / Path(*module.split("."))).is_dir():
        return next((defined_in(p.home) for p in _imported(module) if p.name == name and p.home != home), home)
    return home


def is_module(path: str) -> bool:
    """Whether a file has this path: `core.registry` is one, and `core.count` is a function in a file of its name."""
    return (SOURCE / Path(*path.split("."))).with_suffix(".py").is_file()


def anchor(path: str) -> str:
    """Where the entry of a public path stands: a file hides the name in it that is called like it."""
    home = next((p.home for p in _imported(path.rpartition(".")[0]) if p.path == path), path)
    return home if is_module(path) else path


def summary(package: str) -> str:
    """The first line of a package's docstring."""
    file = SOURCE / Path(*package.split(".")) / "__init__.py"
    return (ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or "").partition("\n")[0]


def _is_package(path: str) -> bool:
    return (SOURCE / Path(*path.split(".")) / "__init__.py").is_file()


def _imported(package: str) -> list[Public]:
    folder = SOURCE / Path(*package.split("."))
    file = folder / "__init__.pyi"
    tree = ast.parse((file if file.is_file() else folder / "__init__.py").read_text(encoding="utf-8"))
    return [
        Public(f"{package}.{name.asname or name.name}", ".".join(filter(None, (package, node.module, name.name))))
        for node in tree.body
        if isinstance(node, ast.ImportFrom) and node.level == 1
        for name in node.names
    ]
