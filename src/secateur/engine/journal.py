"""Blocks that are pruned already, in the run folder, so that a killed run goes on with the next one."""

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from secateur.core import CheckpointError, Plan, attach_mask_, masks_of
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
        """Finished blocks: `place`, `keep`, `masks`, `facts`, `plan`; the model has their tensors again.

        Raises:
            CheckpointError: a block is damaged, or is none of this model; it is not read.
        """
        found: list[dict[str, Any]] = []
        for state in self._folder.read_blocks():
            try:
                found.append(self._put_back_(state))
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                raise CheckpointError(
                    f"block {len(found)} is none of this model: {error!r}",
                    where=str(self._folder.path),
                    mend="delete the run folder to start again",
                ) from error
        self._written = len(found)
        return found

    def _put_back_(self, state: Mapping[str, Any]) -> dict[str, Any]:
        named = self._named()
        told = {**state, "place": tuple(state["place"]), "plan": Plan.from_json(state["plan"])}
        pairs = [(named[name], value) for name, value in state["tensors"].items()]
        masks = [(name, named[name], mask) for name, mask in state["masks"].items()]
        wrong = [value.shape for own, value in (*pairs, *(pair for _, *pair in masks)) if own.shape != value.shape]
        if wrong or not {"keep", "facts"} <= told.keys():
            raise ValueError(f"tensors of other shapes: {wrong[:3]}" if wrong else "it is not whole")
        for own, value in pairs:
            own.copy_(value)
        for name, _, mask in masks if self._hold else ():
            attach_mask_(self._model, name, mask)
        return told

    def finish(
        self,
        place: Place,
        path: str | None,
        touched: Collection[str],
        keep: Mapping[str, Tensor],
        masks: Mapping[str, Tensor],
        facts: Iterable[Mapping[str, Any]],
        plan: Plan,
    ) -> None:
        """Note a block that nothing changes any more.

        Args:
            place: of the block.
            path: of its module; None for what lies outside all blocks.
            touched: tensors that were pruned or repaired, in it or elsewhere.
            keep, masks: of its groups; in the tensors' own shapes, where they are on the model no more.
        """
        mine = {n: t for n, t in self._named().items() if n in touched or (path and n.startswith(f"{path}."))}
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
