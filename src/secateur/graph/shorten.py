"""Takes layers out of a model: the plan, what stays must run as it did, and the proof against the dense model."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from secateur.core.depth import NUMBERS, Drop, Skip
from secateur.core.errors import NumericsError, SubjectError
from secateur.core.plan import Mend, Plan

from .capture import Call, capture, still
from .hooked import hooked_outputs
from .ir import Graph, Node, tensors_in
from .layers import LayerUnits
from .proof import difference
from .removal import Removal, removal
from .residual import Unit
from .slots import slots_after, tracks_of

_DELETES = (nn.Sequential, nn.ModuleList)
_WAYS = ((True, True), (False, True), (False, False))
"""Ways to take units out, the one that leaves least first: (delete blocks, take what served only them along)."""
_UNTOLD = frozenset({"clone", "contiguous", "detach", "alias"})
_ALIKE = {"_unsafe_view": "view", "reshape": "view", "_reshape_alias": "view"}


@dataclass(frozen=True, eq=False)
class Shortening:
    """What was done, and the parameters that are gone."""

    plan: Plan
    gone: tuple[nn.Parameter, ...]


def shorten_(
    model: nn.Module, layers: LayerUnits, units: Sequence[Unit], calls: Sequence[Call], *, verify: bool = True
) -> Shortening:
    """Take units out, in place. Entries of lists are deleted where the rest runs as before, others are skipped.

    Args:
        calls: run the model on inputs of the recorded shape, that of the recording first.
        verify: whether the shorter model must give what the dense one gives whose units are silenced by hooks.

    Raises:
        SubjectError: what stays does not run as before; nothing was changed.
        NumericsError: the outputs differ; nothing was changed.
    """
    parameters = {id(p): p for p in model.parameters()}
    everything = removal(layers.streams, units)
    wanted = [hooked_outputs(model, call, everything.units) for call in calls] if verify else []
    failures: list[SubjectError | NumericsError] = []
    for drops, with_idle in _WAYS:
        before = _Before(model)
        try:
            attempt = _attempt(model, layers, units, drops=drops, with_idle=with_idle)
            attempt.plan.replay_(model)
            attempt.check_run(model, calls[0], layers.streams.graph)
            for call, outputs in zip(calls, wanted, strict=False):
                with still(model):
                    found = list(tensors_in(call(model)))
                _check_equal(model, difference(outputs, found, layers.streams.graph.coarsest))
        except (SubjectError, NumericsError) as error:
            before.restore_()
            failures.append(error)
        except Exception as error:  # whatever a forward function does where a layer is missing
            before.restore_()
            failures.append(_does_not_run(model, str(error)))
        except BaseException:
            before.restore_()
            raise
        else:
            kept = {id(p) for p in model.parameters()}
            return Shortening(attempt.plan, tuple(p for number, p in parameters.items() if number not in kept))
    raise next((f for f in failures if isinstance(f, NumericsError)), failures[0])


@dataclass(frozen=True, eq=False)
class _Attempt:
    """One way to take units out.

    Attributes:
        rename: what a path of the dense model is called afterwards.
    """

    gone: Removal
    plan: Plan
    rename: Callable[[str], str]

    def check_run(self, model: nn.Module, call: Call, dense: Graph) -> None:
        """Raise `SubjectError` unless the model does what it did, but for what went."""
        silent = {self.rename(action.module) for action in self.plan.actions if isinstance(action, Skip)}
        wanted = [
            _told(node, dense, self.rename(node.module))
            for number, node in enumerate(dense.nodes)
            if not self.gone.covers(number) and node.op not in _UNTOLD
        ]
        try:
            graph = capture(model, call)
        except SubjectError as error:
            raise _does_not_run(model, error.what) from error
        found = [
            _told(node, graph, node.module)
            for node in graph.nodes
            if node.module not in silent and node.op not in _UNTOLD
        ]
        if found != wanted:
            pairs = zip([*wanted, None], [*found, None], strict=False)
            was, now = next(pair for pair in pairs if pair[0] != pair[1])
            raise SubjectError(
                f"the shorter model does something else: {now} instead of {was}",
                where=f"{type(model).__name__}; it is as it was",
                mend="leave layers out with exclude=[...]; the forward function counts on them",
            )


def _does_not_run(model: nn.Module, why: str) -> SubjectError:
    return SubjectError(
        f"the shorter model does not run: {(why.splitlines() or [''])[0][:200]}",
        where=f"{type(model).__name__}; it is as it was",
        mend="leave layers out with exclude=[...]; the forward function counts on them",
    )


def _told(node: Node, graph: Graph, module: str) -> tuple[str, str, tuple[tuple[int, ...], ...]]:
    return module, _ALIKE.get(node.op, node.op), tuple(graph.values[v].shape for v in node.outs)


def _check_equal(model: nn.Module, gap: str | None) -> None:
    if gap is not None:
        raise NumericsError(
            f"the shorter model differs from the dense one without these layers: {gap}",
            where=f"{type(model).__name__}; it is as it was",
            mend="leave modules out with exclude=[...] until it holds; this is a defect: please report it",
        )


def _attempt(model: nn.Module, layers: LayerUnits, units: Sequence[Unit], *, drops: bool, with_idle: bool) -> _Attempt:
    gone = removal(layers.streams, units, with_idle=with_idle)
    dropped = _dropped(model, layers, gone) if drops else {}
    rename = _renaming(model, dropped)
    return _Attempt(gone, _plan(model, layers, gone, dropped, rename), rename)


def _dropped(model: nn.Module, layers: LayerUnits, gone: Removal) -> dict[str, list[str]]:
    """The blocks that can be deleted, by the list that holds them."""
    found: dict[str, list[str]] = {}
    blocks = {unit.module for units in layers.blocks.values() for unit in units}
    for unit in gone.units:
        container, _, entry = unit.module.rpartition(".")
        if unit.module in blocks and isinstance(model.get_submodule(container), _DELETES):
            found.setdefault(container, []).append(entry)
    return found


def _plan(
    model: nn.Module, layers: LayerUnits, gone: Removal, dropped: dict[str, list[str]], rename: Callable[[str], str]
) -> Plan:
    """The actions; names of modules are those that they have when it is done."""
    entries = {f"{container}.{name}".lstrip(".") for container, names in dropped.items() for name in names}
    skips = [skip for path, skip in gone.skips.items() if path not in entries]
    slots = slots_after(model, tracks_of(model, layers.containers), [skip.module for skip in skips], dropped)
    deepest = sorted(dropped, key=lambda container: -container.count("."))
    drops = [Drop(container, tuple(dropped[container])) for container in deepest]
    return Plan((*skips, *drops, *(Mend(rename(m.module), m.attribute, m.value) for m in slots)))


def _renaming(model: nn.Module, dropped: dict[str, list[str]]) -> Callable[[str], str]:
    """What a path is called when entries of numbered lists were deleted."""
    moved: dict[str, str] = {}
    for container, names in dropped.items():
        entries = list(model.get_submodule(container)._modules)
        kept = [name for name in entries if name not in names]
        if entries == [str(i) for i in range(len(entries))]:
            moved |= {f"{container}.{name}".lstrip("."): str(place) for place, name in enumerate(kept)}

    def rename(path: str) -> str:
        parts = path.split(".")
        return ".".join(moved.get(".".join(parts[: i + 1]), part) for i, part in enumerate(parts))

    return rename


class _Before:
    """The modules of a model, their slots and their configs, to be put back."""

    def __init__(self, model: nn.Module) -> None:
        self._modules = [
            (m, dict(m._modules), {name: vars(m)[name] for name in NUMBERS if name in vars(m)}) for m in model.modules()
        ]
        configs = {id(c): c for m in model.modules() if (c := vars(m).get("config")) is not None}
        self._configs: list[tuple[Any, dict[str, Any]]] = [
            (c, dict(vars(c))) for c in configs.values() if hasattr(c, "num_hidden_layers")
        ]

    def restore_(self) -> None:
        for module, children, numbers in self._modules:
            module._modules.clear()
            module._modules.update(children)
            vars(module).update(numbers)
        for config, attributes in self._configs:
            vars(config).clear()
            vars(config).update(attributes)
