"""Which modules of a model follow each other, so that it can be run one at a time; no name and no family is known.

The model runs once on an example. Modules form a chain where each is given, as its first tensor, the very tensor that
the one before it gave back, so that nothing happens between them. The blocks of a transformer are such a chain, and so
are the stages of a convolutional network. Encoders and decoders are chains of their own.
"""

from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import TreeSpec, tree_flatten
from torch.utils.weak import WeakIdKeyDictionary

from secateur.core import SubjectError
from secateur.core.task import in_eval_mode

from .quiet import without_cache

_MOST, _LEAST = 0.8, 0.05
_TABLES = (nn.Embedding, nn.EmbeddingBag)


@dataclass(frozen=True, eq=False)
class Block:
    """A link of a chain.

    Attributes:
        path: of the module.
        carried: for each leaf of its arguments that the block before gives, the place of the leaf among what that
            block gives back; empty for the first block.
        gives: how what it gives back is put together, and
        leaves: of what: the shape of a tensor on the example, or the thing itself.
        given: what the example gave it, flat; None for what flows.
        changes: whether it changes in place what it is given, as `x += branch(x)` does.
    """

    path: str
    carried: dict[int, int]
    gives: TreeSpec
    leaves: tuple[Any, ...]
    given: tuple[Any, ...]
    changes: bool


@dataclass(frozen=True, eq=False)
class Chain:
    """Modules that follow each other, in the order of the pass."""

    blocks: tuple[Block, ...]

    @property
    def paths(self) -> tuple[str, ...]:
        """Of the modules."""
        return tuple(block.path for block in self.blocks)


@dataclass(frozen=True, eq=False)
class _Seen:
    """Stands for one tensor as it was at one time, which need not live on: what a model computes is not kept."""

    shape: torch.Size
    floating: bool


@dataclass(eq=False)
class _Call:
    path: str
    module: nn.Module
    inputs: list[Any]
    inside: list["_Call"] = field(default_factory=list)
    outputs: list[Any] = field(default_factory=list)
    gives: TreeSpec | None = None

    @property
    def first(self) -> _Seen | None:
        return next((leaf for leaf in self.inputs if isinstance(leaf, _Seen)), None)


@dataclass(frozen=True, eq=False)
class Layout:
    """How a model is run in parts: its chains in the order of the pass, and what lies around them.

    Attributes:
        chains: may be empty, where nothing follows anything.
        order: when each module was first called, counted from 0.
        inputs: which tensor each module was given first, by number: those of one number were given the same.
    """

    chains: tuple[Chain, ...]
    order: dict[str, int]
    inputs: dict[str, int]

    def place_of(self, path: str) -> tuple[int, int]:
        """Where a module runs: `(chain, block)`; `(chain, -1)` for what runs before that chain, or after them all."""
        for number, chain in enumerate(self.chains):
            for at, block in enumerate(chain.paths):
                if path == block or path.startswith(f"{block}."):
                    return number, at
        when = self.order.get(path, -1)
        ended = [self.order[chain.paths[-1]] < when for chain in self.chains]
        return (ended.index(False) if False in ended else len(ended)), -1


def layout_of(model: nn.Module, call: Any) -> Layout:
    """The chains of a model.

    Args:
        call: runs the model on an example, as `lambda model: model(x)`.

    Raises:
        SubjectError: the model does not run on the example.
    """
    root = _recorded(model, call)
    sizes = {path: _weight(module) for path, module in model.named_modules()}
    times = Counter(each.path for each in _walk(root))
    once = {path for path, n in times.items() if n == 1}
    order: dict[str, int] = {}
    inputs: dict[str, int] = {}
    tensors: dict[int, int] = {}
    for each in _walk(root):
        order.setdefault(each.path, len(order))
        inputs.setdefault(each.path, tensors.setdefault(id(each.first), len(tensors)))
    found = [c for c in _chains(root, sizes, once) if sum(sizes[x.path] for x in c) > _LEAST * sizes[""]]
    given, changing = _given(model, call, [link.path for links in found for link in links])
    return Layout(tuple(Chain(tuple(_blocks(links, given, changing))) for links in found), order, inputs)


def _weight(module: nn.Module) -> int:
    """Parameters, without those of tables of embeddings: small models hold little else."""
    tables = {id(p) for m in module.modules() if isinstance(m, _TABLES) for p in m.parameters()}
    return sum(p.numel() for p in module.parameters() if id(p) not in tables)


def _recorded(model: nn.Module, call: Any) -> _Call:
    """The calls of modules in one pass, nested as they ran."""
    root = _Call("", model, [])
    open_calls = [root]
    handles: list[Any] = []
    known: Any = WeakIdKeyDictionary()

    def seen(leaf: Any) -> Any:
        if not isinstance(leaf, Tensor):
            return leaf
        times = known.setdefault(leaf, {})  # changed in place, it is another one
        return times.setdefault(leaf._version, _Seen(leaf.shape, leaf.is_floating_point()))

    for path, module in model.named_modules():
        if not path:
            continue

        def enter(module: nn.Module, args: Any, kwargs: Any, path: str = path) -> None:
            made = _Call(path, module, [seen(leaf) for leaf in tree_flatten((args, kwargs))[0]])
            open_calls[-1].inside.append(made)
            open_calls.append(made)

        def leave(_: nn.Module, __: Any, ___: Any, given: Any) -> None:
            made = open_calls.pop()
            leaves, made.gives = tree_flatten(given)
            made.outputs = [seen(leaf) for leaf in leaves]

        handles.append(module.register_forward_pre_hook(enter, with_kwargs=True))
        handles.append(module.register_forward_hook(leave, with_kwargs=True))
    _run(model, call, handles)
    return root


def _given(model: nn.Module, call: Any, paths: Iterable[str]) -> tuple[dict[str, list[Any]], set[str]]:
    """What modules are given in a pass, flat, and which of them change that in place."""
    found: dict[str, list[Any]] = {}
    changing: set[str] = set()
    times: list[int] = []
    handles: list[Any] = []
    for path in paths:

        def enter(_: nn.Module, args: Any, kwargs: Any, path: str = path) -> None:
            leaves = tree_flatten((args, kwargs))[0]
            first = next((leaf for leaf in leaves if isinstance(leaf, Tensor)), None)
            found[path] = [None if leaf is first else leaf for leaf in leaves]
            times[:] = versions(leaves)

        def leave(_: nn.Module, args: Any, kwargs: Any, __: Any, path: str = path) -> None:
            if versions(tree_flatten((args, kwargs))[0]) != times:
                changing.add(path)

        module = model.get_submodule(path)
        handles.append(module.register_forward_pre_hook(enter, with_kwargs=True))
        handles.append(module.register_forward_hook(leave, with_kwargs=True))
    _run(model, call, handles)
    return found, changing


def versions(leaves: Iterable[Any]) -> list[int]:
    """How often each tensor was changed in place."""
    return [leaf._version for leaf in leaves if isinstance(leaf, Tensor)]


def _run(model: nn.Module, call: Any, handles: list[Any]) -> None:
    """Run the model and remove the hooks."""
    try:
        with torch.no_grad(), in_eval_mode(model), without_cache(model):
            call(model)
    except (TypeError, ValueError, RuntimeError, IndexError, KeyError) as error:
        raise SubjectError(
            f"the model does not run on the example: {error}",
            where=type(model).__name__,
            mend="give a task whose batches the model takes",
        ) from error
    finally:
        for handle in handles:
            handle.remove()


def _walk(call: _Call) -> Iterator[_Call]:
    for inner in call.inside:
        yield inner
        yield from _walk(inner)


def _chains(call: _Call, sizes: dict[str, int], once: set[str]) -> list[list[_Call]]:
    """The chains inside a call, in the order of the pass."""

    def held(calls: Iterable[_Call]) -> int:
        return sum(sizes[c.path] for c in calls)

    found = []
    for run in _runs([c for c in call.inside if not _is_table(c)], once):
        links = _trimmed([part for c in run for part in _parts(c, sizes, once)], sizes)
        whole = len(links) > 1
        if whole and all(2 * sizes[c.path] <= held(links) for c in links):
            found.append(links)
            continue
        finer = [chain for c in run if sizes[c.path] for chain in _chains(c, sizes, once)]
        # where one link is nearly everything its own parts are better, if they are enough
        enough = held(c for chain in finer for c in chain) > _MOST * held(links)
        found += finer if enough or not whole else [links]
    return found


def _is_table(call: _Call) -> bool:
    """Whether it looks things up, as embeddings do."""
    looks = call.first is not None and not call.first.floating and not call.inside
    return looks or isinstance(call.module, _TABLES)


def _runs(calls: list[_Call], once: set[str]) -> list[list[_Call]]:
    """Calls of which each takes what the one before gave, and nothing of those before that; of modules called once."""
    begun: list[list[_Call]] = []
    for call in (c for c in calls if c.path in once):
        for run in begun:
            if _follows(call, run[-1]) and not _takes(call, run):
                run.append(call)
                break
        else:
            begun.append([call])
    return begun


def _follows(call: _Call, before: _Call) -> bool:
    return call.first is not None and any(call.first is leaf for leaf in before.outputs)


def _takes(call: _Call, run: list[_Call]) -> bool:
    """Whether it takes what an earlier call gave and the last one did not pass on."""
    earlier = [given for c in run[:-1] for given in c.outputs if isinstance(given, _Seen)]
    passed = [given for given in run[-1].outputs if isinstance(given, _Seen)]
    mine = [leaf for leaf in call.inputs if isinstance(leaf, _Seen) and not any(leaf is given for given in passed)]
    return any(leaf is given for leaf in mine for given in earlier)


def _parts(call: _Call, sizes: dict[str, int], once: set[str]) -> list[_Call]:
    """The children of a call, where they are a chain from its input to its output and hold all its parameters."""
    for run in _runs(call.inside, once):
        through = run[0].first is call.first and _same(run[-1].outputs, call.outputs)
        if len(run) > 1 and through and sum(sizes[c.path] for c in run) == sizes[call.path]:
            return [part for c in run for part in _parts(c, sizes, once)]
    return [call]


def _same(some: list[Any], others: list[Any]) -> bool:
    return len(some) == len(others) and all(a is b for a, b in zip(some, others, strict=True))


def _trimmed(links: list[_Call], sizes: dict[str, int]) -> list[_Call]:
    """Without tables of embeddings at the beginning and without what has no parameters at either end."""
    while links and (not sizes[links[0].path] or links[0].first is None or not links[0].first.floating):
        links = links[1:]
    while links and not sizes[links[-1].path]:
        links = links[:-1]
    return links


def _blocks(links: list[_Call], given: Mapping[str, list[Any]], changing: Container[str]) -> Iterator[Block]:
    before: _Call | None = None
    for link in links:
        carried = {}
        for place, leaf in enumerate(link.inputs if before is not None else ()):
            assert before is not None
            found = next((k for k, o in enumerate(before.outputs) if o is leaf and isinstance(o, _Seen)), None)
            if found is not None:
                carried[place] = found
        assert link.gives is not None
        leaves = tuple(leaf.shape if isinstance(leaf, _Seen) else leaf for leaf in link.outputs)
        outside = tuple(None if place in carried else leaf for place, leaf in enumerate(given[link.path]))
        yield Block(link.path, carried, link.gives, leaves, outside, link.path in changing)
        before = link
