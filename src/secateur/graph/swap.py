"""Other tensors in the place of a model's parameters and buffers, for the length of a pass."""

from collections.abc import Callable

from torch import Tensor, nn


def swap_(model: nn.Module, of: Callable[[Tensor], Tensor]) -> None:
    """Put `of(tensor)` in the place of every parameter and buffer; tied ones stay tied.

    The modules' own dictionaries are written, so whoever calls this restores them: `still` does.
    """
    made: dict[int, Tensor] = {}
    for module in model.modules():
        holders: tuple[dict[str, Tensor | None], ...] = (module._parameters, module._buffers)  # type: ignore[assignment]
        for held in holders:
            for name, tensor in held.items():
                if tensor is not None:
                    if id(tensor) not in made:
                        made[id(tensor)] = of(tensor)
                    held[name] = made[id(tensor)]
        if isinstance(module, nn.RNNBase):
            vars(module)["_flat_weights"] = [getattr(module, n) for n in module._flat_weights_names]
