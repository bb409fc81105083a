"""From a model and an example to its families, each proven to be cuttable by a trial pass of a smaller model."""

import logging

from torch import nn

from .align import Alignment
from .alike import Modules, Search, by_name
from .capture import Call, capture
from .constants import padded, sizes
from .coupling import Coupling, Gone
from .flow import Flow, tensors
from .joins import join_even, join_inner_with_outer
from .rules import RULES
from .stand_ins import without_collector
from .switches import aligns_experts
from .trial import Mismatch

_log = logging.getLogger(__name__)
_MOST_TRIALS = 60


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
    graph = capture(model, call)
    with without_collector(graph.rung == "fake tensors"):
        coupling = _settled(model, call, Flow(graph, RULES).run())
    for op, places in coupling.unknown.items():
        _log.warning("no rule for %r in %s: what it touches stays", op, ", ".join(dict.fromkeys(places)) or "the model")
    return coupling


def _settled(model: nn.Module, call: Call, flow: Flow) -> Coupling:
    """What is left once every trial passes."""
    flow.aligned = aligns_experts(model)
    modules = Modules(model)
    for _ in range(_MOST_TRIALS):
        coupling = Coupling(flow)
        if not coupling.families:
            break
        search = Search(model, call, coupling, modules)
        gone = search.without_some()
        found = search.tried(gone)
        if found is None:
            break
        one = search.without_each(coupling.families)
        worse = search.tried(one)
        if worse is None:
            if not join_even(search, found):
                _freeze(search, gone, found)
        elif not join_inner_with_outer(search, worse) and not _blame_or_learn(search, worse):
            _freeze(search, one, worse)
        flow.run()
    else:
        _log.warning("%d trial passes found no end of what cannot follow a cut; nothing of it is offered", _MOST_TRIALS)
        flow.freeze(list(flow.sites.values()), f"{_MOST_TRIALS} trial passes did not come to an end")
        coupling = Coupling(flow.run())
    return coupling


def _blame_or_learn(search: Search, found: Mismatch) -> bool:
    """Try the families of a module one after another, alike ones of all modules together; whether that told anything.

    Those that cannot go alone are frozen. An attribute that has to change with one alone counts its units: it is known
    from now on, also where several change and their product is the constant.
    """
    flow = search.coupling.flow
    near = search.near(found.module)
    before, known = flow.algebra.version, len(flow.counters)
    pending = [families for families in near if len(near) > 1]
    while pending:
        families = pending.pop(0)
        alone = search.mended(search.without_each(families))
        apart = by_name(families)
        if isinstance(alone, Mismatch) and len(apart) > 1:
            pending += apart  # not all of them may be to blame
            continue
        if isinstance(alone, Mismatch):
            flow.index = alone.node
            why = f"the forward function keeps its size in {alone.op!r}: {alone.why}"
            flow.freeze([family.factors[:, None] for family in families], why)
            continue
        for mend in alone:
            near_by = (f for f in families if any(m.name.startswith(f"{mend.module}.") for m in f.members))
            family = next((f for f in near_by if mend.value == f.size - 1), None)
            if family is not None:
                flow.counters.setdefault((mend.module, mend.attribute), family.factors[:, None])
    return flow.algebra.version > before or len(flow.counters) > known


def _freeze(search: Search, gone: Gone, found: Mismatch) -> None:
    """Freeze what an operation cannot follow, and the same operation in alike modules."""
    coupling, flow = search.coupling, search.coupling.flow
    before = flow.algebra.version
    same = _same(search, found)
    for number in same:
        node = coupling.graph.nodes[number]
        told = list(sizes(node, coupling, gone))
        flow.index = number
        if node.op == "constant_pad_nd" and told:
            flow.freeze(list(padded(node, coupling)), "the forward function keeps how many positions it pads")
            continue
        for value, dim in told if number == found.node or _changes(told, coupling, gone) else ():
            flow.freeze([flow.dim(value, dim)], f"the forward function keeps its size in {node.op!r}")
    if flow.algebra.version == before:
        for number in same:
            flow.index = number
            node = coupling.graph.nodes[number]
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


def _same(search: Search, found: Mismatch) -> list[int]:
    """The operation that a trial stumbled over, and the same one in modules that are alike."""
    graph = search.coupling.graph
    alike, ordinals = search.modules.like(found.module), Alignment(graph).ordinals
    return [
        number
        for number, node in enumerate(graph.nodes)
        if node.op == found.op and ordinals[number] == ordinals[found.node] and node.module in alike
    ]


def _changes(told: list[tuple[int, int]], coupling: Coupling, gone: Gone) -> bool:
    return any(coupling.shape(value, gone)[dim] != coupling.flow.shape(value)[dim] for value, dim in told)
