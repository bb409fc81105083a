"""An example, and what structures that cut found with it on models that are still as they were then."""

import weakref
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from torch import nn

from secateur.core import SubjectError, first_call, masks_of
from secateur.graph import check_subject

Call = Callable[[Any], Any]
Found = TypeVar("Found")


class Sight(Generic[Found]):
    """Looks at models, each once as long as its tensors are the same.

    Args:
        call: runs a model on the example.
        look: what is to be found.
    """

    def __init__(self, call: Call, look: Callable[[nn.Module, Call], Found]) -> None:
        self.call, self._look = call, look
        self._found: weakref.WeakKeyDictionary[nn.Module, tuple[Any, Found]] = weakref.WeakKeyDictionary()

    def adopt(self, model: nn.Module, twin: nn.Module) -> None:
        """What is there in a model is there in its copy: it need not be looked at."""
        self._found[twin] = (_state(twin), self.of(model))

    def of(self, model: nn.Module) -> Found:
        """What there is in a model as it is now."""
        state = _state(model)
        known = self._found.get(model)
        if known is None or known[0] != state:
            known = (state, self._look(model, self.call))
            self._found[model] = known
        return known[1]


def _state(model: nn.Module) -> tuple[tuple[str, int, tuple[int, ...]], ...]:
    return tuple((n, id(p), tuple(p.shape)) for n, p in model.named_parameters(remove_duplicate=False))


def sight_of(structure: object, subject: Any) -> Sight[Any]:
    """The sight that `seeing` gave a structure, if the subject can be looked at with it.

    Raises:
        SubjectError: the subject cannot be cut; there is no example; it holds masks.
    """
    check_subject(subject)
    sight: Sight[Any] | None = getattr(structure, "_sight", None)
    if sight is None:
        raise SubjectError(
            "there is no example to run the model on, and coupled units are found by running it",
            where=f"{type(structure).__name__} on {type(subject).__name__}",
            mend="pass example=inputs (or a task) to sc.prune; on the command line, --input 1,3,32,32 or --task",
        )
    if masks_of(subject):
        raise SubjectError(
            "the model has masks, whose shapes a cut would change",
            where=next(iter(masks_of(subject))),
            mend="fold them in first: sc.core.remove_masks_(model)",
        )
    return sight


def on(example: Any) -> Call:
    """A call on a batch, or on the inputs alone."""
    return lambda model: first_call(model, example)
