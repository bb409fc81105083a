"""What the layers of a model hear while it runs, and the statistics that grow from it."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from secateur.core import (
    Forward,
    Group,
    NumericsError,
    State,
    Statistic,
    SubjectError,
    View,
    owner_of,
    token_view,
)

from .attention import Listener, Projections, projects

Key = tuple[str, Statistic]


class Ear:
    """Statistics of the inputs and outputs of layers, over as many batches as are run.

    Layers that are given the very same tensor (queries, keys and values; gate and up) share the statistics that look
    at inputs alone: these are computed and held once.

    Attributes:
        calls: how often each group was heard in the present batch.
        last: the layer that was heard last; None where that was a projection of an attention.
    """

    def __init__(self, groups: Iterable[Group], statistics: Iterable[Statistic]) -> None:
        self._groups = [g for g in groups if g.site is not None]
        self.statistics = [s for s in statistics if s.on is Forward]
        self._states: dict[Key, State] = {}
        self._heard: dict[tuple[int, int, View, Statistic, int], State] = {}
        self._inputs: list[Tensor] = []
        self._tokens: Tensor | None = None
        self._listening: set[str] = set()
        self._at: dict[nn.Module, list[tuple[str, Listener]]] = {}
        self.calls: Counter[str] = Counter()
        self.last: nn.Module | None = None

    @property
    def heard_all(self) -> bool:
        """Whether every layer was heard in the present batch."""
        return self.calls.keys() >= self._listening

    def names_at(self, module: nn.Module) -> list[str]:
        """The groups that are heard at a layer."""
        return [name for name, _ in self._at.get(module, ())]

    def can_take(self, module: nn.Module) -> bool:
        """Whether all is heard of a layer that is to be heard, as soon as its input is there."""
        inputs_alone = all(getattr(s, "of_inputs", False) for s in self.statistics)
        return inputs_alone and module in self._at and token_view(module) == View()

    def take(self, module: nn.Module, inputs: Tensor) -> None:
        """Hear what a layer is given that does not run; see `can_take`."""
        nothing = inputs.new_empty(1).expand(*inputs.shape[:-1], 1)
        for _, listener in self._at[module]:
            listener(inputs, nothing)

    @contextmanager
    def listening(self, model: nn.Module) -> Iterator[None]:
        """Every call of the groups' layers is heard meanwhile."""
        projected: dict[int, Listener] = {}
        with ExitStack() as hooks:
            for group in self._groups if self.statistics else ():
                if group.site is not None and projects(model, group.site.name):
                    projected[id(group.site.tensor)] = partial(self._hear, group, View(), None)
                    self._listening.add(group.name)
                else:
                    self._hook(hooks, model, group)
            if projected:
                hooks.enter_context(Projections(projected))
            try:
                yield
            finally:
                self._at.clear()

    def next_batch(self, tokens: Tensor | None = None) -> None:
        """Another batch begins.

        Args:
            tokens: `[batch, time]`, True where there is a token and no padding.
        """
        self._heard.clear()
        self._inputs.clear()
        self.calls.clear()
        self._tokens = tokens

    def values(self) -> dict[Key, Tensor]:
        """What was heard, put together over all processes; asked once, for it is forgotten then.

        Keys of layers that never ran are missing.
        """
        self.next_batch()
        _check_alike(f"{name} {statistic}" for name, statistic in self._states)
        sharing: dict[tuple[Statistic, int], list[Key]] = {}
        for key, state in self._states.items():
            sharing.setdefault((key[1], id(state)), []).append(key)
        found: dict[Key, Tensor] = {}
        for keys in sharing.values():  # layers that share a state share its value
            value = keys[0][1].value(_of_all_processes(keys[0][1], self._states[keys[0]]))
            for key in keys:
                found[key] = value
                del self._states[key]
        return found

    def _hear(self, group: Group, view: View, module: nn.Module | None, inputs: Tensor, outputs: Tensor) -> None:
        self.calls[group.name] += 1
        self.last = module
        made: Forward | None = None
        which = id(inputs), inputs._version  # changed in place between two layers, it is another input
        for statistic in self.statistics:
            key = group.name, statistic
            before = self._states.get(key)
            shares = getattr(statistic, "of_inputs", False)
            known = self._heard.get((*which, view, statistic, id(before))) if shares else None
            if known is not None:
                self._states[key] = known
                continue
            made = made or self._event(view, inputs, outputs)
            after = statistic.update(statistic.zero(group) if before is None else before, made)
            self._states[key] = after
            if shares:
                for one in (before, after):
                    self._heard[*which, view, statistic, id(one)] = after
                self._inputs.append(inputs)  # alive, so that no other tensor has its id

    def _hook(self, hooks: ExitStack, model: nn.Module, group: Group) -> None:
        assert group.site is not None
        module, _ = owner_of(model, group.site.name)
        view = token_view(module)
        if group.kind == "slices" and (view is None or group.site.tensor.dim() < 2):
            return  # of coupled units, only what has inputs is heard
        if view is None:
            raise SubjectError(
                f"{type(module).__name__} has no view of its inputs as tokens",
                where=f"group {group.name!r}",
                mend="leave it out with exclude=[...], or use a score that reads weights or gradients",
            )
        listener: Listener = partial(self._hear, group, view, module)

        def listen(_: nn.Module, inputs: tuple[Any, ...], outputs: Any) -> None:
            listener(inputs[0], outputs)

        hooks.callback(module.register_forward_hook(listen).remove)
        self._at.setdefault(module, []).append((group.name, listener))
        self._listening.add(group.name)

    def _event(self, view: View, inputs: Tensor, outputs: Tensor) -> Forward:
        tokens, inputs, outputs = self._tokens, inputs.detach(), outputs.detach()
        if tokens is not None and inputs.shape[:-1] == tokens.shape == outputs.shape[:-1]:
            tokens = tokens.to(inputs.device)  # parts of a model may be on several
            return Forward(inputs[tokens], outputs[tokens], samples=len(tokens))
        return Forward(_rows(view.inputs(inputs)), _rows(view.outputs(outputs)), samples=len(outputs))


def _rows(x: Tensor) -> Tensor:
    return x.reshape(-1, x.shape[-1])


def token_mask(batch: Any) -> Tensor | None:
    """Where a batch has tokens and no padding, `[batch, time]`; None where it does not tell."""
    mask = batch.get("attention_mask") if isinstance(batch, Mapping) else None
    told = isinstance(mask, Tensor) and mask.dim() == 2
    return mask.bool() if told and not bool(mask.all()) else None  # type: ignore[union-attr]


def _together() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def _check_alike(keys: Iterable[str]) -> None:
    """Raise `NumericsError` on every process unless all of them heard the same layers."""
    if not _together():
        return
    digest = hashlib.sha256("\n".join(keys).encode()).digest()[:8]
    mine = torch.tensor([int.from_bytes(digest, "big") >> 1])
    found = [torch.empty_like(mine) for _ in range(dist.get_world_size())]
    dist.all_gather(found, mine)
    if any(not torch.equal(one, mine) for one in found):
        raise NumericsError(
            "layers ran in one process and not in another, so their statistics cannot be put together",
            where=f"process {dist.get_rank()} of {dist.get_world_size()}",
            mend="more calibration data for each process, or one process",
        )


def _of_all_processes(statistic: Statistic, state: State) -> State:
    """The states of all processes merged, in the order of their ranks."""
    if not _together():
        return state
    parts: list[dict[str, Tensor]] = [{} for _ in range(dist.get_world_size())]
    for name, tensor in state.items():
        found = [torch.empty_like(tensor) for _ in parts]
        dist.all_gather(found, tensor.contiguous())
        for part, one in zip(parts, found, strict=True):
            part[name] = one
    merged = parts[0]
    for part in parts[1:]:
        merged = statistic.merge(merged, part)
    return merged
