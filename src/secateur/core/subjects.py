"""Subjects that are not a single module."""

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor, nn

from .errors import SubjectError


@dataclass(frozen=True)
class Delta:
    """What fine-tuning added: a tuned model and the base it came from. Its units are entries of `tuned - base`.

    Raises:
        SubjectError: the two have no parameter of the same name and shape.
    """

    base: nn.Module
    tuned: nn.Module

    def __post_init__(self) -> None:
        if not any(True for _ in self.pairs()):
            raise SubjectError(
                "the two models share no parameter of the same name and shape",
                where=f"Delta({type(self.base).__name__}, {type(self.tuned).__name__})",
                mend="give the base that this model was fine-tuned from",
            )

    def pairs(self) -> Iterator[tuple[str, Tensor, Tensor]]:
        """`(name, base, tuned)` for every parameter that both have in one shape."""
        base = dict(self.base.named_parameters())
        for name, tuned in self.tuned.named_parameters():
            if name in base and base[name].shape == tuned.shape:
                yield name, base[name].detach(), tuned.detach()
