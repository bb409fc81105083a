"""Blocks that are pruned already, in the run folder, so that a killed run goes on with the next one."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from secateur.core import Plan, attach_mask_, masks_of
from secateur.core.masks import MASK_SUFFIX

from .runfolder import RunFolder

Place = tuple[int, int]


class Journal:
    """What blocks have become, one file for each.

    Args:
        folder: of the run.
        model: whose blocks they are.
        hold: whether masks stay on the model.
    """

    def __init__(self, folder: RunFolder, model: nn.Module, hold: bool) -> None:
        self._folder, self._model, self._hold = folder, model, hold
        self._written = 0

    @torch.no_grad()
    def restored_(self) -> list[dict[str, Any]]:
        """Finished blocks: `place`, `keep`, `masks`, `facts`, `plan`; the model has their tensors again."""
        found = []
        named = self._named()
        for state in self._folder.read_blocks():
            for name, value in state["tensors"].items():
                named[name].copy_(value)
            for name, mask in state["masks"].items() if self._hold else ():
                attach_mask_(self._model, name, mask)
            found.append(state | {"place": tuple(state["place"]), "plan": Plan.from_json(state["plan"])})
        self._written = len(found)
        return found

    def finish(
        self,
        place: Place,
        path: str | None,
        keep: Mapping[str, Tensor],
        masks: Mapping[str, Tensor],
        facts: Iterable[Mapping[str, Any]],
        plan: Plan,
    ) -> None:
        """Note a block that nothing changes any more.

        Args:
            place: of the block.
            path: of its module; None for what lies outside all blocks.
            keep, masks: of its groups; in the tensors' own shapes, where they are on the model no more.
        """
        inside = f"{path}." if path is not None else None
        mine = {n: t for n, t in self._named().items() if (n.startswith(inside) if inside else n in keep)}
        held = {n: m for n, m in masks_of(self._model).items() if n in keep} if self._hold else dict(masks)
        state = {
            "place": list(place),
            "tensors": {n: t.detach() for n, t in mine.items()},
            "keep": dict(keep),
            "masks": held,
            "facts": [dict(fact) for fact in facts],
            "plan": plan.to_json(),
        }
        self._folder.write_block(self._written, state)
        self._written += 1

    def _named(self) -> dict[str, Tensor]:
        tensors: list[tuple[str, Tensor]] = [*self._model.named_parameters(remove_duplicate=False)]
        tensors += self._model.named_buffers(remove_duplicate=False)
        return {name: tensor for name, tensor in tensors if not name.endswith(MASK_SUFFIX)}
