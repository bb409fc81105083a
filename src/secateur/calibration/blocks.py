"""What the repeated blocks of a model do to the tokens that pass through them."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor, nn

from secateur.core import BlockPass, Group, Space
from secateur.core.blocks import angular_distances, block_around


@contextmanager
def listening_to_blocks(model: nn.Module, space: Space, listen: Callable[[Group, BlockPass], None]) -> Iterator[None]:
    """Every group whose tensor lies in a block hears how far the block turns the tokens.

    A block that gives back other shapes than it was given, or maps instead of tokens, is not heard.
    """
    modules = dict(model.named_modules())
    inside: dict[str, list[Group]] = {}
    for group in space:
        path = "" if group.site is None else block_around(modules, group.site.name.rpartition(".")[0])
        if path:
            inside.setdefault(path, []).append(group)
    with ExitStack() as hooks:
        for path, groups in inside.items():
            handle = modules[path].register_forward_hook(_heard_by(groups, listen), with_kwargs=True)
            hooks.callback(handle.remove)
        yield


def _heard_by(groups: list[Group], listen: Callable[[Group, BlockPass], None]) -> Callable[..., None]:
    def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], outputs: Any) -> None:
        before = next((a for a in (*args, kwargs.get("hidden_states")) if isinstance(a, Tensor)), None)
        after = outputs if isinstance(outputs, Tensor) else next(iter(outputs), None)
        if before is None or not isinstance(after, Tensor) or before.shape != after.shape or after.dim() not in (2, 3):
            return
        passed = BlockPass(angular_distances(before, after))
        for group in groups:
            listen(group, passed)

    return hook
