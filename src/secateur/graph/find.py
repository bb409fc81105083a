"""From a model and an example to its families, each proven to be cuttable by a trial pass of a smaller model."""

import logging

import numpy as np
from torch import nn

from .align import Alignment
from .capture import Call, capture
from .constants import sizes
from .coupling import Coupling, Family, Gone
from .flow import Flow, tensors
from .rules import RULES
from .trial import Mismatch, mends_of

_log = logging.getLogger(__name__)
_MOST_TRIALS = 60


def couple(model: nn.Module, call: Call) -> Coupling:
    """The families of a model.

    A few units of every family are removed on trial, on fake tensors: where the forward function keeps a size that no
    attribute explains, what it couples is frozen, with that reason.

    Args:
        call: runs the model on an example, as `lambda model: model(x)`.

    Raises:
        SubjectError: the model does not run on the example.
    """
    flow = Flow(capture(model, call), RULES).run()
    for _ in range(_MOST_TRIALS):
        coupling = Coupling(flow)
        gone = _few_of_each(coupling)
        found = mends_of(model, call, coupling, gone) if coupling.families else []
        if not isinstance(found, Mismatch):
            break
        if not _freeze_those_that_fail_alone(model, call, coupling, found):
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


def _few_of_each(coupling: Coupling) -> Gone:
    """One, two or three units of each family: as many of all would hide that two of them share one size."""
    gone = np.zeros(coupling.flow.algebra.size, bool)
    for place, family in enumerate(coupling.families):
        gone[family.factors[-min(1 + place % 3, family.size - 1) :]] = True
    return gone


def _freeze_those_that_fail_alone(model: nn.Module, call: Call, coupling: Coupling, found: Mismatch) -> bool:
    """Try the families of a module one after another, alike ones of all modules together; whether any was to blame."""
    flow = coupling.flow
    alike: dict[str, list[Family]] = {}
    for family in coupling.families:
        alike.setdefault(_pattern(family.name), []).append(family)
    near = [fs for fs in alike.values() if any(m.name.startswith(found.module) for f in fs for m in f.members)]
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
