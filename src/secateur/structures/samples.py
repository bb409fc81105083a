"""Training samples: a unit is one sample of a map-style data set."""

from collections.abc import Sized
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils.data import Subset

from secateur.core import Choice, Group, Plan, Space, Structure, SubjectError


@dataclass(frozen=True)
class Samples(Structure):
    """All samples compete; their labels, if the data set has `targets` or `labels`, come with the group."""

    def find(self, subject: Any) -> Space:
        """One group, "samples", with a unit for each index."""
        if isinstance(subject, nn.Module) or not isinstance(subject, Sized) or not hasattr(subject, "__getitem__"):
            raise SubjectError(
                f"{type(subject).__name__} is no map-style data set",
                where="structure 'samples'",
                mend="give a data set with a length and indices",
            )
        if len(subject) == 0:
            raise SubjectError("the data set is empty", where="structure 'samples'", mend="give at least one sample")
        labels = getattr(subject, "targets", getattr(subject, "labels", None))
        labels = None if labels is None else torch.as_tensor(labels)
        return Space((Group("samples", (len(subject),), costs={"samples": 1.0}, labels=labels),))

    def apply_(self, subject: Any, choice: Choice) -> tuple[Any, Plan]:
        """The subset that stays, as a view; the data set itself is untouched."""
        return Subset(subject, choice.keep["samples"].nonzero().flatten().tolist()), Plan()
