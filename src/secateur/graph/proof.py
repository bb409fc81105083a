"""A cut, proven: the smaller model gives what the dense one gives when removed positions are read as zeros.

Two passes of the dense model and two of the smaller one, on different inputs. In the second dense pass everything that
makes or carries a removed position is overwritten with large random numbers (the garbage test): it must change nothing.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from secateur.core.errors import NumericsError, SubjectError

from .capture import Call, given, still
from .coupling import Coupling, Gone
from .decisions import Decision, Told, collected
from .ir import tensors_in
from .masked import Astray, masked_decisions, masked_outputs
from .surgery import Surgery, cut_

Audience = Literal["nobody", "smaller", "both"]
_RELATIVE = {torch.float64: 1e-9, torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 1e-1}
"""What round-off may amount to, relative to the largest output."""


def proven_cut_(model: nn.Module, calls: tuple[Call, Call], coupling: Coupling, gone: Gone) -> Surgery:
    """Cut a model in place and prove it; a cut that is not proven is undone.

    Where a model decides by comparing numbers (which boxes to keep, which expert to ask), round-off can turn a decision
    that is nearly a tie. Where the outputs differ, the smaller model is therefore told the decisions of the dense one;
    where zeros change which operations run, both are told those of the recorded pass.

    Args:
        calls: run the model on two inputs of the recorded shape, that of the recording first.

    Raises:
        SubjectError: the model cannot be cut so, or does not do the same operations twice.
        NumericsError: the outputs differ.
    """
    audiences: tuple[Audience, ...] = ("nobody", "smaller", "both")
    strange: Astray | None = None
    gap: str | None = None
    for told in audiences if coupling.graph.decisions else audiences[:2]:
        try:
            surgery, gap = _compared_(model, calls, coupling, gone, told)
        except Astray as astray:  # of the dense model with zeros, before anything is cut
            strange = astray
            continue
        if gap is None:
            return surgery
        surgery.undo_(model)
    if gap is None:
        raise SubjectError(
            f"the cut cannot be proven: {strange}",
            where=type(model).__name__,
            mend="prune with verify=False if you trust it, or make the model do the same operations every time",
        ) from strange
    raise NumericsError(
        f"the smaller model differs from the dense one without the removed units: {gap}",
        where=f"{type(model).__name__}; it is as it was",
        mend="leave modules out with exclude=[...] until it holds; this is a defect: please report it",
    )


def _compared_(
    model: nn.Module, calls: tuple[Call, Call], coupling: Coupling, gone: Gone, told: Audience
) -> tuple[Surgery, str | None]:
    """The cut, and by what it differs from the dense model with zeros; None where it does not.

    Args:
        told: who is told decisions: nobody; the smaller model those of the dense one; or both the recorded ones.

    Raises:
        Astray: the dense model with zeros does other operations than the recorded pass.
    """
    wanted: list[tuple[list[Tensor], Mapping[int, Decision]]] = []
    for call, garbage in zip(calls, (None, 0), strict=True):
        if told == "nobody":
            wanted.append((masked_outputs(model, call, coupling, gone, garbage=garbage), {}))
        else:
            wanted.append(masked_decisions(model, call, coupling, gone, garbage=garbage, as_recorded=told == "both"))
    surgery = cut_(model, calls[0], coupling, gone)
    for call, (outputs, decisions) in zip(calls, wanted, strict=True):
        pass_ = Told(model, coupling.graph, decisions)
        try:
            with still(model, as_recorded=False), nullcontext() if told == "nobody" else pass_.open():
                found = list(tensors_in(call(model)))
        except Exception as error:
            surgery.undo_(model)
            raise SubjectError(
                f"the smaller model does not run: {(str(error).splitlines() or [''])[0][:200]}",
                where=f"{type(model).__name__}; it is as it was",
                mend="leave out what the message names with exclude=[...]; this is a defect: please report it",
            ) from error
        ours, theirs = collected(decisions, pass_.read)
        gap = difference(outputs + ours, found + theirs, coupling.graph.coarsest)
        if gap is not None:
            return surgery, gap
    return surgery, None


@contextmanager
def same_function(model: nn.Module, call: Call, coupling: Coupling) -> Iterator[None]:
    """What is done to a model meanwhile must not change what it computes.

    Raises:
        NumericsError: it does change it.
    """
    nothing = np.zeros(coupling.flow.algebra.size, bool)
    audience = [False, True]  # round-off turns a decision that is nearly a tie
    try:
        wanted, decisions = masked_decisions(model, call, coupling, nothing)
    except Astray:  # the model does not do the same operations twice, so there is nobody to tell
        wanted, decisions, audience = _outputs(model, call), {}, [False]
    yield
    gap: str | None = None
    for told in audience:
        pass_ = Told(model, coupling.graph, decisions)
        with pass_.open() if told else nullcontext():
            found = _outputs(model, call)
        ours, theirs = collected(decisions, pass_.read)
        gap = difference(wanted + ours, found + theirs, coupling.graph.coarsest)
        if gap is None:
            return
    raise NumericsError(
        f"the model with its units in another order computes something else: {gap}",
        where=f"{type(model).__name__}; it is as it was",
        mend='structure=Channels(lock="index"); this is a defect: please report it',
    )


def _outputs(model: nn.Module, call: Call) -> list[Tensor]:
    with still(model, as_recorded=False):
        return list(tensors_in(call(model)))


def difference(wanted: list[Tensor], found: list[Tensor], coarsest: float = 0.0) -> str | None:
    """What two lists of outputs differ by; None where they are equal to round-off.

    Args:
        coarsest: machine epsilon of the coarsest numbers that were computed with; not less than that of the outputs.
    """
    if [t.shape for t in wanted] != [t.shape for t in found]:
        return f"shapes {[tuple(t.shape) for t in found]} instead of {[tuple(t.shape) for t in wanted]}"
    for a, b in zip(wanted, found, strict=True):
        if not a.is_floating_point():
            continue
        if not torch.equal(a.isfinite(), b.isfinite()):
            return "other outputs are finite"
        gap = float((a - b).nan_to_num().abs().max()) if a.numel() else 0.0
        size = float(a.nan_to_num(posinf=0, neginf=0).abs().max()) if a.numel() else 0.0
        if gap > _tolerance(max(coarsest, torch.finfo(a.dtype).eps)) * max(size, 1e-6):
            return f"by {gap:.2e}, where outputs reach {size:.2e}"
    return None


def _tolerance(epsilon: float) -> float:
    return next((r for dtype, r in _RELATIVE.items() if torch.finfo(dtype).eps >= epsilon), _RELATIVE[torch.bfloat16])


def otherwise(call: Call) -> Call:
    """The same call with other values of the same shapes: whoever calls the model, it is given those."""
    rng = torch.Generator()

    def other(leaf: Any) -> Any:
        if not isinstance(leaf, Tensor) or not leaf.numel() or leaf.dtype == torch.bool:
            return leaf
        if leaf.is_floating_point():
            spread = leaf.detach().float().std(unbiased=False)
            noise = torch.randn(leaf.shape, generator=rng).to(leaf.device) * (spread if spread > 0 else 1)
            return leaf.detach().flip(0) + noise.to(leaf.dtype)
        return leaf.reshape(-1).roll(1).reshape(leaf.shape)

    def called(model: nn.Module) -> Any:
        rng.manual_seed(0)
        with given(model, other):
            return call(model)

    return called
