"""New values in a subject's tensors for the length of a cut: they go again where what follows fails."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from torch import Tensor, nn

from secateur.core import AddBias, SubjectError


@contextmanager
def with_biases(subject: nn.Module, values: Mapping[str, Tensor]) -> Iterator[tuple[AddBias, ...]]:
    """Biases for the layers that values name one of and have none; they go again where what follows fails.

    Raises:
        SubjectError: a value names what is no tensor of the subject and can be no bias of a layer.
    """
    known = {n for n, _ in (*subject.named_parameters(remove_duplicate=False), *subject.named_buffers())}
    added = tuple(AddBias(name) for name in values if name not in known)
    done: list[AddBias] = []
    try:
        for action in added:
            try:
                action.replay_(subject)
            except AttributeError as error:
                raise SubjectError(
                    f"a repair gave a value for {action.tensor!r}, and there is no such tensor: {error}",
                    where=type(subject).__name__,
                    mend="leave the layer out with exclude=[...], or prune with recovery='none'",
                ) from error
            done.append(action)
        yield added
    except BaseException:
        for action in done:
            action.undo_(subject)
        raise


@contextmanager
def written(subject: nn.Module, values: Mapping[str, Tensor]) -> Iterator[None]:
    """New values in the subject's tensors, in place; the old ones come back where what follows fails."""
    named = dict((*subject.named_parameters(remove_duplicate=False), *subject.named_buffers(remove_duplicate=False)))
    tensors = {name: named[name].detach() for name in values}
    before = {name: tensor.clone() for name, tensor in tensors.items()}
    for name, tensor in tensors.items():
        tensor.copy_(values[name])
    try:
        yield
    except BaseException:
        for name, tensor in tensors.items():
            tensor.copy_(before[name])
        raise
