"""Units whose parts are interchangeable: which parts go together is free, as long as each lane gives one.

A unit of a grouped convolution is one channel of every group. Which channel of the first group goes together with
which of the second is a matter of their order in the tensors, and that order can be chosen: then each group loses what
matters least in it, and all lose equally many.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from .errors import SubjectError
from .keep import Keep
from .space import Group, Member, Space

Turn = Callable[[Tensor], Tensor]


def apart(group: Group) -> Group:
    """The strands of a group as units of their own, lane after lane."""
    return replace(
        group,
        shape=(group.strands * group.size,),
        lanes=group.strands,
        strands=1,
        costs={name: cost / group.strands for name, cost in group.costs.items()},
        members=tuple(replace(m, index=_by_lane(m, group.strands).flatten(0, 1)) for m in group.members),
    )


def in_order(group: Group, order: Int[Tensor, "lanes units"]) -> Group:
    """The group with other units: the i-th consists of the strands `order[:, i]`."""
    members = (replace(m, index=_by_unit(_ordered(_by_lane(m, group.strands), order))) for m in group.members)
    return replace(group, members=tuple(members))


def counts(space: Space, keep: Keep) -> dict[str, int]:
    """How many units of each group stay, whether the keep is one of them or of their strands."""
    return {n: int(keep[n].sum()) * space[n].size // max(keep[n].numel(), 1) for n in keep}


def in_order_of(space: Space, keep: Keep) -> Space:
    """A space whose units are made of the strands that a keep of strands keeps or removes together."""
    return Space(tuple(_as_kept(g, keep) for g in space), space.skipped, space.totals)


def _as_kept(group: Group, keep: Keep) -> Group:
    if group.strands == 1 or group.name not in keep:
        return group
    _, order = as_units(group.name, group.size, keep[group.name], group.strands)
    return group if order is None else in_order(group, order)


def by_score(scores: Float[Tensor, "lanes units"]) -> Int[Tensor, "lanes units"]:
    """The order in which the lowest strands of all lanes are one unit, the second lowest another; ties by place."""
    return scores.argsort(dim=1, stable=True).cpu()


def of_strands(keep: Bool[Tensor, " units"], order: Int[Tensor, "lanes units"]) -> Bool[Tensor, "lanes units"]:
    """Which strands stay, when these units of an order stay."""
    stays = torch.zeros(order.shape, dtype=torch.bool)
    return stays.scatter_(1, order, keep.reshape(1, -1).cpu().expand(order.shape))


def as_units(
    name: str, size: int, keep: Bool[Tensor, "..."], lanes: int = 0
) -> tuple[Bool[Tensor, " units"], Int[Tensor, "lanes units"] | None]:
    """A keep of strands as one of units, and the order of strands in which it is one; None where it is one of units.

    Strands that stay come first, each in its place among its like. Lanes of which nothing stays go with what they lie
    in, such as a head with all of its features.

    Args:
        name: of the group, which has so many units.
        lanes: how many there are; 0 where that is whatever the keep says.

    Raises:
        SubjectError: it is a keep of other units; lanes lose unlike numbers.
    """
    where = f"group {name!r}"
    if keep.numel() == size:
        return keep.reshape(-1).cpu(), None
    if keep.numel() % size or keep.numel() != (lanes or keep.numel() // size) * size:
        what = f"the keep has {keep.numel()} units, and there are {size}"
        raise SubjectError(what, where=where, mend="use a keep of this model, found with the same structure")
    stays = keep.reshape(-1, size).cpu()
    counts = stays.sum(1)
    most = int(counts.max())
    if (counts[counts > 0] != most).any():
        what = f"its {len(stays)} lanes keep from {int(counts.min())} to {most} of their {size} units"
        raise SubjectError(what, where=where, mend="keep as many in each lane, whichever they are")
    return torch.arange(size) < most, (~stays).to(torch.uint8).argsort(dim=1, stable=True)


def reordered(tensor: Tensor, member: Member, order: Int[Tensor, "lanes units"]) -> Tensor:
    """A tensor of a member's shape (its weight, a moment of it) with the strands in this order; it stays as it is."""
    index = _by_lane(member, len(order))
    given = member.site.tiles(tensor)
    made = given.clone()
    made[index.flatten().to(tensor.device)] = given[_ordered(index, order).flatten().to(tensor.device)]
    return member.site.untiled(made)


@contextmanager
def rearranged(orders: Iterable[tuple[Group, Tensor]]) -> Iterator[None]:
    """The strands of these groups in these orders, in place; as they were again where what follows fails."""
    done: list[tuple[Member, Tensor]] = []
    try:
        for member, order in ((m, order) for group, order in orders for m in group.members):
            _reorder_(member, order)
            done.append((member, order))
        yield
    except BaseException:
        for member, order in reversed(done):
            _reorder_(member, order.argsort(1))
        raise


@torch.no_grad()
def _reorder_(member: Member, order: Int[Tensor, "lanes units"]) -> None:
    member.tensor.copy_(reordered(member.tensor, member, order))


def turning(tensor: Tensor, orders: Iterable[tuple[Group, Tensor]]) -> Turn | None:
    """What `rearranged` does to one tensor, for its moments; None where that is nothing. It holds no live tensor."""
    like = torch.empty(tensor.shape, device="meta")
    found = [(_apart_from(m, like), order) for group, order in orders for m in group.members if m.tensor is tensor]
    return partial(_all_of, found) if found else None


def _apart_from(member: Member, like: Tensor) -> Member:
    """A member of the same shape that holds no tensor of its model."""
    return replace(member, group=replace(member.group, site=replace(member.site, tensor=like)), layer=None)


def _all_of(turns: Iterable[tuple[Member, Tensor]], tensor: Tensor) -> Tensor:
    for member, order in turns:
        tensor = reordered(tensor, member, order)
    return tensor


def _ordered(index: Int[Tensor, "lanes units positions"], order: Int[Tensor, "lanes units"]) -> Tensor:
    return index[torch.arange(len(order))[:, None], order]


def _by_lane(member: Member, lanes: int) -> Int[Tensor, "lanes units positions"]:
    return member.index.reshape(len(member.index), lanes, -1).transpose(0, 1)


def _by_unit(index: Int[Tensor, "lanes units positions"]) -> Int[Tensor, "units all_positions"]:
    return index.transpose(0, 1).flatten(1)
