"""What MODEL and TASK mean on the command line and in YAML."""

import hashlib
import importlib.util
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn

from secateur.core import RecipeError, SubjectError, Task, require
from secateur.tasks import builtin_model, builtin_task

from .checkpoint import load

_FORMS = "a saved folder, an ONNX file, a transformers folder or hub name, timm:NAME, builtin:NAME, or file.py:factory"


def model_from(source: str, *, factory: str | None = None, masks: bool = False) -> nn.Module:
    """The model that a text names.

    Args:
        source: a saved folder, an ONNX file, a transformers folder or hub name, timm:NAME, builtin:NAME,
            path/to/file.py:factory.
        factory: path/to/file.py:factory of the architecture, for a saved folder that needs one.
        masks: leave the masks of a saved folder on the model.

    Raises:
        RecipeError: it names nothing.
    """
    path = Path(source)
    if source.startswith("builtin:"):
        return builtin_model(source.removeprefix("builtin:"))
    if source.startswith("timm:"):
        return _timm(source.removeprefix("timm:"))
    if ".py:" in source:
        return _model_of(source)
    if path.suffix.lower() == ".onnx":
        require("onnx", extra="export", where=source)
        from secateur.onnx import read

        return read(path)
    if (path / "secateur.json").is_file():
        make = None if factory is None else (lambda: _model_of(factory))
        model = load(path, factory=make, masks=masks)
        assert isinstance(model, nn.Module)
        return model
    if (path / "config.json").is_file() or (source and not path.exists() and not _is_path(source)):
        return _transformers(source, local=path.exists())
    what = f"there is no {source!r}" if _is_path(source) and not path.exists() else f"{source!r} names no model"
    raise RecipeError(what, where="MODEL", mend=f"give {_FORMS}")


def _is_path(source: str) -> bool:
    """Whether a name can only be a folder: names on a hub have one slash at most, within."""
    return source.startswith((".", "/", "~")) or source.endswith(("/", "\\")) or source.count("/") > 1


def task_from(source: str) -> Task:
    """The task that a text names: builtin:NAME or path/to/file.py:factory."""
    if source.startswith("builtin:"):
        return builtin_task(source.removeprefix("builtin:"))
    if ".py:" in source:
        task = call_factory(source)
        if not isinstance(task, Task):
            raise SubjectError(f"the factory gave a {type(task).__name__}", where=source, mend="return a secateur.Task")
        return task
    raise RecipeError(f"{source!r} names no task", where="TASK", mend="give builtin:NAME or path/to/file.py:factory")


def content_of(source: str) -> str:
    """A hash of what a name stands for on disk (the user's file, a saved folder), empty for names of ours or a hub.

    A cell of a comparison that ran before the file was edited must not pass for one that ran after.
    """
    path = Path(source.rpartition(":")[0]) if ".py:" in source else Path(source)
    path = path if path.suffix.lower() in (".py", ".onnx") else path / "secateur.json"
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12] if path.is_file() else ""


def call_factory(source: str) -> Any:
    """Run `factory()` of `path/to/file.py:factory`: the user's own code, named by the user."""
    return factory_of(source)()


def factory_of(source: str) -> Callable[..., Any]:
    """The function that `path/to/file.py:factory` names. Raises `RecipeError` where there is none."""
    file, _, name = source.rpartition(":")
    path = Path(file)
    if not path.is_file():
        raise RecipeError(f"there is no file {file!r}", where=source, mend="give path/to/file.py:factory")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    factory: Callable[..., Any] | None = getattr(module, name, None)
    if not callable(factory):
        found = [n for n, v in vars(module).items() if callable(v) and not n.startswith("_")]
        raise RecipeError(
            f"{file} defines no function {name!r}", where=source, mend=f"it defines {', '.join(found) or 'none'}"
        )
    return factory


def _model_of(source: str) -> nn.Module:
    model = call_factory(source)
    if not isinstance(model, nn.Module):
        raise SubjectError(f"the factory gave a {type(model).__name__}", where=source, mend="return a torch.nn.Module")
    return model


def _timm(name: str) -> nn.Module:
    require("timm", extra="vision", where=f"timm:{name}")
    import timm

    try:
        model = timm.create_model(name, pretrained=True)
    except RuntimeError as error:
        raise RecipeError(str(error), where=f"timm:{name}", mend="`timm.list_models()` lists the names") from error
    assert isinstance(model, nn.Module)
    return model


def _transformers(name: str, local: bool) -> nn.Module:
    require("transformers", extra="llm", where=name)
    import transformers

    try:
        config = transformers.AutoConfig.from_pretrained(name, local_files_only=local)
        architecture = (config.architectures or [""])[0]
        cls: Any = getattr(transformers, architecture, None)
        cls = cls if inspect.isclass(cls) else transformers.AutoModel
        model = cls.from_pretrained(name, local_files_only=local)
    except (OSError, ValueError, KeyError) as error:
        first = (str(error).splitlines() or ["it cannot be loaded"])[0]
        raise RecipeError(f"{name!r} cannot be loaded: {first}", where="MODEL", mend=f"give {_FORMS}") from error
    assert isinstance(model, nn.Module)
    return model
