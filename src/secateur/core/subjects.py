"""Subjects that are more than a module, or not a single one."""

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from .errors import SubjectError


class Described(nn.Module):
    """A module that says itself what it takes, as one that was read from a file does."""

    @abstractmethod
    def example_inputs(self, seed: int = 0) -> Mapping[str, Tensor]:
        """Inputs that it runs on, by name."""

    @property
    @abstractmethod
    def samples(self) -> int | None:
        """How many samples it takes at once, where that is fixed at more than one."""


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


def check_loaded(subject: object) -> None:
    """Raise `SubjectError` where weights of a module are elsewhere: on the meta device, or offloaded by accelerate."""
    if not isinstance(subject, nn.Module):
        return
    absent = next((name for name, tensor in subject.named_parameters() if tensor.is_meta), None)
    if absent is None:
        return
    if _is_offloaded(subject):
        what = "its weights are offloaded, and are read for each pass only"
        mend = "load it whole (device_map=None), or go from disk to disk: secateur prune FOLDER --memory 8GiB"
    else:
        what, mend = "it is on the meta device and has no values", "load the weights first: model.load_state_dict(...)"
    raise SubjectError(what, where=f"parameter {absent!r} of {type(subject).__name__}", mend=mend)


def _is_offloaded(model: nn.Module) -> bool:
    """Whether hooks of accelerate bring weights for each pass, and take them away again."""
    hooks = [hook for module in model.modules() if (hook := getattr(module, "_hf_hook", None)) is not None]
    return any(getattr(one, "offload", False) for hook in hooks for one in (hook, *getattr(hook, "hooks", ())))
