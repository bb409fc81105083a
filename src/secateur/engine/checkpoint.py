"""Saved results: a folder of safetensors and JSON.

`model.safetensors` holds dense tensors as they are, a masked one as its kept values and one bit per weight, and the
buffers that no state dict holds, because a cast or a device can have changed them since their construction.
`secateur.json` holds the plan, how to build the base, the recipe, measures and provenance, and the digests of every
file. Every byte is verified while it is read, once.
"""

import math
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn

from secateur.core import MASK_SUFFIX, CheckpointError, Keep, Plan, masks_of
from secateur.core.packed import pack_bits, unpack_bits
from secateur.graph import names_by_tensor

from .base import Factory, build, reads_values
from .bounds import Bounds
from .folders import as_it_was
from .folders import write_folder as write_folder
from .manifest import Check, keep_place
from .manifest import read_manifest as read_manifest
from .manifest import write_manifest as write_manifest
from .reading import Layout, TensorFile
from .rng import rng_state, set_rng_state
from .tensors import aligned
from .unfilled import Unfilled

_BITS, _VALUES, _BUFFER, _KEEP = ":bits", ":values", ":buffer", "keep:"
_MODEL = "model.safetensors"
_ALIGNED = 16
_Unfit = (KeyError, TypeError, ValueError, IndexError, AttributeError, RuntimeError, OverflowError, AssertionError)
"""What a hostile but well-formed folder can make the code below it raise; `RecursionError` is a `RuntimeError`."""


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
    (folder / _MODEL).write_bytes(aligned(save(tensors)))
    return aliases


def _outside_state(model: nn.Module) -> dict[str, Tensor]:
    """Buffers that no state dict holds, by name."""
    held = model.state_dict().keys()
    return {n: b for n, b in model.named_buffers(remove_duplicate=False) if n not in held}


def save_keep(folder: Path, keep: Keep) -> None:
    """Write the keep of a subject whose own tensors do not show it: samples, and units that were cut out."""
    (folder / "keep.safetensors").write_bytes(save({_KEEP + n: pack_bits(m) for n, m in keep.masks.items()}))


def load(
    folder: str | Path,
    *,
    factory: Factory | None = None,
    masks: bool = False,
    device: Any = "cpu",
    verify: str = "xxh3",
    mmap: bool = True,
) -> Any:
    """The pruned model of a saved folder: the base built without weights, the plan replayed, the tensors read.

    Args:
        folder: what `Result.save` wrote.
        factory: builds the architecture, for classes that are not of torch, transformers or timm.
        masks: leave the masks on the model, to train on; else it is the plain class, with zeros.
        device: where the tensors go.
        verify: the digest that every byte is verified by: "xxh3" finds what disks and copies do; "sha256" also finds
            what people do, if you compare the hash of `secateur.json` with one that you noted.
        mmap: map the file, as safetensors does: cheap, and safe as long as nobody writes into it (`Result.save`
            replaces it); False copies it into memory of the process.

    Raises:
        CheckpointError: the folder is damaged, or does not fit the architecture; names the first tensor.
    """
    folder = as_it_was(Path(folder))
    manifest = read_manifest(folder, verify=verify, later=(_MODEL,))
    if manifest.get("subject") != "module":
        raise CheckpointError(
            f"it holds the result on a {str(manifest.get('subject'))[:80]}, not on a module",
            where=str(folder),
            mend="use sc.load_keep(folder) and select with it",
        )
    with _Stored(folder, _MODEL, manifest, verify, device, mmap) as stored:
        plan = Plan.from_json(manifest.get("plan"))
        plan = plan if masks else plan.without_masks()
        before = rng_state()
        try:
            # code that we do not know may not survive the meta device
            model = factory() if factory is not None else _filled_from_meta(manifest, plan, stored)
        finally:
            set_rng_state(before)
        if factory is not None:
            _fill_(model, plan, manifest, stored)
    return (model if torch.device(device).type == "cpu" else model.to(device)).eval()


class _Stored:
    """The tensors of a listed file: what they are at once, themselves when they are asked for, read and verified once.

    So tensors that do not fit the architecture are refused before memory is taken for them.
    """

    def __init__(
        self, folder: Path, name: str, manifest: Mapping[str, Any], verify: str, device: Any, mmap: bool
    ) -> None:
        self.folder, self._device, self._mmap = folder, device, mmap
        self._check = Check(folder, name, manifest, verify)
        self._file = TensorFile(self._check.file)
        self._tensors: dict[str, Tensor] | None = None

    @property
    def layouts(self) -> Mapping[str, Layout]:
        return self._file.layouts

    def tensors(self) -> Mapping[str, Tensor]:
        if self._tensors is None:
            found = (self._file.map if self._mmap else self._file.read)(self._check.hasher)
            self._check.finish()
            self._tensors = {name: _straight(t).to(self._device) for name, t in found.items()}
        return self._tensors

    def __enter__(self) -> "_Stored":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


def _straight(tensor: Tensor) -> Tensor:
    """The tensor at an address as torch gives them: products of a vector round otherwise where it lies askew."""
    return tensor.clone() if tensor.data_ptr() % _ALIGNED else tensor


def _filled_from_meta(manifest: Mapping[str, Any], plan: Plan, stored: _Stored) -> nn.Module:
    """Built without memory for weights; built for real where its constructor does more than that allows."""
    model = None
    base, bounds = manifest.get("base"), Bounds.of(stored.layouts.values())
    try:
        with torch.device("meta"), Unfilled(), bounds.kept(on_meta=not reads_values(base)):
            model = build(base, stored.folder, manifest["files"])
    except CheckpointError:  # some constructors read values
        if not reads_values(base):
            raise
    if model is not None:
        _fill_(model, plan, manifest, stored)
        if not _has_meta(model):
            return model
    with bounds.kept():
        model = build(base, stored.folder, manifest["files"])
    _fill_(model, plan, manifest, stored)
    return model


def _has_meta(model: nn.Module) -> bool:
    """Whether a tensor has no data yet, be it a parameter, a buffer or a plain attribute."""
    for module in model.modules():
        attributes = vars(module)
        for held in (attributes, attributes["_parameters"], attributes["_buffers"]):
            if any(isinstance(value, Tensor) and value.is_meta for value in held.values()):
                return True
    return False


def load_keep(folder: str | Path, *, verify: str = "xxh3") -> Keep:
    """What stays, of a saved result: per weight tensor in its own shape, or per group of samples.

    Args:
        verify: as of `load`.
    """
    folder = as_it_was(Path(folder))
    manifest = read_manifest(folder, verify=verify, later=(_MODEL, "keep.safetensors"))
    file, key = keep_place(manifest)
    with _Stored(folder, file, manifest, verify, "cpu", True) as stored:
        try:
            bits = {name: stored.tensors()[key.format(name)] for name in manifest["keep"]}
            return Keep({name: unpack_bits(bits[name], tuple(shape)) for name, shape in manifest["keep"].items()})
        except _Unfit as error:
            raise CheckpointError(
                f"the keep does not fit its shapes: {_first_line(error)}",
                where=str(folder),
                mend="restore it from a copy",
            ) from error


def _fill_(model: nn.Module, plan: Plan, manifest: Mapping[str, Any], stored: _Stored) -> None:
    """Replay the plan and put every stored tensor in its place; a folder that does not fit is a `CheckpointError`."""
    try:
        plan.replay_(model)
        places = {n: tuple(t.shape) for n, t in model.state_dict(keep_vars=True).items()}
        outside = {n: b for n, b in model.named_buffers(remove_duplicate=False) if n not in places}
        _check_layouts(type(model).__name__, places | {n + _BUFFER: tuple(b.shape) for n, b in outside.items()}, stored)
        _put_tensors_(model, places, outside, manifest["aliases"], stored.tensors())
    except _Unfit as error:
        raise _misfit(_first_line(error), stored.folder) from error


def _first_line(error: Exception) -> str:
    """What is wrong, short; torch tells what does not fit from the second line on."""
    lines = [line.strip() for line in str(error).splitlines()] or [type(error).__name__]
    return (lines[1] if len(lines) > 1 else lines[0])[:300]


def _fits(name: str, found: tuple[int, ...], shape: tuple[int, ...]) -> bool:
    """Whether a tensor of one shape has its place in one of another: models resize tables that no state dict holds."""
    return found == shape or (name.endswith(_BUFFER) and len(found) == len(shape))


def _check_layouts(name_of_class: str, places: Mapping[str, tuple[int, ...]], stored: _Stored) -> None:
    """Every stored tensor has a place of its size in the model."""
    for key in stored.layouts:
        if key.removesuffix(_BITS).removesuffix(_VALUES) not in places:
            raise _misfit(f"tensor {key[:80]!r} is stored, but {name_of_class} has none", stored.folder)
    for name, shape in places.items():
        numel = math.prod(shape)
        if name in stored.layouts and not _fits(name, stored.layouts[name].shape, shape):
            raise _misplaced(name, stored, shape)
        if name + _BITS in stored.layouts and stored.layouts[name + _BITS].numel != -(-numel // 8):
            raise _misplaced(name + _BITS, stored, shape)
        if name + _VALUES in stored.layouts and stored.layouts[name + _VALUES].numel > numel:
            raise _misplaced(name + _VALUES, stored, shape)


def _misplaced(key: str, stored: _Stored, shape: tuple[int, ...]) -> CheckpointError:
    found = stored.layouts[key].shape
    return _misfit(f"tensor {key!r} has shape {found}, which does not fit the model's {shape}", stored.folder)


def _put_tensors_(
    model: nn.Module,
    shapes: Mapping[str, tuple[int, ...]],
    outside: Iterable[str],
    aliases: Mapping[str, str],
    stored: Mapping[str, Tensor],
) -> None:
    """Put every stored tensor in its place.

    Args:
        shapes: of the model's state dict.
        outside: names of buffers that no state dict holds.
    """
    tensors: dict[str, Tensor] = OrderedDict()
    tensors._metadata = getattr(model.state_dict(keep_vars=True), "_metadata", {})  # type: ignore[attr-defined]
    masks = masks_of(model)
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
    for name in outside:
        if name + _BUFFER in stored:
            _put_buffer_(model, name, stored[name + _BUFFER])


def _unmasked(name: str, shape: tuple[int, ...], stored: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """The mask and the dense tensor."""
    bits, values = stored[name + _BITS], stored[name + _VALUES]
    try:
        mask = unpack_bits(bits, shape)
        kept = int(torch.count_nonzero(mask))
        if values.shape != (kept,):
            raise ValueError(f"{tuple(values.shape)} values for {kept} kept weights")
        dense = torch.zeros(shape, dtype=values.dtype, device=values.device).masked_scatter_(mask, values)
    except (ValueError, RuntimeError) as error:
        raise ValueError(f"tensor {name!r} of shape {shape}: {error}") from error
    return mask, dense


def _put_buffer_(model: nn.Module, name: str, value: Tensor) -> None:
    path, _, leaf = name.rpartition(".")
    buffers = model.get_submodule(path)._buffers
    old = buffers[leaf]
    if old is None or old.dim() != value.dim():
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
