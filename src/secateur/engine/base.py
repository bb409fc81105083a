"""The base architecture of a saved model: how it is described, and how it is built again.

A folder never chooses code to run. It may name a built-in model of ours, a class of `torch.nn` (or a tree of them), a
transformers class with its config, or a timm architecture; for anything else the caller passes the factory.
"""

import importlib
import inspect
import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from secateur.core import CheckpointError, require
from secateur.core.files import once, read_small
from secateur.tasks import builtin_model, builtin_name

from .manifest import MOST_JSON

Factory = Callable[[], nn.Module]
_DEEP = re.compile("layer|depth|block|expert|label|repeat|stage")
_MOST_LAYERS, _MOST_LABELS, _MOST_SIZE, _DEEPEST = 1_000, 100_000, 1 << 40, 40


def describe(model: nn.Module) -> dict[str, Any]:
    """How to build this architecture again, as plain data; a config of transformers stands in a file of its own."""
    name = builtin_name(model)
    if name is not None:
        return {"kind": "builtin", "name": name}
    module = type(model).__module__
    if module.startswith("transformers.") and hasattr(model, "config"):
        return {"kind": "transformers", "class": type(model).__name__}
    if module.startswith("timm.") and getattr(model, "pretrained_cfg", None):
        cfg: Any = model.pretrained_cfg
        return {"kind": "timm", "name": cfg["architecture"], "num_classes": getattr(model, "num_classes", None)}
    tree = _tree(model)
    if tree is not None:
        return {"kind": "torch", "tree": tree}
    return {"kind": "factory", "class": f"{module}.{type(model).__qualname__}"}


def describe_dense(model: nn.Module) -> dict[str, Any]:
    """`describe`, with the config, for a model that is cut afterwards: its own config may then tell of fewer layers."""
    found = describe(model)
    return found | {"config": _config(model)} if found["kind"] == "transformers" else found


def as_saved(base: Mapping[str, Any], model: nn.Module) -> dict[str, Any]:
    """A description from before a cut, without a config that is still the model's own."""
    same = "config" in base and describe(model).get("kind") == "transformers" and base["config"] == _config(model)
    return {key: value for key, value in base.items() if key != "config" or not same}


def _config(model: nn.Module) -> dict[str, Any]:
    config: dict[str, Any] = json.loads(model.config.to_json_string())  # type: ignore[union-attr, operator]
    return config


def save_base(model: nn.Module, folder: Path) -> None:
    """Write what `build` needs beside the description: the config of a transformers model."""
    if describe(model).get("kind") == "transformers":
        for config in (model.config, getattr(model, "generation_config", None)):
            if config is not None:
                config.save_pretrained(folder)  # type: ignore[union-attr, operator]


def reads_values(base: object) -> bool:
    """Whether a constructor may be of those that the meta device cannot run; modules of torch.nn all can."""
    return not (isinstance(base, dict) and base.get("kind") == "torch")


def build(base: object, folder: Path, files: Collection[str]) -> nn.Module:
    """The architecture, with whatever weights its constructor gives; call it under `torch.device("meta")` for none.

    Args:
        files: the names of those files in the folder that were verified.

    Raises:
        CheckpointError: the description is damaged, or needs a factory.
    """
    try:
        return _build(base, folder, files)
    except CheckpointError:
        raise
    except Exception as error:  # constructors of other libraries raise whatever they like
        raise CheckpointError(
            f"the architecture cannot be built: {(str(error).splitlines() or [repr(error)])[0][:300]}",
            where=str(folder / "secateur.json"),
            mend="restore the file, install the versions that saved it, or pass factory=...",
        ) from error


def _build(base: object, folder: Path, files: Collection[str]) -> nn.Module:
    _check_sizes({k: v for k, v in base.items() if k != "config"} if isinstance(base, dict) else base, _MOST_LAYERS)
    match base:
        case {"kind": "builtin", "name": str(name)}:
            return builtin_model(name)
        case {"kind": "torch", "tree": dict(tree)}:
            return _grow(tree)
        case {"kind": "transformers", "class": str(name), **rest}:
            return _transformers(name, folder, files, rest.get("config"))
        case {"kind": "timm", "name": str(name), **rest}:
            return _timm(name, rest.get("num_classes"))
        case {"kind": "factory", "class": str(name)}:
            raise CheckpointError(
                f"the model is a {name[:80]}, and a folder never chooses code to run",
                where=str(folder),
                mend="pass what builds it: sc.load(folder, factory=MyModel), or --factory path/to/file.py:factory",
            )
    raise CheckpointError(
        f"{str(base)[:80]} describes no architecture",
        where=str(folder / "secateur.json"),
        mend="the file was edited or is of a newer version: restore it, or upgrade secateur",
    )


def _transformers(name: str, folder: Path, files: Collection[str], dense: Any) -> nn.Module:
    """The class with the config of before the cut, where the description has one, else with that of the folder."""
    require("transformers", extra="llm", where=str(folder))
    import transformers

    cls = getattr(transformers, name, None)
    if not (inspect.isclass(cls) and issubclass(cls, transformers.PreTrainedModel)):
        raise CheckpointError(
            f"transformers has no model class {name!r}", where=str(folder), mend="install the version that saved it"
        )
    _check_config(folder, files)
    if dense is None:
        config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    else:
        _check_entries(dense, folder / "secateur.json")
        config = transformers.CONFIG_MAPPING[dense["model_type"]].from_dict(dense)
    model = cls(config)
    if "generation_config.json" in files:
        model.generation_config = transformers.GenerationConfig.from_pretrained(folder, local_files_only=True)
    return model


def _check_config(folder: Path, files: Collection[str]) -> None:
    """Refuse a config that would fetch code: transformers loads an attention "someone/kernel" from the hub."""
    file = folder / "config.json"
    if file.name not in files:
        raise CheckpointError("there is no config.json", where=str(folder), mend="restore the folder")
    _check_entries(json.loads(read_small(file, MOST_JSON), object_pairs_hook=once), file)


def _check_entries(config: object, file: Path) -> None:
    _check_sizes(config, _MOST_LABELS)
    for key, value in _entries(config):
        if str(key).endswith("_implementation") and "/" in json.dumps(value):
            raise CheckpointError(
                f"the config wants code from {str(value)[:80]!r}, and a folder never chooses code to run",
                where=str(file),
                mend="remove that entry, or pass factory=...",
            )


def _entries(tree: object) -> Iterator[tuple[str | int, Any]]:
    """Every key and value at any depth; a tree that is deeper than any architecture is a `ValueError`."""
    pending = [(tree, 0)]
    while pending:
        node, depth = pending.pop()
        if depth > _DEEPEST:
            raise ValueError("it is nested too deep")
        for key, value in node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ():
            yield key, value
            if isinstance(value, dict | list):
                pending.append((value, depth + 1))


def _check_sizes(tree: object, most_repeats: int) -> None:
    """Refuse numbers that no architecture has, before a constructor loops over them."""
    for key, value in _entries(tree):
        if type(value) not in (int, float) or abs(value) <= most_repeats:
            continue
        repeats = isinstance(key, str) and _DEEP.search(key) is not None
        if repeats or abs(value) > _MOST_SIZE:
            raise ValueError(f"{str(key)[:80]} is {str(value)[:40]}")


def _timm(name: str, classes: Any) -> nn.Module:
    require("timm", extra="vision", where=name)
    timm = importlib.import_module("timm")
    extra = {} if classes is None else {"num_classes": int(classes)}
    model = timm.create_model(name, pretrained=False, **extra)
    assert isinstance(model, nn.Module)
    return model


_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


def _tree(module: nn.Module) -> dict[str, Any] | None:
    """A module of torch.nn as plain data; None where it cannot be told from its attributes."""
    cls = type(module)
    if getattr(nn, cls.__name__, None) is not cls:
        return None
    if cls in _CONTAINERS:
        children = {name: _tree(child) for name, child in module.named_children()}
        if any(c is None for c in children.values()):
            return None
        return {"class": cls.__name__, "children": children}
    arguments = _arguments(module)
    node = {"class": cls.__name__, "arguments": arguments}
    try:
        json.dumps(arguments)
        with torch.device("meta"):
            twin = _grow(node)
    except (TypeError, ValueError, RuntimeError, AssertionError):
        return None
    same = repr(twin) == repr(module) and _shapes(twin) == _shapes(module)
    return node if same else None


def _arguments(module: nn.Module) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in inspect.signature(type(module).__init__).parameters:
        value = getattr(module, name, None)
        if name in ("self", "device", "dtype", "args", "kwargs") or not hasattr(module, name):
            continue
        if name == "bias" and not isinstance(value, bool):
            value = value is not None
        if value is None or isinstance(value, bool | int | float | str | tuple | list):
            found[name] = value
    return found


def _shapes(module: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(t.shape) for name, t in module.state_dict().items()}


def _grow(node: Mapping[str, Any]) -> nn.Module:
    cls = getattr(nn, str(node.get("class")), None)
    if not (inspect.isclass(cls) and issubclass(cls, nn.Module)):
        raise CheckpointError(
            f"torch.nn has no module {node.get('class')!r}", where="secateur.json, key 'base'", mend="restore the file"
        )
    if cls in _CONTAINERS:
        children = {str(name): _grow(child) for name, child in dict(node["children"]).items()}
        if cls is nn.ModuleList:
            return nn.ModuleList(children.values())
        if cls is nn.ModuleDict:
            return nn.ModuleDict(children)
        sequence = nn.Sequential()
        for name, child in children.items():
            sequence.add_module(name, child)
        return sequence
    plain = {k: tuple(v) if isinstance(v, list) else v for k, v in dict(node["arguments"]).items()}
    return cls(**plain)
