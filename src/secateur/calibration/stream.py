"""A model run one part at a time over all batches, so that a part can be pruned before the next one hears its outputs.

Peak memory beside the model is one set of activations (or one batch of them, where they lie on disk) and what is heard
of one part. Between parts nothing but the activations flows: each block's other arguments (masks, positions) are taken
from the model's own forward, which runs once with blocks that only note what they are given.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.utils._pytree import TreeSpec, tree_flatten, tree_unflatten

from secateur.core import Group, NumericsError, Passes, Space, Statistic, SubjectError, device_of, replaced, to_device
from secateur.core.progress import report
from secateur.core.task import in_eval_mode

from .activations import Activations
from .chain import Block, Chain, Layout, layout_of
from .ending import Ending
from .listen import Ear, Key, token_mask
from .quiet import without_cache

Place = tuple[int, int]
Propagation = Literal["pruned", "dense"]


@runtime_checkable
class Residency(Protocol):
    """Where the weights are while parts run: always there, or read when a part needs them."""

    def block(self, path: str) -> AbstractContextManager[None]:
        """The weights of one block are there meanwhile."""
        ...

    def around(self) -> AbstractContextManager[None]:
        """The weights of whatever runs outside blocks are there meanwhile."""
        ...


class InMemory(Residency):
    """All weights are always there."""

    def block(self, path: str) -> AbstractContextManager[None]:
        return nullcontext()

    def around(self) -> AbstractContextManager[None]:
        return nullcontext()


@dataclass(frozen=True, eq=False)
class Part:
    """What is pruned at once: a block, or what lies around the chains.

    Attributes:
        name: the block's path, or "around".
        place: of the block in the layout.
        space: its groups, the ones of the whole space.
    """

    name: str
    place: Place
    space: Space


def parts_of(space: Space, layout: Layout, stages: bool = False) -> list[Part]:
    """The groups of a space by the part of the model that they lie in, in the order of the pass.

    Args:
        stages: whether a block falls into parts where its layers follow each other; those that are given the same
            tensor are one part.
    """
    found: dict[tuple[Place, int], list[Group]] = {}
    for group in space:
        owners = [leaf.name.rpartition(".")[0] for leaf in group.leaves]
        place = max(layout.place_of(name) for name in owners)
        stage = max(_stage(layout, name) for name in owners) if stages and place[1] >= 0 else 0
        found.setdefault((place, stage), []).append(group)
    made = []
    for place, stage in sorted(found):
        chain, at = place
        name = layout.chains[chain].paths[at] if at >= 0 else "around"
        made.append(Part(name, place, Space(tuple(found[place, stage]), space.skipped, space.totals)))
    return made


def _stage(layout: Layout, path: str) -> int:
    """When the first module ran that was given what this one was given."""
    given = layout.inputs.get(path)
    return min((layout.order[other] for other, number in layout.inputs.items() if number == given), default=-1)


Act = Callable[[Part, dict[Key, Tensor], Passes | None], None]
"""Is given a part, what was heard of it, and the block that it lies in, where what that gave is remembered."""


class _Stop(Exception):
    """The last block of a chain was reached: what comes after it is not needed."""


@dataclass(frozen=True, eq=False)
class BlockPasses(Passes):
    """One block of a stream, as recoveries see it that heal block by block.

    Attributes:
        masks: where each batch has tokens; None where it does not tell.
        now: runs the block on a batch.
        gave: what it gave before its units went.
    """

    path: str
    block: nn.Module
    masks: Sequence[Tensor | None]
    now: Callable[[int], Tensor]
    gave: Activations

    def __len__(self) -> int:
        return len(self.masks)

    def pair(self, batch: int) -> tuple[Tensor, Tensor]:
        """See `secateur.core.Passes`. Raises `SubjectError` where the block gives another shape than before."""
        now, gave, mask = self.now(batch), self.gave[batch], self.masks[batch]
        if now.shape != gave.shape:
            raise SubjectError(
                f"it gives {tuple(now.shape)} and gave {tuple(gave.shape)}",
                where=f"block {self.path!r}",
                mend="heal it as a whole: fine-tuning",
            )
        if mask is None or now.shape[: mask.dim()] != mask.shape:
            return now, gave
        mask = mask.to(now.device)
        return now[mask], gave[mask]


@dataclass(eq=False)
class _Flow:
    """What a chain's blocks are given and give, batch by batch; `entry` is where the first block takes its input."""

    main: Activations
    gave: Activations
    entry: int = 0
    others: list[dict[int, Any]] = field(default_factory=list)
    arguments: list[list[tuple[TreeSpec, list[Any]]]] = field(default_factory=list)
    known: dict[tuple[int, int], Tensor] = field(default_factory=dict)


class Stream:
    """Runs a model part by part.

    Args:
        model: in place; its modes, hooks and configs are as before afterwards.
        layout: of the model.
        call: `(model, batch) -> outputs`.
        batches: all of them, again and again in the same order.
        folder: where activations lie on disk; None keeps them in memory.
        residency: where the weights are.
    """

    def __init__(
        self,
        model: nn.Module,
        layout: Layout,
        call: Callable[[nn.Module, Any], Any],
        batches: Sequence[Any],
        folder: Path | None = None,
        residency: Residency | None = None,
        device: torch.device | None = None,
    ) -> None:
        self._model, self._layout, self._call, self._batches = model, layout, call, batches
        self._folder, self._residency = folder, residency or InMemory()
        self._device = device or device_of(model)
        self._flows: list[_Flow] = []
        self._at = 0

    @torch.no_grad()
    def run(
        self,
        parts: Sequence[Part],
        statistics: Iterable[Statistic],
        act: Act,
        propagation: Propagation = "pruned",
        remember: bool = False,
        unheard: Collection[Place] = (),
    ) -> None:
        """Hear each part, act on it, go on to the next.

        Args:
            parts: where something is heard and done; the others are only passed.
            statistics: of inputs and outputs of layers.
            act: is given the part and what was heard, and may change the part's weights in place.
            propagation: whether a part hears what the parts before it gave after `act` ("pruned"), or before.
            remember: whether `act` is told what a block gave before its first part was acted on.
            unheard: where parts are acted on and nothing is heard, because it is known what becomes of them; for
                "pruned" propagation.

        Raises:
            NumericsError: a block gives something that is not finite; names the module where it begins.
        """
        wanted: dict[Place, list[Part]] = {}
        for part in parts:
            wanted.setdefault(part.place, []).append(part)
        statistics, last = tuple(statistics), max(wanted, default=(-1, -1))
        try:
            with in_eval_mode(self._model), without_cache(self._model):
                for number in range(len(self._layout.chains) + 1):
                    for around in wanted.get((number, -1), ()):
                        if around.place in unheard:
                            act(around, {}, None)
                            continue
                        ear = Ear(around.space.leaves(), statistics)
                        with ear.listening(self._model):
                            self._through(number, ear)
                        act(around, ear.values(), None)
                    if last <= (number, -1):
                        return
                    self._through(number)
                    self._chain(number, wanted, last, statistics, act, propagation, remember, unheard)
        finally:
            self._forget()

    @torch.no_grad()
    def check(self) -> None:
        """Hold what blocks are given on the first batch against what they were given when the layout was made."""
        try:
            with in_eval_mode(self._model), without_cache(self._model):
                for number, chain in enumerate(self._layout.chains):
                    self._through(number)
                    for at, block in enumerate(chain.blocks):
                        _, leaves = self._flows[number].arguments[0][at]
                        strange = _first_other(leaves, block, at, self._flows[number].entry)
                        if strange is not None:
                            raise SubjectError(
                                f"argument {strange} comes from blocks before it in another way than its input",
                                where=f"block {block.path!r}",
                                mend='propagation="whole"',
                            )
                        self._pass(number, at, None, keep=True)
        finally:
            self._forget()

    def _forget(self) -> None:
        for flow in self._flows:
            flow.main.clear()
            flow.gave.clear()
        self._flows.clear()

    def _chain(
        self,
        number: int,
        wanted: Mapping[Place, list[Part]],
        last: Place,
        statistics: tuple[Statistic, ...],
        act: Act,
        propagation: Propagation,
        remember: bool,
        unheard: Collection[Place],
    ) -> None:
        chain = self._layout.chains[number]
        for at, block in enumerate(chain.blocks):
            here = wanted.get((number, at), [])
            gave = self._flows[number].gave if remember else None
            with self._residency.block(block.path):
                for part in here:
                    if part.place in unheard:
                        act(part, {}, None)
                        continue
                    ear = Ear(part.space.leaves(), statistics)
                    goes_on = propagation == "dense" and (number, at) < last and part is here[-1]
                    with ear.listening(self._model):
                        self._pass(number, at, ear, keep=goes_on, gave=gave if part is here[0] else None)
                    act(part, ear.values(), None if gave is None else self._passes(number, at, gave))
                if (number, at) == last:
                    return
                if not here or propagation == "pruned":
                    self._pass(number, at, None, keep=True)

    def _pass(self, number: int, at: int, ear: Ear | None, keep: bool, gave: Activations | None = None) -> None:
        """All batches through one block; what it gives is kept for the next one, or as what it gave."""
        flow, chain = self._flows[number], self._layout.chains[number]
        block = self._model.get_submodule(chain.paths[at])
        ending = None if ear is None or keep or gave is not None else Ending(block, ear)
        for i, batch in enumerate(self._batches):
            if ear is not None:
                ear.next_batch(_on(token_mask(batch), self._device))
            args, kwargs = self._arguments(flow, chain, at, i)
            with nullcontext() if ending is None else ending.passing():  # or else it gives something
                leaves, _ = tree_flatten(block(*args, **kwargs))
                _check_finite(block, chain.paths[at], args, kwargs, leaves)
                if gave is not None:
                    gave[i] = leaves[_main(chain, at)]
                if keep:
                    self._keep(flow, chain, at, i, leaves)
            report(f"{'hearing' if ear else 'passing'} {chain.paths[at]}", i + 1, len(self._batches))

    def _passes(self, number: int, at: int, gave: Activations) -> Passes:
        flow, chain = self._flows[number], self._layout.chains[number]
        path, main = chain.paths[at], _main(chain, at)
        block = self._model.get_submodule(path)

        def now(batch: int) -> Tensor:
            args, kwargs = self._arguments(flow, chain, at, batch)
            found = tree_flatten(block(*args, **kwargs))[0][main]
            assert isinstance(found, Tensor)
            return found

        return BlockPasses(path, block, [token_mask(batch) for batch in self._batches], now, gave)

    def _arguments(self, flow: _Flow, chain: Chain, at: int, batch: int) -> tuple[Any, Any]:
        spec, leaves = flow.arguments[batch][at]
        leaves = list(leaves)
        main = _main(chain, at - 1)
        for place, k in (chain.blocks[at].carried if at else {flow.entry: 0}).items():
            leaves[place] = flow.main[batch] if k == main else flow.others[batch][k]
        if chain.blocks[at].changes:  # what is given more than once
            leaves = [leaf.clone() if isinstance(leaf, Tensor) else leaf for leaf in leaves]
        args, kwargs = tree_unflatten(leaves, spec)
        return args, kwargs

    def _keep(self, flow: _Flow, chain: Chain, at: int, batch: int, leaves: list[Any]) -> None:
        main = _main(chain, at)
        flow.main[batch] = leaves[main]
        final = at + 1 == len(chain.blocks)
        used = range(len(leaves)) if final else set(chain.blocks[at + 1].carried.values())
        kept = {k: leaves[k] for k in used if k != main}
        before = flow.others[batch - 1] if batch else {}
        flow.others[batch] = {k: _one_of(before.get(k), leaf) for k, leaf in kept.items()}

    def _through(self, number: int, ear: Ear | None = None) -> None:
        """All batches through the model around the chains, up to the end of one; its blocks note what they get."""
        chains = self._layout.chains
        begins = number < len(chains)
        if begins:
            del self._flows[number:]
            folder = None if self._folder is None else self._folder / f"chain-{number}"
            self._flows.append(_Flow(Activations(folder), Activations(folder and folder / "gave")))
        forwards: dict[str, Callable[..., Any]] = {}
        for done in range(number):
            for at, block in enumerate(chains[done].blocks):
                forwards[block.path] = self._given(done, at, block)
        for at, block in enumerate(chains[number].blocks if begins else ()):
            forwards[block.path] = self._noting(number, at, block)
        with replaced(self._model, forwards), self._residency.around():
            for i, batch in enumerate(self._batches):
                self._at = i
                if ear is not None:
                    ear.next_batch(_on(token_mask(batch), self._device))
                if begins:
                    self._flows[number].arguments.append([])
                    self._flows[number].others.append({})
                with suppress(_Stop):
                    self._call(self._model, to_device(batch, self._device))
                report("reading inputs", i + 1, len(self._batches))

    def _given(self, number: int, at: int, block: Block) -> Callable[..., Any]:
        """What a block of a finished chain gave; those before the last give anything, for nothing reads it."""
        chain, flow = self._layout.chains[number], self._flows[number]

        def forward(*args: Any, **kwargs: Any) -> Any:
            if at + 1 < len(chain.blocks):
                return _anything(block, tree_flatten((args, kwargs))[0])
            leaves = {**flow.others[self._at], _main(chain, at): flow.main[self._at]}
            return tree_unflatten([leaves[k] for k in range(len(leaves))], block.gives)

        return forward

    def _noting(self, number: int, at: int, block: Block) -> Callable[..., Any]:
        chain, flow = self._layout.chains[number], self._flows[number]

        def forward(*args: Any, **kwargs: Any) -> Any:
            leaves, spec = tree_flatten((args, kwargs))
            kept = list(leaves)
            if at == 0:
                flow.entry = next(k for k, leaf in enumerate(leaves) if isinstance(leaf, Tensor))
                flow.main[self._at] = leaves[flow.entry]
            for place in block.carried if at else (flow.entry,):
                kept[place] = None
            for place, leaf in enumerate(kept):
                if isinstance(leaf, Tensor):
                    kept[place] = flow.known[at, place] = _one_of(flow.known.get((at, place)), leaf)
            flow.arguments[self._at].append((spec, kept))
            if at + 1 == len(chain.blocks):
                raise _Stop
            return _anything(block, leaves)

        return forward


def checked_layout(
    model: nn.Module, call: Callable[[nn.Module], Any], sample: Any, device: torch.device | None = None
) -> Layout:
    """The layout of a model, proven on one sample: its blocks are given by the stream what they are given without.

    Args:
        call: runs the model on the sample.

    Raises:
        SubjectError: it does not run, or its blocks take more from blocks before them than what flows.
    """
    layout = layout_of(model, call)
    stream = Stream(model, layout, lambda m, _: call(m), [sample], device=device)
    stream.check()
    return layout


def _first_other(leaves: list[Any], block: Block, at: int, entry: int) -> int | None:
    """The first argument that is not what it was, among those that do not flow."""
    for place, (mine, was) in enumerate(zip(leaves, block.given, strict=True)):
        flows = place in block.carried if at else place == entry
        if flows or mine is was or not isinstance(was, Tensor):
            continue
        if mine.shape != was.shape or not (was.is_meta or torch.equal(mine, was)):
            return place
    return None


def _main(chain: Chain, at: int) -> int:
    """Which of the things that a block gives is the activation; of the last block the first tensor."""
    if at < 0:
        return 0
    if at + 1 < len(chain.blocks):
        carried = chain.blocks[at + 1].carried
        return carried[min(carried)]
    return next(k for k, leaf in enumerate(chain.blocks[at].leaves) if isinstance(leaf, torch.Size))


def _one_of(known: Any, leaf: Any) -> Any:
    """The tensor that is known already, where the other is equal to it: masks and positions are held once."""
    if not isinstance(leaf, Tensor) or not isinstance(known, Tensor) or known is leaf or leaf.is_meta:
        return leaf
    alike = known.shape == leaf.shape and known.dtype == leaf.dtype and torch.equal(known, leaf)
    return known if alike else leaf


def _anything(block: Block, leaves: list[Any]) -> Any:
    """Something in the form of what a block gives."""
    first = next(leaf for leaf in leaves if isinstance(leaf, Tensor))
    made = []
    for leaf in block.leaves:
        if not isinstance(leaf, torch.Size):
            made.append(leaf)
        else:
            made.append(first if first.shape[1:] == leaf[1:] else first.new_zeros(leaf))
    return tree_unflatten(made, block.gives)


def _on(mask: Tensor | None, device: torch.device) -> Tensor | None:
    return None if mask is None else mask.to(device)


def _check_finite(block: nn.Module, path: str, args: Any, kwargs: Any, leaves: list[Any]) -> None:
    floats = [x for x in leaves if isinstance(x, Tensor) and x.is_floating_point() and not x.is_meta]
    broken = [x for x in floats if not bool(x.sum().isfinite())]
    if not any(not bool(x.isfinite().all()) for x in broken):  # a sum may overflow where nothing else does
        return
    raise NumericsError(
        "activations are NaN or infinite",
        where=f"what {_first_broken(block, path, args, kwargs)!r} gives",
        mend="check its weights and the calibration data, or run in float32",
    )


def _first_broken(block: nn.Module, path: str, args: Any, kwargs: Any) -> str:
    """The first module inside a block whose output is not finite."""
    found: list[str] = []

    def look(name: str) -> Callable[..., None]:
        def hook(_: nn.Module, __: Any, given: Any) -> None:
            tensors = [t for t in tree_flatten(given)[0] if isinstance(t, Tensor) and t.is_floating_point()]
            if any(not bool(t.isfinite().all()) for t in tensors):
                found.append(name)

        return hook

    handles = [m.register_forward_hook(look(name)) for name, m in block.named_modules() if name]
    try:
        block(*args, **kwargs)
    finally:
        for handle in handles:
            handle.remove()
    return f"{path}.{found[0]}" if found else path
