"""One pass of the whole model, listening to the residual stream before and after each of its layers."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from secateur.core import Ends, Group, NumericsError, Passed, Space, Task

Listen = Callable[[Group, Any], None]


def run_passing(model: nn.Module, space: Space, task: Task, batch: Any, listeners: Mapping[type, Listen]) -> None:
    """One batch through the model; `Passed` for each layer as it runs, `Ends` for each group at the end.

    Raises:
        NumericsError: a stream or the output is not finite; names the layer or the tensor.
    """
    real = attended(batch)
    ends: dict[str, dict[int, tuple[Tensor, Tensor]]] = {}

    def heard(group: Group, unit: int, before: Tensor, after: Tensor) -> None:
        name = group.names[unit]
        channels = any(isinstance(m, nn.Conv2d | nn.Conv3d) for m in model.get_submodule(name).modules())
        x, y = as_tokens(before, channels), as_tokens(after, channels)
        check_finite(model, y, f"the output of layer {name!r}")
        mask = real if real is not None and real.shape == x.shape[:2] else torch.ones(x.shape[:2], dtype=torch.bool)
        mask = mask.to(x.device)
        if Passed in listeners:
            listeners[Passed](group, Passed(unit, len(group.passing), x[mask], y[mask]))
        if Ends in listeners:
            places = torch.arange(mask.shape[1], device=mask.device)
            last, some = (mask * places).argmax(1)[:, None, None], mask.any(1)
            ends.setdefault(group.name, {})[unit] = (
                x.take_along_dim(last, 1)[some, 0],
                y.take_along_dim(last, 1)[some, 0],
            )

    with torch.no_grad(), ExitStack() as hooks:
        for group in space:
            for unit, passing in enumerate(group.passing):
                hooks.enter_context(passing(model, partial(heard, group, unit)))
        outputs = task.call(model, batch)
    logits = getattr(outputs, "logits", outputs)
    if isinstance(logits, Tensor):
        check_finite(model, logits, f"the output for task {task.name!r}")
    for group in space:
        found = ends.get(group.name, {})
        if found and len(found) == len(group.passing):
            before, after = zip(*(found[unit] for unit in range(len(found))), strict=True)
            listeners[Ends](group, Ends(before, after))


def attended(batch: Any) -> Tensor | None:
    """Which tokens of a batch are no padding, `[samples, tokens]`; None where it does not say."""
    mask = batch.get("attention_mask") if isinstance(batch, Mapping) else None
    return mask.bool() if isinstance(mask, Tensor) and mask.dim() == 2 else None


def as_tokens(stream: Tensor, channels: bool) -> Tensor:
    """A stream as `[samples, tokens, width]`. The last dimension is the width; in maps of convolutions the second is.

    Args:
        channels: whether the layer holds convolutions of maps.
    """
    if stream.dim() <= 2:
        return stream.reshape(len(stream) if stream.dim() else 1, 1, -1)
    if stream.dim() > 3 and channels:
        stream = stream.movedim(1, -1)
    return stream.flatten(1, -2)


def check_finite(model: nn.Module, values: Tensor, what: str) -> None:
    """Raise `NumericsError` unless all values are finite; names a parameter that is not, if there is one."""
    if torch.isfinite(values).all():
        return
    broken = next((n for n, p in model.named_parameters() if not torch.isfinite(p).all()), None)
    raise NumericsError(
        f"{what} is not finite" + (": so are weights" if broken else ""),
        where=what if broken is None else f"tensor {broken!r}",
        mend="repair or reload the weights" if broken else "check the data, or prune in float32 or bfloat16",
    )
