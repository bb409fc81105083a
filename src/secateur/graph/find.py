"""From a model and an example to its families, each proven to be cuttable by a trial pass of a smaller model."""

import logging
from collections.abc import Collection
from itertools import combinations

import numpy as np
from torch import nn

from .align import Alignment
from .capture import Call, capture
from .constants import padded, sizes
from .coupling import Coupling, Family, Gone
from .flow import Flow, tensors
from .rules import RULES
from .switches import aligns_experts
from .trial import Mismatch, mends_of

_log = logging.getLogger(__name__)
_MOST_TRIALS = 60
_MOST_NEAR = 6


def couple(model: nn.Module, call: Call) -> Coupling:
    """The families of a model.

    Some units of every family are removed on trial, on fake tensors. Where the forward function keeps a size that
    no attribute explains, what it couples is frozen, with that reason; where one attribute is the size of two families
    (the features of queries and of values), they are one.

    Args:
        call: runs the model on an example, as `lambda model: model(x)`.

    Raises:
        SubjectError: the model does not run on the example.
    """
    flow = Flow(capture(model, call), RULES).run()
    flow.aligned = aligns_experts(model)
    for _ in range(_MOST_TRIALS):
        coupling = Coupling(flow)
        if not coupling.families:
            break
        gone = _some_of_each(coupling)
        found = mends_of(model, call, coupling, gone)
        if not isinstance(found, Mismatch):
            break
        one = _one_of_each(coupling)
        worse = mends_of(model, call, coupling, one)
        if isinstance(worse, Mismatch):
            if not _freeze_those_that_fail_alone(model, call, coupling, worse):
                _freeze(coupling, one, worse)
        elif not _join_those_that_must_be_even(model, call, coupling, found):
            _freeze(coupling, gone, found)
        flow.run()
    else:
        _log.warning("%d trial passes found no end of what cannot follow a cut; nothing of it is offered", _MOST_TRIALS)
        flow.freeze(list(flow.sites.values()), f"{_MOST_TRIALS} trial passes did not come to an end")
        coupling = Coupling(flow.run())
    for op, modules in coupling.unknown.items():
        _log.warning(
            "no rule for %r in %s: what it touches stays", op, ", ".join(dict.fromkeys(modules)) or "the model"
        )
    return coupling


def _some_of_each(coupling: Coupling, *, even: Collection[str] = (), without: str = "") -> Gone:
    """Some units of every family, so that no two families of a module lose equally many positions.

    Args:
        even: names of families that lose one unit each.
        without: the pattern of names of families that stay whole.
    """
    gone = np.zeros(coupling.flow.algebra.size, bool)
    taken: dict[str, set[int]] = {}
    for families in _alike(coupling):
        if _pattern(families[0].name) == without:
            continue
        each = max(m.index.shape[1] for m in families[0].members)
        most = 1 if families[0].name in even else min(f.size - f.floor for f in families)
        near = taken.setdefault(_pattern(families[0].module).rpartition(".")[0], set())
        count = next((k for k in range(1, most + 1) if k * each not in near), 1)
        near.add(count * each)
        for family in families:
            gone[family.factors[-count:]] = True
    return gone


def _one_of_each(coupling: Coupling) -> Gone:
    gone = np.zeros(coupling.flow.algebra.size, bool)
    gone[[family.factors[-1] for family in coupling.families]] = True
    return gone


def _freeze_those_that_fail_alone(model: nn.Module, call: Call, coupling: Coupling, found: Mismatch) -> bool:
    """Try the families of a module one after another, alike ones of all modules together; whether any was to blame."""
    flow = coupling.flow
    near = [fs for fs in _alike(coupling) if any(m.name.startswith(found.module) for f in fs for m in f.members)]
    before = flow.algebra.version
    for families in near if len(near) > 1 else []:
        gone = np.zeros(flow.algebra.size, bool)
        gone[[family.factors[-1] for family in families]] = True
        alone = mends_of(model, call, coupling, gone)
        if isinstance(alone, Mismatch):
            flow.index = alone.node
            why = f"the forward function keeps its size in {alone.op!r}: {alone.why}"
            flow.freeze([family.factors[:, None] for family in families], why)
    return flow.algebra.version > before


def _join_those_that_must_be_even(model: nn.Module, call: Call, coupling: Coupling, found: Mismatch) -> bool:
    """Families whose sizes are one constant lose the same units, or none; heads are let alone if possible."""
    flow = coupling.flow
    near = [fs for fs in _alike(coupling) if any(m.name.startswith(found.module) for f in fs for m in f.members)]
    near.sort(key=lambda families: families[0].kind in ("heads", "kv-groups", "channels"))
    for some, others in combinations(near[:_MOST_NEAR], 2):
        if [f.size for f in some] != [f.size for f in others]:
            continue
        even = _some_of_each(coupling, even={f.name for f in (*some, *others)})
        if _gets_further(mends_of(model, call, coupling, even), found):
            for a, b in zip(some, others, strict=True):
                flow.algebra.unite(a.factors, b.factors)
            return True
    for families in near[:_MOST_NEAR]:
        rest = _some_of_each(coupling, without=_pattern(families[0].name))
        if _gets_further(mends_of(model, call, coupling, rest), found):
            flow.index = found.node
            why = f"its size and that of another family are one constant of {found.op!r}"
            flow.freeze([family.factors[:, None] for family in families], why)
            return True
    return False


def _gets_further(trial: object, found: Mismatch) -> bool:
    return not isinstance(trial, Mismatch) or trial.node > found.node


def _alike(coupling: Coupling) -> list[list[Family]]:
    """Families of the same name but for numbers, together."""
    found: dict[str, list[Family]] = {}
    for family in coupling.families:
        found.setdefault(_pattern(family.name), []).append(family)
    return list(found.values())


def _freeze(coupling: Coupling, gone: Gone, found: Mismatch) -> None:
    """Freeze what an operation cannot follow, and the same operation in modules of the same path but for numbers."""
    flow = coupling.flow
    pattern, ordinals = _pattern(found.module), Alignment(coupling.graph).ordinals
    before = flow.algebra.version
    for number, node in enumerate(coupling.graph.nodes):
        same = node.op == found.op and ordinals[number] == ordinals[found.node]
        if not same or _pattern(node.module) != pattern:
            continue
        told = list(sizes(node, coupling, gone))
        flow.index = number
        if node.op == "constant_pad_nd" and told:
            flow.freeze(list(padded(node, coupling)), "the forward function keeps how many positions it pads")
            continue
        for value, dim in told if number == found.node or _changes(told, coupling, gone) else ():
            flow.freeze([flow.dim(value, dim)], f"the forward function keeps its size in {node.op!r}")
    if flow.algebra.version == before:
        flow.index = found.node
        node = coupling.graph.nodes[found.node]
        for value in (*node.outs, *tensors(node)):
            flow.freeze(flow.all(value), f"{node.op!r} does not run on fewer: {found.why}")
    if flow.algebra.version == before:  # the operation is innocent: what surrounds it is not known
        for family in coupling.families:
            for member in family.members:
                if member.name.startswith(found.module):
                    value = coupling.graph.parameters()[member.name]
                    flow.freeze([flow.dim(value, member.dim)], f"{found.module} does not run on fewer: {found.why}")
    if flow.algebra.version == before:
        for labels in flow.sites.values():
            flow.freeze([labels], f"the model does not run on fewer: {found.why}")


def _changes(told: list[tuple[int, int]], coupling: Coupling, gone: Gone) -> bool:
    return any(coupling.shape(value, gone)[dim] != coupling.flow.shape(value)[dim] for value, dim in told)


def _pattern(path: str) -> str:
    return ".".join("*" if part.isdigit() else part for part in path.split("."))
