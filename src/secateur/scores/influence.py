"""How far the residual stream turns in a layer."""

from dataclasses import dataclass

from torch import Tensor

from secateur.core import BlockInfluence, Group, RecipeError, Score, SpanAngle, Stats


@dataclass(frozen=True)
class Influence(Score):
    """Block Influence: 1 - mean over tokens of cos(x_i, x_{i+1}), x_i being the stream before block i, in one pass.

    Men et al., "ShortGPT: Layers in Large Language Models are More Redundant Than You Expect", 2024, equation 1. Pad
    tokens of batches with an attention mask do not count, nor do tokens whose stream is zero.
    """

    knows_whole = True

    @property
    def needs(self) -> tuple[BlockInfluence, ...]:
        return (BlockInfluence(),)

    def __call__(self, group: Group, stats: Stats) -> Tensor:
        _check(group, "Influence")
        return stats[group, BlockInfluence()]


@dataclass(frozen=True)
class LayerAngle(Score):
    """arccos(cos(x_i, x_{i+1})) / pi on the last token; with the budget `Contiguous`, runs of layers are judged by it.

    Gromov et al., "The Unreasonable Ineffectiveness of the Deeper Layers", 2024.
    """

    knows_whole = True

    @property
    def needs(self) -> tuple[SpanAngle, ...]:
        return (SpanAngle(),)

    def __call__(self, group: Group, stats: Stats) -> Tensor:
        _check(group, "LayerAngle")
        return stats[group, SpanAngle()][:, 0]


def _check(group: Group, score: str) -> None:
    if not group.passing:
        raise RecipeError(
            "how far the stream turns is asked of whole blocks, and these units are none",
            where=f"{score} on group {group.name!r}",
            mend='use Layers(kinds=("blocks",)), or KL and GreedyOrder for sublayers',
        )
