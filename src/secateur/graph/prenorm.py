"""How a transformer with norms before its branches is put together: no name and no family is known.

Every block is watched while the model runs once. What reads the stream must be a norm; what reads the norm must be
linear layers; what is added to the stream must come from a linear layer. Anything else is named and refused.
"""

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from secateur.core import Branch, SubjectError, is_transposed, replaced
from secateur.core.task import in_eval_mode

from .layers import layers_of
from .norms import NormForm, norm_form
from .switches import without_cache

Call = Callable[[Any], Any]
_MEND = 'slice a model whose blocks compute x + branch(norm(x)), or cut heads and hidden units: "flap"'


@dataclass(frozen=True)
class Step:
    """One sum: the branches that are added to the stream at once.

    Attributes:
        norms: paths of the norms that read the stream.
        readers: linear layers that read the norms, by norm.
        writers: linear layers whose outputs are added.
    """

    branches: tuple[Branch, ...]
    norms: tuple[str, ...]
    readers: Mapping[str, tuple[str, ...]]
    writers: tuple[str, ...]


@dataclass(frozen=True)
class SumBlock:
    """A block, which adds to the stream step by step."""

    path: str
    steps: tuple[Step, ...]


@dataclass(frozen=True, eq=False)
class PreNorm:
    """The stream of a model, from what writes it first to what reads it last.

    Attributes:
        width: of the stream.
        entries: embeddings and linear layers whose sum the first block is given, up to a factor.
        blocks: in the order of the pass.
        norm: the norm behind the last block.
        heads: linear layers that read it.
        forms: of all norms, by path.
        even: whether the model's own code takes the width of the beginning for that of the end, as GPT-2's does.
    """

    width: int
    entries: tuple[str, ...]
    blocks: tuple[SumBlock, ...]
    norm: str
    heads: tuple[str, ...]
    forms: Mapping[str, NormForm]
    even: bool = False


Check = Callable[[SumBlock, Mapping[str, NormForm], tuple[Any, ...], dict[str, Any], Tensor], None]


def is_linear(module: nn.Module) -> bool:
    """Whether it is a linear layer, stored either way round."""
    return isinstance(module, nn.Linear) or is_transposed(module)


def prenorm_of(model: nn.Module, call: Call, check: Check | None = None) -> PreNorm:
    """How the model's stream is written and read.

    Args:
        call: runs the model on an example, as `lambda model: model(x)`.
        check: told each block with what it was given and gave; may raise.

    Raises:
        SubjectError: the model is not of that form; says where.
    """
    paths = _block_paths(model, call)
    watch = _Watch(model, paths, check)
    with torch.no_grad(), in_eval_mode(model), without_cache(model), watch.watching():
        call(model)
    found = watch.found()
    _check_apart(model, found)
    with torch.no_grad(), in_eval_mode(model), without_cache(model):
        _check_entries(model, call, found)
        return replace(found, even=_is_even(model, call, found))


def refused(what: str, where: str) -> SubjectError:
    """A model whose stream cannot be rotated."""
    return SubjectError(f"not rotatable: {what}", where=where, mend=_MEND)


def _block_paths(model: nn.Module, call: Call) -> list[str]:
    found = layers_of(model, call)
    paths = [unit.module for units in found.blocks.values() for unit in units]
    lists = {path.rpartition(".")[0] for path in paths}
    if not paths:
        raise refused("there are no residual blocks", type(model).__name__)
    if len(lists) > 1:
        raise refused(f"there are several streams, in {', '.join(sorted(lists))}", type(model).__name__)
    if found.skipped:
        path, why = next(iter(found.skipped.items()))
        raise refused(f"{path}: {why}", type(model).__name__)
    return paths


@dataclass(eq=False)
class _Heard:
    """One call of a module; holds its tensors, so that no other one lies where they lie."""

    path: str
    module: nn.Module
    given: Tensor
    told: dict[str, Any]
    gave: Tensor


def _same(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors are the same numbers in memory, whatever their shapes."""
    return a is b or (a.numel() == b.numel() and a.data_ptr() == b.data_ptr() and a.dtype == b.dtype)


def _first(thing: Any) -> Tensor | None:
    return next((leaf for leaf in tree_leaves(thing) if isinstance(leaf, Tensor)), None)


def _told(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """What a module is given, by name; the first thing is left out, because it is the stream or comes of it."""
    names = list(inspect.signature(type(module).forward).parameters)[1:]
    named = {**dict(zip(names, args, strict=False)), **kwargs}
    first = next((name for name, value in named.items() if isinstance(value, Tensor)), None)
    return {name: value for name, value in named.items() if name != first}


class _Watch:
    """Looks at one block after another while the model runs."""

    def __init__(self, model: nn.Module, paths: list[str], check: Check | None) -> None:
        self._model, self._paths, self._check = model, paths, check
        self._heard: list[_Heard] | None = None
        self._blocks: dict[str, SumBlock] = {}
        self._forms: dict[str, NormForm] = {}
        self._ends: list[tuple[Tensor, Tensor]] = []
        self._after: list[_Heard] = []
        self._before: set[str] = set()

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Blocks are looked at meanwhile."""
        inside = tuple(f"{path}." for path in self._paths)
        with ExitStack() as hooks:
            for path, module in self._model.named_modules():
                if path in self._paths:
                    hooks.callback(module.register_forward_pre_hook(self._entering(), with_kwargs=True).remove)
                    hooks.callback(module.register_forward_hook(self._leaving(path), with_kwargs=True).remove)
                elif path.startswith(inside):
                    hooks.callback(module.register_forward_hook(self._hearing(path), with_kwargs=True).remove)
                elif path and not any(p.startswith(f"{path}.") for p in self._paths):
                    hooks.callback(module.register_forward_hook(self._behind(path), with_kwargs=True).remove)
            yield

    def _entering(self) -> Callable[..., None]:
        def hook(*_: Any) -> None:
            self._heard = []

        return hook

    def _hearing(self, path: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
            given, gave = _first((args, kwargs)), _first(output)
            if self._heard is not None and given is not None and gave is not None:
                self._heard.append(_Heard(path, module, given, _told(module, args, kwargs), gave))

        return hook

    def _behind(self, path: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
            given, gave = _first((args, kwargs)), _first(output)
            if not self._blocks:
                self._before.add(path)
            if len(self._blocks) == len(self._paths) and given is not None and gave is not None:
                self._after.append(_Heard(path, module, given, {}, gave))

        return hook

    def _leaving(self, path: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
            heard, self._heard = self._heard, None
            x = _first((args, kwargs))
            if heard is None or x is None or not isinstance(output, Tensor) or output.shape != x.shape:
                raise refused("it does not give back one tensor of the shape of its input", path)
            block = self._block(path, module, heard, x, _told(module, args, kwargs))
            if self._ends and not _same(self._ends[-1][1], x):
                raise refused("it is not given what the block before it gives", path)
            self._ends = [*self._ends[:1], (x, output)]
            if self._check is not None:
                self._check(block, self._forms, args, kwargs, output)
            self._blocks[path] = block

        return hook

    def _block(self, path: str, block: nn.Module, heard: list[_Heard], x: Tensor, told: dict[str, Any]) -> SumBlock:
        """Put together what ran: each child reads a norm of the stream, or what the child before it gave."""
        width, names = x.shape[-1], {id(m): n for n, m in block.named_children()}
        steps: list[tuple[Tensor, list[_Chain]]] = []
        norms: list[tuple[_Heard, Tensor]] = []
        for call in heard:
            if call.path.removeprefix(f"{path}.").count("."):
                continue
            chains = steps[-1][1] if steps else []
            behind = next((c for c in reversed(chains) if _same(c.calls[-1].gave, call.given)), None)
            form = norm_form(call.module, width)
            if behind is not None:
                if form is not None:
                    raise refused("a norm reads what a branch gives (a post-norm)", call.path)
                behind.calls.append(call)
                continue
            norm = next((n for n, _ in reversed(norms) if _same(n.gave, call.given)), None)
            if norm is not None and form is None:
                chains.append(_Chain(norm, [call]))
                continue
            if form is None:
                raise refused("it reads neither a norm of the stream nor what the layer before it gives", call.path)
            if not steps and not _same(call.given, x):
                raise refused("its input is not that of its block", call.path)
            self._forms[call.path] = form
            if not steps or not _same(steps[-1][0], call.given):
                steps.append((call.given, []))
            norms.append((call, call.given))
        made = []
        for _, chains in steps:
            made.append(self._step(path, chains, names, heard, told))
        if not made or any(not step.branches for step in made):
            raise refused("a norm of the stream is read by nothing that is added to it", path)
        return SumBlock(path, tuple(made))

    def _step(
        self,
        path: str,
        chains: "list[_Chain]",
        names: Mapping[int, str],
        heard: list[_Heard],
        told: dict[str, Any],
    ) -> Step:
        branches, writers = [], []
        readers: dict[str, tuple[str, ...]] = {}
        for chain in chains:
            for call in chain.calls[1:]:
                if any(isinstance(leaf, Tensor) for leaf in tree_leaves(call.told)):
                    raise refused("it is given more than what the layer before it gives", call.path)
            passes = _passes(chain.calls[0], told)
            branches.append(
                Branch(names[id(chain.norm.module)], tuple(names[id(c.module)] for c in chain.calls), passes)
            )
            inside = [c for c in heard if any(f"{c.path}.".startswith(f"{one.path}.") for one in chain.calls)]
            end = chain.calls[-1].gave
            wrote = [c.path for c in inside if is_linear(c.module) and _same(c.gave, end)]
            if len(wrote) != 1:
                raise refused("what it adds to the stream is not the output of one linear layer", chain.calls[-1].path)
            writers.append(wrote[0])
            read = [c for c in inside if _same(c.given, chain.norm.gave)]
            strange = [c.path for c in read if not is_linear(c.module) and _own(c.module)]
            if strange:
                raise refused("it reads a norm of the stream and is no linear layer", strange[0])
            mine = tuple(c.path for c in read if is_linear(c.module))
            readers[chain.norm.path] = (*readers.get(chain.norm.path, ()), *mine)
        return Step(tuple(branches), tuple(readers), readers, tuple(writers))

    def found(self) -> PreNorm:
        """All that was seen. Raises `SubjectError` where nothing reads the end of the stream in that way."""
        if len(self._blocks) != len(self._paths):
            missing = next(path for path in self._paths if path not in self._blocks)
            raise refused("it did not run", missing)
        start, end = self._ends[0][0], self._ends[-1][1]
        width = start.shape[-1]
        norm = next((c for c in self._after if _same(c.given, end)), None)
        form = None if norm is None else norm_form(norm.module, width)
        if norm is None or form is None:
            raise refused("the stream does not end in a norm", type(self._model).__name__)
        self._forms[norm.path] = form
        heads = tuple(c.path for c in self._after if _same(c.given, norm.gave) and is_linear(c.module))
        if not heads:
            raise refused("no linear layer reads the last norm: give a model with its head", norm.path)
        if len({form.centred for form in self._forms.values()}) > 1:
            raise refused("some norms subtract the mean and some do not", type(self._model).__name__)
        tables = [
            path
            for path, module in self._model.named_modules()
            if isinstance(module, nn.Embedding | nn.Linear) and _gives(module) == width and path in self._before
        ]
        return PreNorm(width, tuple(tables), tuple(self._blocks.values()), norm.path, heads, dict(self._forms))


@dataclass(eq=False)
class _Chain:
    norm: _Heard
    calls: list[_Heard] = field(default_factory=list)


def _own(module: nn.Module) -> bool:
    return next(module.parameters(recurse=False), None) is not None


def _gives(module: nn.Module) -> int:
    weight = module.weight
    assert isinstance(weight, Tensor)
    return weight.shape[1 if isinstance(module, nn.Embedding) else 0]


def _passes(call: _Heard, told: Mapping[str, Any]) -> tuple[str, ...]:
    """The block's own arguments that a module in it is given under the same name."""
    for name, value in call.told.items():
        known = told.get(name)
        plain = value is None or isinstance(value, bool | int | float | str)
        if value is not known and not (plain and (name not in told or value == known)):
            raise refused(f"its argument {name!r} is not one of its block", call.path)
    return tuple(name for name in call.told if name in told or call.told[name] is None)


def _check_apart(model: nn.Module, found: PreNorm) -> None:
    """Every weight that is to be rotated is there once, but for a head that is an embedding."""
    seen: dict[int, str] = {}
    steps = [step for block in found.blocks for step in block.steps]
    linears = [path for step in steps for path in (*step.writers, *(r for each in step.readers.values() for r in each))]
    for path in (*linears, *found.entries):
        weight = model.get_submodule(path).weight
        if seen.setdefault(id(weight), path) != path or linears.count(path) > 1:
            raise refused(f"its weight is also that of {seen[id(weight)]!r}", path)


class _Stop(Exception):
    """The first block was reached."""


def _check_entries(model: nn.Module, call: Call, found: PreNorm) -> None:
    """Rotate what the entries give: the first block must be given the same, rotated."""
    first = model.get_submodule(found.blocks[0].path)
    rng = torch.Generator().manual_seed(0)
    Q = torch.linalg.qr(torch.randn(found.width, found.width, generator=rng, dtype=torch.float64)).Q
    given: list[Tensor] = []

    def stop(_: nn.Module, args: Any, kwargs: Any) -> None:
        x = _first((args, kwargs))
        assert x is not None
        given.append(x)
        raise _Stop

    def turn(_: nn.Module, __: Any, output: Tensor) -> Tensor:
        turned: Tensor = (output.double() @ Q.to(output.device)).to(output.dtype)
        return turned

    with ExitStack() as hooks:
        hooks.callback(first.register_forward_pre_hook(stop, with_kwargs=True).remove)
        for turned in (False, True):
            for path in found.entries if turned else ():
                hooks.callback(model.get_submodule(path).register_forward_hook(turn).remove)
            try:
                call(model)
            except _Stop:
                continue
    x, y = given[0].double(), given[1].double()
    coarse = 5e-2 if given[0].dtype in (torch.bfloat16, torch.float16) else 1e-4
    if not found.entries or float((x @ Q.to(x.device) - y).norm()) > coarse * float(x.norm()):
        raise refused("what the first block is given is no sum of embeddings", found.blocks[0].path)


def _is_even(model: nn.Module, call: Call, found: PreNorm) -> bool:
    """Whether the model does not run where its stream begins one dimension narrower than it ends."""

    def narrow(_: nn.Module, __: Any, output: Tensor) -> Tensor:
        return output[..., :-1]

    def passed(*args: Any, **kwargs: Any) -> Any:
        return _first((args, kwargs))

    def ended(*args: Any, **kwargs: Any) -> Any:
        return nn.functional.pad(passed(*args, **kwargs), (0, 1))

    with ExitStack() as hooks:
        for path in found.entries:
            hooks.callback(model.get_submodule(path).register_forward_hook(narrow).remove)
        last = found.blocks[-1].path
        forwards = {block.path: ended if block.path == last else passed for block in found.blocks}
        hooks.enter_context(replaced(model, forwards))
        try:
            call(model)
        except (RuntimeError, ValueError, IndexError, TypeError, AssertionError):
            return True
    return False
