"""A file, proven: onnxruntime gives with it what the module gives, on two inputs."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from secateur.core import NumericsError, SubjectError, require

from .values import array_of, tensor_of

Run = Callable[[Mapping[str, Tensor]], list[Tensor]]
_RELATIVE = {torch.float64: 1e-6, torch.float32: 1e-3, torch.float16: 3e-2, torch.bfloat16: 1e-1}
"""What round-off may amount to, relative to the largest output: other kernels add in another order."""


def session_of(file: Path) -> Any:
    """An onnxruntime session of a file, on one thread of the CPU.

    Raises:
        MissingExtra: onnxruntime is not installed.
        SubjectError: onnxruntime cannot run the file.
    """
    require("onnxruntime", extra="export", where="secateur.onnx")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    try:
        return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has a class for each of its states
        raise SubjectError(
            f"onnxruntime cannot run it: {_first_line(error)}", where=str(file), mend="use another opset or other types"
        ) from error


def run_session(session: Any, inputs: Mapping[str, Tensor]) -> list[Tensor]:
    """The outputs of a session; inputs that the graph does not read are left out."""
    wanted = {i.name: i.type for i in session.get_inputs()}
    given = {name: array_of(value) for name, value in inputs.items() if name in wanted}
    try:
        return [tensor_of(np.asarray(out)) for out in session.run(None, given)]
    except Exception as error:
        raise SubjectError(
            f"onnxruntime does not run it: {_first_line(error)}",
            where="the ONNX file that was written",
            mend="give inputs that the model takes: example=...",
        ) from error


def check_same(wanted: list[Tensor], found: list[Tensor], where: str) -> float:
    """The largest gap relative to the largest output.

    Raises:
        NumericsError: outputs differ by more than round-off.
    """
    worst = 0.0
    gap = None if len(wanted) == len(found) else f"{len(found)} outputs instead of {len(wanted)}"
    for a, b in zip(wanted, found, strict=False):
        if a.shape != b.shape:
            gap = f"shape {tuple(b.shape)} instead of {tuple(a.shape)}"
        elif not a.is_floating_point():
            gap = gap if torch.equal(a, b.to(a.dtype)) else "other whole numbers"
        elif a.numel():
            c, d = a.double(), b.double()
            if not torch.equal(c.isfinite(), d.isfinite()):
                gap = "other outputs are finite"
                continue
            size = max(float(c.nan_to_num(0, 0, 0).abs().max()), 1e-6)
            relative = float((c - d).nan_to_num().abs().max()) / size
            worst = max(worst, relative)
            gap = gap if relative <= _RELATIVE.get(a.dtype, 1e-3) else f"by {relative:.1e} of the largest output"
    if gap is not None:
        raise NumericsError(
            f"onnxruntime gives another output than the model: {gap}",
            where=f"{where}; no file was written",
            mend="this is a defect: please report it",
        )
    return worst


def check_file(file: Path, run: Run, inputs: list[Mapping[str, Tensor]], where: str) -> float:
    """Compare a file with a module on inputs; gives the largest relative gap."""
    session = session_of(file)
    return max(check_same(run(given), run_session(session, given), where) for given in inputs)


@torch.no_grad()
def outputs_of(model: nn.Module, *given: Any, **named: Any) -> list[Tensor]:
    """What a module gives in eval mode, flat, on the CPU; its mode is put back."""
    modes = {m: m.training for m in model.modules()}
    try:
        return [t.cpu() for t in _flat(model.eval()(*given, **named))]
    finally:
        for module, mode in modes.items():
            module.training = mode


def _flat(tree: Any) -> Iterator[Tensor]:
    if isinstance(tree, Tensor):
        yield tree
    elif isinstance(tree, Mapping):
        for item in tree.values():
            yield from _flat(item)
    elif isinstance(tree, tuple | list):
        for item in tree:
            yield from _flat(item)


def others_like(inputs: Mapping[str, Tensor], seed: int = 1) -> dict[str, Tensor]:
    """Other values of the same shapes and ranges; masks stay."""
    rng = torch.Generator().manual_seed(seed)
    found = {}
    for name, value in inputs.items():
        if value.is_floating_point():
            spread = float(value.float().std(unbiased=False)) or 1.0
            noise = torch.randn(value.shape, generator=rng).to(value.device) * spread
            found[name] = (value + noise.to(value.dtype)).to(value.dtype)
        elif value.dtype == torch.bool or not value.numel():
            found[name] = value
        else:
            found[name] = value.reshape(-1).roll(1).reshape(value.shape)
    return found


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
