"""What a move has decided so far, in the run folder, so that a killed run goes on from there."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from secateur.core import CheckpointError, Choice, Keep, Plan, SecateurError, attach_mask_, masks_of
from secateur.core.masks import MASK_SUFFIX

from .runfolder import RunFolder

Place = tuple[int, int]


class MoveNotes:
    """Where a decision that takes long notes how far it has come: `Notes` of one move in a run folder."""

    def __init__(self, folder: RunFolder, move: int) -> None:
        self._folder, self._move = folder, move

    def read(self, what: str) -> Mapping[str, Any] | None:
        return self._folder.read_notes(self._move, what)

    def due(self) -> bool:
        return self._folder.due()

    def write(self, what: str, state: Mapping[str, Any]) -> None:
        self._folder.write_notes(self._move, what, state)


class Journal:
    """What blocks have become in one move, one file for each.

    A masked block is its tensors and masks. Where units are cut out, the choices are noted as well and are carried out
    again, because what a cut means can depend on the cuts before it.

    Args:
        folder: of the run.
        model: whose blocks they are.
        hold: whether masks stay on the model.
        move: its number in the run.
        cuts: carries out a choice that cuts; None where units are masked.
    """

    def __init__(
        self,
        folder: RunFolder,
        model: nn.Module,
        hold: bool,
        move: int = 0,
        cuts: Callable[[Choice], object] | None = None,
    ) -> None:
        self._folder, self._model, self._hold, self._move, self._cuts = folder, model, hold, move, cuts
        self.found = folder.blocks(move)
        self._written, self._read = self.found, 0

    @torch.no_grad()
    def restored_(self, place: Place) -> dict[str, Any]:
        """Put the next finished block back: the model has its tensors, or its cuts, again.

        Args:
            place: where that block is, `found` of them in all.

        Returns:
            Its `keep`, `masks`, `facts` and `plan`.

        Raises:
            CheckpointError: the block is damaged, or is none of this model; it is not read.
        """
        number, self._read = self._read, self._read + 1
        state = self._folder.read_block(self._move, number)
        try:
            return self._put_back_(state, place)
        except (SecateurError, KeyError, TypeError, ValueError, AttributeError) as error:
            raise CheckpointError(
                f"block {number} is none of this model: {error!r}",
                where=str(self._folder.path),
                mend="delete the run folder to start again",
            ) from error

    def _put_back_(self, state: Mapping[str, Any], place: Place) -> dict[str, Any]:
        told = {**state, "plan": Plan.from_json(state["plan"])}
        if tuple(state["place"]) != place:
            raise ValueError(f"it is at {state['place']}, and {list(place)} comes next")
        if self._cuts is not None:
            for choice in state["choices"]:
                self._cuts(Choice(Keep(choice["keep"]), choice["values"]))
        named = self._named()
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
        choices: Sequence[Choice] = (),
    ) -> None:
        """Note a block that is finished.

        Args:
            place: of the block.
            path: of its module; None for what lies outside all blocks.
            touched: tensors that were pruned or repaired, in it or elsewhere.
            keep, masks: of its groups; in the tensors' own shapes, where they are on the model no more.
            choices: what was cut, in that order.
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
            "choices": [{"keep": dict(c.keep.masks), "values": dict(c.values)} for c in choices],
        }
        self._folder.write_block(self._move, self._written, state)
        self._written += 1

    def _named(self) -> dict[str, Tensor]:
        tensors: list[tuple[str, Tensor]] = [*self._model.named_parameters(remove_duplicate=False)]
        tensors += self._model.named_buffers(remove_duplicate=False)
        return {name: tensor for name, tensor in tensors if not name.endswith(MASK_SUFFIX)}
