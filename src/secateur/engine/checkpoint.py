"""Saved results: a folder of safetensors and JSON, written under a temporary name and renamed.

`model.safetensors` holds dense tensors as they are, a masked one as its kept values and one bit per weight, and the
buffers that no state dict holds, because a cast or a device can have changed them since their construction.
`secateur.json` holds the plan, how to build the base, the recipe, measures and provenance, and the hash of every file.
"""

import contextlib
import glob
import hashlib
import json
import os
import secrets
import shutil
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
from .rng import rng_state, set_rng_state
from .tensors import pack_bits, unpack_bits

FORMAT = 1
_BITS, _VALUES, _BUFFER, _KEEP = ":bits", ":values", ":buffer", "keep:"
_MOST_JSON = 64 << 20
_Unfit = (KeyError, TypeError, ValueError, IndexError, AttributeError, RuntimeError, OverflowError, AssertionError)
"""What a hostile but well-formed folder can make the code below it raise; `RecursionError` is a `RuntimeError`."""


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
        temporary = folder.absolute().parent / f".{folder.name}.saving-{secrets.token_hex(4)}"
        temporary.mkdir()
    except OSError as error:
        raise CheckpointError(str(error), where=str(folder), mend="choose a folder that can be written") from error
    try:
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
    for name, buffer in _outside_state(model).items():
        tensors[name + _BUFFER] = buffer.detach().cpu().contiguous().clone()
    (folder / "model.safetensors").write_bytes(save(tensors))
    return aliases


def _outside_state(model: nn.Module) -> dict[str, Tensor]:
    """Buffers that no state dict holds, by name."""
    held = model.state_dict().keys()
    return {n: b for n, b in model.named_buffers(remove_duplicate=False) if n not in held}


def save_keep(folder: Path, keep: Keep) -> None:
    """Write the keep of a subject whose own tensors do not show it (samples)."""
    (folder / "keep.safetensors").write_bytes(save({_KEEP + n: pack_bits(m) for n, m in keep.masks.items()}))


def write_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Write `secateur.json`, with the hash of every other file and of itself."""
    files = {p.name: _sha256(p.read_bytes()) for p in sorted(folder.iterdir()) if p.name != "secateur.json"}
    whole = json.loads(json.dumps({"format": FORMAT, **manifest, "files": files}, default=repr))
    whole["sha256"] = _own_hash(whole)
    (folder / "secateur.json").write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")


def read_manifest(folder: str | Path) -> dict[str, Any]:
    """`secateur.json`, checked: format, its own hash, and the hash of every file beside it.

    Raises:
        CheckpointError: no such folder, not ours, too new, truncated or edited; says which.
    """
    folder = Path(folder)
    _put_back(folder)
    file = folder / "secateur.json"
    if file.is_symlink() or not file.is_file():
        raise CheckpointError("there is no secateur.json", where=str(folder), mend="name a folder that Secateur saved")
    if file.stat().st_size > _MOST_JSON:
        raise CheckpointError("the file is too large to be ours", where=str(file), mend="restore it from a copy")
    try:
        manifest = json.loads(file.read_text(encoding="utf-8"))
        own_hash = _own_hash(manifest) if isinstance(manifest, dict) else None
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
    if manifest.get("sha256") != own_hash:
        raise CheckpointError("it was edited: its hash differs", where=str(file), mend="restore it from a copy")
    for key in ("files", "aliases", "keep"):
        if not isinstance(manifest.setdefault(key, {}), dict):
            raise CheckpointError(f"its {key!r} is no mapping", where=str(file), mend="restore it from a copy")
    for name, wanted in manifest["files"].items():
        _check_file(folder, name, str(wanted))
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
    return _sha256(json.dumps(rest, sort_keys=True).encode())


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
    stored = _read_tensors(folder, "model.safetensors", manifest, device)
    plan = Plan.from_json(manifest.get("plan"))
    before = rng_state()
    try:
        # code that we do not know may not survive the meta device
        model = factory() if factory is not None else _filled_from_meta(manifest, plan, stored, folder)
    finally:
        set_rng_state(before)
    if factory is not None:
        _fill_(model, plan, manifest, stored, folder)
    if not masks:
        remove_masks_(model)
    return model.to(device).eval()


def _filled_from_meta(manifest: Mapping[str, Any], plan: Plan, stored: Mapping[str, Tensor], folder: Path) -> nn.Module:
    """Built without memory for weights; built for real where its constructor does more than that allows."""
    model = None
    with contextlib.suppress(CheckpointError), torch.device("meta"):  # some constructors read values
        model = build(manifest.get("base"), folder)
    if model is not None:
        _fill_(model, plan, manifest, stored, folder)
        if not _has_meta(model):
            return model
    model = build(manifest.get("base"), folder)
    _fill_(model, plan, manifest, stored, folder)
    return model


def _has_meta(model: nn.Module) -> bool:
    """Whether a tensor has no data yet, be it a parameter, a buffer or a plain attribute."""
    attributes = (v for module in model.modules() for v in vars(module).values())
    tensors = (t for t in (*model.parameters(), *model.buffers(), *attributes) if isinstance(t, Tensor))
    return any(t.is_meta for t in tensors)


def load_keep(folder: str | Path) -> Keep:
    """What stays, of a saved result: per weight tensor in its own shape, or per group of samples."""
    folder = Path(folder)
    manifest = read_manifest(folder)
    samples = manifest.get("subject") == "samples"
    stored = _read_tensors(folder, "keep.safetensors" if samples else "model.safetensors", manifest, "cpu")
    try:
        bits = {name: stored[_KEEP + name if samples else name + _BITS] for name in manifest["keep"]}
        return Keep({name: unpack_bits(bits[name], tuple(shape)) for name, shape in manifest["keep"].items()})
    except _Unfit as error:
        raise CheckpointError(
            f"the keep does not fit its shapes: {error}", where=str(folder), mend="restore it from a copy"
        ) from error


def _read_tensors(folder: Path, name: str, manifest: Mapping[str, Any], device: Any) -> dict[str, Tensor]:
    file = folder / name
    if name not in manifest["files"]:
        raise CheckpointError(f"secateur.json lists no {name}", where=str(folder), mend="restore the folder")
    try:
        return {name: t.to(device) for name, t in parse(file.read_bytes()).items()}
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"it cannot be read: {error}", where=str(file), mend="restore it from a copy") from error


def _fill_(
    model: nn.Module, plan: Plan, manifest: Mapping[str, Any], stored: Mapping[str, Tensor], folder: Path
) -> None:
    """Replay the plan and put every stored tensor in its place; a folder that does not fit is a `CheckpointError`."""
    try:
        plan.replay_(model)
        _put_tensors_(model, manifest["aliases"], stored, folder)
    except _Unfit as error:
        lines = [line.strip() for line in str(error).splitlines()] or [type(error).__name__]
        # torch tells what does not fit from the second line on
        raise _misfit(lines[1] if len(lines) > 1 else lines[0], folder) from error


def _put_tensors_(model: nn.Module, aliases: Mapping[str, str], stored: Mapping[str, Tensor], folder: Path) -> None:
    tensors: dict[str, Tensor] = {}
    masks = masks_of(model)
    shapes = {n: tuple(t.shape) for n, t in model.state_dict().items()}
    known = shapes.keys() | {n + _BUFFER for n in _outside_state(model)}
    for key in stored:
        if key.removesuffix(_BITS).removesuffix(_VALUES) not in known:
            raise _misfit(f"tensor {key!r} is stored, but {type(model).__name__} has none", folder)
    for name, shape in shapes.items():
        if name + _BITS in stored:
            mask, tensors[name] = _unmasked(name, shape, stored)
            if name in masks:
                tensors[name + MASK_SUFFIX] = mask
        elif name in stored:
            tensors[name] = stored[name]
    for other, name in aliases.items():
        tensors[other] = tensors[name]
        if name in masks and other + MASK_SUFFIX in shapes:  # a module under two names has its mask twice
            tensors[other + MASK_SUFFIX] = tensors[name + MASK_SUFFIX]
    model.load_state_dict(tensors, assign=True)
    _tie_again_(model, aliases)
    for name in _outside_state(model):
        if name + _BUFFER in stored:
            _put_buffer_(model, name, stored[name + _BUFFER])


def _unmasked(name: str, shape: tuple[int, ...], stored: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """The mask and the dense tensor."""
    bits, values = stored[name + _BITS], stored[name + _VALUES]
    try:
        mask = unpack_bits(bits, shape)
        dense = torch.zeros(shape, dtype=values.dtype, device=values.device)
        dense[mask] = values
    except (ValueError, RuntimeError) as error:
        raise ValueError(f"tensor {name!r} of shape {shape}: {error}") from error
    return mask, dense


def _put_buffer_(model: nn.Module, name: str, value: Tensor) -> None:
    path, _, leaf = name.rpartition(".")
    buffers = model.get_submodule(path)._buffers
    old = buffers[leaf]
    if old is None or old.shape != value.shape:
        raise ValueError(f"buffer {name!r} has another shape")
    buffers[leaf] = value


def _tie_again_(model: nn.Module, aliases: Mapping[str, str]) -> None:
    """Assignment gave every name a parameter of its own: names of one tensor share it again."""
    for other, name in aliases.items():
        path, _, leaf = name.rpartition(".")
        shared = getattr(model.get_submodule(path), leaf)
        other_path, _, other_leaf = other.rpartition(".")
        setattr(model.get_submodule(other_path), other_leaf, shared)


def _misfit(what: str, folder: Path) -> CheckpointError:
    return CheckpointError(what, where=str(folder), mend="pass the factory of the architecture that was pruned")
