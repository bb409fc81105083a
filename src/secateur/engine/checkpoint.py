"""Saved results: a folder of safetensors and JSON, written under a temporary name and renamed.

`model.safetensors` holds dense tensors as they are, and a masked one as its kept values and one bit per weight.
`secateur.json` holds the plan, how to build the base, the recipe, measures and provenance, and the hash of every file.
"""

import glob
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as parse
from safetensors.torch import save
from torch import Tensor, nn

from secateur.core import MASK_SUFFIX, CheckpointError, Keep, Plan, masks_of, remove_masks_
from secateur.graph import names_by_tensor

from .base import Factory, build
from .tensors import pack_bits, unpack_bits

FORMAT = 1
_BITS, _VALUES, _KEEP = ":bits", ":values", "keep:"
_MOST_JSON = 64 << 20


def write_folder(folder: str | Path, fill: Callable[[Path], None], overwrite: bool = False) -> Path:
    """Make a folder whole or not at all: filled under a temporary name, flushed, renamed.

    Raises:
        CheckpointError: it is there already and `overwrite` is false, or it cannot be written.
    """
    folder = Path(folder)
    _put_back(folder)
    if folder.exists() and not overwrite and (not folder.is_dir() or any(folder.iterdir())):
        raise CheckpointError("it is there already", where=str(folder), mend="choose another folder, or overwrite=True")
    try:
        folder.absolute().parent.mkdir(parents=True, exist_ok=True)
        _sweep(folder)
        temporary = Path(tempfile.mkdtemp(dir=folder.absolute().parent, prefix=f".{folder.name}.saving-"))
    except OSError as error:
        raise CheckpointError(str(error), where=str(folder), mend="choose a folder that can be written") from error
    try:
        temporary.chmod(0o755)
        fill(temporary)
        for file in temporary.iterdir():
            _flush(file)
        _swap(temporary, folder)
    except OSError as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(str(error), where=str(folder), mend="free some space, or choose another place") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def _flush(file: Path) -> None:
    with file.open("rb+") as handle:
        os.fsync(handle.fileno())


def _swap(temporary: Path, folder: Path) -> None:
    aside = _aside(folder)
    shutil.rmtree(aside, ignore_errors=True)
    if folder.exists():
        folder.replace(aside)
    try:
        temporary.replace(folder)
    finally:
        _put_back(folder)
    shutil.rmtree(aside, ignore_errors=True)


def _aside(folder: Path) -> Path:
    return folder.absolute().parent / f".{folder.name}.old"


def _put_back(folder: Path) -> None:
    """No file system swaps two folders everywhere, so a kill between two renames leaves the old one aside."""
    aside = _aside(folder)
    if not folder.exists() and aside.is_dir():
        aside.replace(folder)


def _sweep(folder: Path) -> None:
    """Remove what a killed writer of this folder left."""
    for half in folder.absolute().parent.glob(f".{glob.escape(folder.name)}.saving-*"):
        shutil.rmtree(half, ignore_errors=True)


def save_tensors(folder: Path, model: nn.Module, masks: Mapping[str, Tensor]) -> dict[str, str]:
    """Write `model.safetensors`; gives the names that are other names of a stored tensor.

    Args:
        masks: by parameter name; such a tensor is stored as its kept values and one bit per weight.
    """
    first = {names[0]: names[1:] for _, names in names_by_tensor(model)}
    aliases = {other: name for name, others in first.items() for other in others}
    tensors: dict[str, Tensor] = {}
    for name, tensor in model.state_dict().items():
        if name in aliases or name.endswith(MASK_SUFFIX):
            continue
        own = tensor.detach().cpu().contiguous()
        mask = masks.get(name)
        if mask is not None:
            tensors[name + _BITS] = pack_bits(mask)
            tensors[name + _VALUES] = own[mask.cpu()]
        else:
            tensors[name] = own.clone()
    (folder / "model.safetensors").write_bytes(save(tensors))
    return aliases


def save_keep(folder: Path, keep: Keep) -> None:
    """Write the keep of a subject whose own tensors do not show it (samples)."""
    (folder / "keep.safetensors").write_bytes(save({_KEEP + n: pack_bits(m) for n, m in keep.masks.items()}))


def write_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Write `secateur.json`, with the hash of every other file and of itself."""
    files = {p.name: _sha256(p.read_bytes()) for p in sorted(folder.iterdir()) if p.name != "secateur.json"}
    whole = {"format": FORMAT, **manifest, "files": files}
    whole["sha256"] = _own_hash(whole)
    (folder / "secateur.json").write_text(json.dumps(whole, indent=1, default=repr) + "\n", encoding="utf-8")


def read_manifest(folder: str | Path) -> dict[str, Any]:
    """`secateur.json`, checked: format, its own hash, and the hash of every file beside it.

    Raises:
        CheckpointError: no such folder, not ours, too new, truncated or edited; says which.
    """
    folder = Path(folder)
    _put_back(folder)
    file = folder / "secateur.json"
    if not file.is_file():
        raise CheckpointError("there is no secateur.json", where=str(folder), mend="name a folder that Secateur saved")
    if file.stat().st_size > _MOST_JSON:
        raise CheckpointError("the file is too large to be ours", where=str(file), mend="restore it from a copy")
    try:
        manifest = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"it is no JSON: {error}", where=str(file), mend="restore it from a copy") from error
    if not isinstance(manifest, dict) or not isinstance(manifest.get("format"), int):
        raise CheckpointError("it is not one of ours", where=str(file), mend="name a folder that Secateur saved")
    if manifest["format"] > FORMAT:
        raise CheckpointError(
            f"it has format {manifest['format']}; this version reads up to {FORMAT}",
            where=str(file),
            mend="upgrade secateur",
        )
    if manifest.get("sha256") != _own_hash(manifest):
        raise CheckpointError("it was edited: its hash differs", where=str(file), mend="restore it from a copy")
    for name, wanted in dict(manifest.get("files", {})).items():
        _check_file(folder, str(name), str(wanted))
    return manifest


def _check_file(folder: Path, name: str, wanted: str) -> None:
    file = folder / name
    if Path(name).name != name or file.is_symlink() or not file.is_file():
        raise CheckpointError(f"{name!r} is missing or no plain file", where=str(folder), mend="restore the folder")
    if _sha256(file.read_bytes()) != wanted:
        raise CheckpointError(
            "it was truncated or edited: its hash differs", where=str(file), mend="restore it from a copy"
        )


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _own_hash(manifest: Mapping[str, Any]) -> str:
    rest = {k: v for k, v in manifest.items() if k != "sha256"}
    return _sha256(json.dumps(rest, sort_keys=True, default=repr).encode())


def load(folder: str | Path, *, factory: Factory | None = None, masks: bool = False, device: Any = "cpu") -> Any:
    """The pruned model of a saved folder: the base built without weights, the plan replayed, the tensors read.

    Args:
        folder: what `Result.save` wrote.
        factory: builds the architecture, for classes that are not of torch, transformers or timm.
        masks: leave the masks on the model, to train on; else it is the plain class, with zeros.
        device: where the tensors go.

    Raises:
        CheckpointError: the folder is damaged, or does not fit the architecture; names the first tensor.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    if manifest.get("subject") != "module":
        raise CheckpointError(
            f"it holds the result on a {manifest.get('subject')}, not on a module",
            where=str(folder),
            mend="use sc.load_keep(folder) and select with it",
        )
    stored = _read_tensors(folder / "model.safetensors", device)
    plan = Plan.from_json(manifest.get("plan"))
    with torch.device("meta"):
        model = build(manifest.get("base", {}), folder, factory)
    _fill_(model, plan, manifest, stored, folder)
    if any(t.is_meta for t in (*model.parameters(), *model.buffers())):
        # buffers that no state dict holds exist only after a real construction
        model = build(manifest.get("base", {}), folder, factory)
        _fill_(model, plan, manifest, stored, folder)
    if not masks:
        remove_masks_(model)
    return model.to(device).eval()


def load_keep(folder: str | Path) -> Keep:
    """What stays, of a saved result: per weight tensor in its own shape, or per group of samples."""
    folder = Path(folder)
    manifest = read_manifest(folder)
    shapes = {str(k): tuple(v) for k, v in dict(manifest.get("keep", {})).items()}
    if (folder / "keep.safetensors").is_file():
        bits = _read_tensors(folder / "keep.safetensors", "cpu")
        return Keep({name: unpack_bits(bits[_KEEP + name], shape) for name, shape in shapes.items()})
    stored = _read_tensors(folder / "model.safetensors", "cpu")
    return Keep({name: unpack_bits(stored[name + _BITS], shape) for name, shape in shapes.items()})


def _read_tensors(file: Path, device: Any) -> dict[str, Tensor]:
    try:
        return {name: t.to(device) for name, t in parse(file.read_bytes()).items()}
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"it cannot be read: {error}", where=str(file), mend="restore it from a copy") from error


def _fill_(
    model: nn.Module, plan: Plan, manifest: Mapping[str, Any], stored: Mapping[str, Tensor], folder: Path
) -> None:
    plan.replay_(model)
    tensors: dict[str, Tensor] = {}
    masks = masks_of(model)
    shapes = {n: tuple(t.shape) for n, t in model.state_dict().items()}
    for key, value in stored.items():
        if key.endswith(_VALUES):
            continue
        name = key.removesuffix(_BITS)
        if name not in shapes:
            raise _misfit(f"tensor {name!r} is stored, but {type(model).__name__} has none", folder)
        if key.endswith(_BITS):
            mask = unpack_bits(value, shapes[name]).to(value.device)
            values = stored[name + _VALUES]
            tensors[name] = torch.zeros(shapes[name], dtype=values.dtype, device=values.device)
            tensors[name][mask] = values
            if name in masks:
                tensors[name + MASK_SUFFIX] = mask
        else:
            tensors[name] = value
    for other, name in dict(manifest.get("aliases", {})).items():
        tensors[str(other)] = tensors[str(name)]
        if str(name) in masks and str(other) + MASK_SUFFIX in shapes:  # a module under two names has its mask twice
            tensors[str(other) + MASK_SUFFIX] = tensors[str(name) + MASK_SUFFIX]
    try:
        model.load_state_dict(tensors, assign=True)
    except RuntimeError as error:
        raise _misfit(str(error).splitlines()[-1].strip(), folder) from error
    _tie_again_(model, dict(manifest.get("aliases", {})))


def _tie_again_(model: nn.Module, aliases: Mapping[str, str]) -> None:
    """Assignment gave every name a parameter of its own: names of one tensor share it again."""
    for other, name in aliases.items():
        path, _, leaf = name.rpartition(".")
        shared = getattr(model.get_submodule(path), leaf)
        other_path, _, other_leaf = other.rpartition(".")
        setattr(model.get_submodule(other_path), other_leaf, shared)


def _misfit(what: str, folder: Path) -> CheckpointError:
    return CheckpointError(what, where=str(folder), mend="pass the factory of the architecture that was pruned")
