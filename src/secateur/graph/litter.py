"""The garbage test: whatever makes a removed position makes large random numbers instead, which must change nothing."""

from collections.abc import Iterator
from contextlib import contextmanager
from math import prod

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from .coupling import Coupling, Gone
from .flow import Role
from .ir import Node, Ref
from .swap import swap_

_PERIOD = 65537
"""So many random numbers, over and over: a prime, so that no row of a tensor equals the next."""
_PLAIN = ("linear", "conv")


class Litter:
    """Large random numbers where removed positions are made: in tensors of the model, or in what a layer gives.

    A layer's output is littered in the place of its weight where it is smaller and nothing else reads the weight; this
    saves a copy of the weight.

    Args:
        seed: of the numbers.

    Attributes:
        outputs: by node, the dimension of what it gives, and which of its positions stay.
    """

    def __init__(self, coupling: Coupling, gone: Gone, seed: int) -> None:
        self._coupling, self._gone = coupling, gone
        self._pool = 100 * torch.randn(_PERIOD, generator=torch.Generator().manual_seed(seed))
        self.outputs = dict(self._smaller_outputs())

    def _smaller_outputs(self) -> Iterator[tuple[int, tuple[int, Tensor]]]:
        graph, roles = self._coupling.graph, self._coupling.flow.notes.roles
        for number, node in enumerate(graph.nodes):
            weight = _weight(node)
            if weight is None or graph.uses[weight] > 1 or graph.values[weight].kind != "parameter":
                continue
            sizes = graph.values[weight].shape, graph.values[node.outs[0]].shape
            if roles.get((weight, 0)) != {Role.PRODUCER} or prod(sizes[0]) <= prod(sizes[1]):
                continue
            dim = len(sizes[1]) - (1 if node.op == "linear" else len(sizes[0]) - 1)
            labels = self._coupling.flow.dim(weight, 0)
            stays = self._coupling.stays(labels, sizes[0][0], self._gone)
            if not stays.all():
                yield number, (dim, torch.from_numpy(stays))

    @contextmanager
    def in_tensors(self, model: nn.Module) -> Iterator[None]:
        """While it lasts, the model's tensors are littered; whoever opens it restores them, as `still` does."""
        graph, roles = self._coupling.graph, self._coupling.flow.notes.roles
        values = graph.parameters()
        spared = {_weight(graph.nodes[number]) for number in self.outputs}
        buffers = dict(model.named_buffers(remove_duplicate=False))
        named = dict(model.named_parameters(remove_duplicate=False)) | buffers
        dirty: dict[str, Tensor] = {}
        places: dict[int, tuple[NDArray[np.bool_], Tensor]] = {}
        for name, dim, stays in self._coupling.sites(self._gone):
            tensor = named[name]
            consumed = Role.CONSUMER in roles.get((values[name], dim), {Role.CARRIER})
            if consumed or values[name] in spared or not tensor.is_floating_point():
                continue
            copy = dirty.get(name, tensor.detach()).clone()
            if id(stays) not in places:  # a norm has four tensors of the same channels
                places[id(stays)] = stays, torch.from_numpy(np.flatnonzero(~stays))
            where = places[id(stays)][1].to(copy.device)
            noise = self._noise((*copy.shape[:dim], len(where), *copy.shape[dim + 1 :]), copy)
            copy.index_copy_(dim, where, noise.abs() if name in buffers else noise)  # such as variances
            dirty[name] = copy
        swapped = {id(named[name]): copy for name, copy in dirty.items()}
        swap_(model, lambda tensor: swapped.get(id(tensor), tensor))
        yield

    def in_output(self, number: int, result: Tensor) -> Tensor:
        """What one of the nodes of `outputs` gave, littered."""
        dim, stays = self.outputs[number]
        where = (~stays).nonzero().flatten().to(result.device)
        noise = self._noise((*result.shape[:dim], len(where), *result.shape[dim + 1 :]), result)
        return result.index_copy(dim, where, noise)

    def _noise(self, shape: tuple[int, ...], like: Tensor) -> Tensor:
        if prod(shape) > len(self._pool):
            self._pool = self._pool[:_PERIOD].repeat(prod(shape) // _PERIOD + 1)
        return self._pool[: prod(shape)].view(shape).to(like)


def _weight(node: Node) -> int | None:
    """The weight of a plain layer."""
    if node.op not in _PLAIN or len(node.args) < 2 or not isinstance(node.args[1], Ref):
        return None
    return node.args[1].value
