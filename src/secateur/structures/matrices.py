"""Which parameters are weight matrices, and how each kind of module lays its matrix out."""

from dataclasses import dataclass
from fnmatch import fnmatchcase

from torch import Tensor, nn

from secateur.core import SubjectError, owner_of
from secateur.graph import names_by_tensor

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


@dataclass(frozen=True)
class Matrix:
    """One weight tensor: names, and the axes that bring it to `[out, in * kernel]`.

    `groups` is how many groups of input channels lie side by side on the input axis (transposed convolutions only:
    others store the channels of one group).
    """

    names: tuple[str, ...]
    tensor: Tensor
    axes: tuple[int, ...]
    rows: int
    groups: int = 1

    @property
    def name(self) -> str:
        """The first of its names."""
        return self.names[0]


def weight_matrices(
    model: object, include: tuple[str, ...], exclude: tuple[str, ...], embeddings: bool
) -> tuple[list[Matrix], dict[str, str]]:
    """The weight matrices of a model, and what was left out and why.

    Args:
        model: anything; only a module has weights.
        include, exclude: shell patterns on the tensor's name ("layer1.*") or its module's ("layer1.0.conv1").
        embeddings: whether embedding tables, and what scores the vocabulary, count as weights.

    Raises:
        SubjectError: not a module, or nothing is left to prune.
    """
    if not isinstance(model, nn.Module):
        raise SubjectError(
            f"{type(model).__name__} has no weights", where="structure 'weights'", mend="give a torch.nn.Module"
        )
    found: list[Matrix] = []
    skipped: dict[str, str] = {}
    vocabulary = _vocabulary(model)
    for tensor, names in names_by_tensor(model):
        kinds = [_kind(*owner_of(model, name), tensor) for name in names]
        if tensor.dim() < 2 or not any(kinds):
            continue
        if not embeddings and any(k == "embedding" for k in kinds):
            skipped[names[0]] = "an embedding table" + (" tied to " + names[1] if len(names) > 1 else "")
        elif tensor is vocabulary and not embeddings:
            skipped[names[0]] = "the scores of the vocabulary, which count as embeddings"
        elif not any(_matches(n, include) for n in names) or any(_matches(n, exclude) for n in names):
            skipped[names[0]] = "left out by include or exclude"
        elif tensor.numel() == 0:
            skipped[names[0]] = "empty"
        else:
            kind = next(k for k in kinds if k)
            owner = owner_of(model, names[0])[0]
            groups = int(getattr(owner, "groups", 1)) if kind == "transposed" else 1
            found.append(Matrix(names, tensor, *_layout(kind, tensor.dim()), groups))
    if not found:
        seen = sorted(
            {type(m).__name__ for m in model.modules() if next(m.parameters(recurse=False), None) is not None}
        )
        raise SubjectError(
            f"there is nothing to prune: {len(skipped)} weight matrices were left out, and the others are no matrices",
            where=f"{type(model).__name__}, with parameters in {', '.join(seen) or 'no module'}",
            mend="widen include=, narrow exclude=, or set embeddings=True",
        )
    return found, skipped


def _vocabulary(model: nn.Module) -> Tensor | None:
    """The weight that scores the vocabulary, where a model of transformers names it."""
    named = getattr(model, "get_output_embeddings", None)
    try:
        head = named() if callable(named) else None
    except (AttributeError, NotImplementedError):  # of a class that has none
        head = None
    return getattr(head, "weight", None)


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    module = name.rpartition(".")[0]
    return any(fnmatchcase(name, p) or fnmatchcase(module, p) for p in patterns)


def _kind(module: nn.Module, leaf: str, tensor: Tensor) -> str | None:
    if leaf == "weight":
        if isinstance(module, nn.Linear | nn.Bilinear):
            return "linear"
        if isinstance(module, _CONVOLUTIONS):
            return "convolution"
        if isinstance(module, _TRANSPOSED):
            return "transposed"
        if isinstance(module, nn.Embedding | nn.EmbeddingBag):
            return "embedding"
        # transformers' Conv1D (GPT-2) is a Linear that stores [in, out]
        if type(module).__name__ == "Conv1D" and tensor.dim() == 2:
            return "in-out"
    if isinstance(module, nn.RNNBase | nn.RNNCellBase) and leaf.startswith("weight_"):
        return "linear"
    if isinstance(module, nn.MultiheadAttention) and leaf.endswith("proj_weight"):
        return "linear"
    return None


def _layout(kind: str, dims: int) -> tuple[tuple[int, ...], int]:
    """`(axes, rows)` of the matrix view `[out, in * kernel]`."""
    if kind in ("transposed", "in-out"):
        return (1, 0, *range(2, dims)), 1
    return (), 1


def input_last(matrix: Matrix) -> tuple[int, ...]:
    """The axes of `[out, kernel * in]`: input channels run fastest, as N:M hardware groups them."""
    axes = matrix.axes or tuple(range(matrix.tensor.dim()))
    return (axes[0], *axes[2:], axes[1])
