r"""FinerCut: attentions and MLPs go one by one, each time the one that the outputs miss least (Zhang et al., 2024).

    repeat until enough are gone:    R <- R + argmin_{l not in R} D( f(x), f_{-R-l}(x) )          (algorithm 1)

f_{-R} is the model whose sublayers in R add nothing to the stream. D compares next-token distributions at every
position: the Jensen-Shannon divergence (KL(P||M) + KL(Q||M)) / 2 with M = (P + Q) / 2, or `kl`, or of the logits
`angular` or `norm`. The first 40 % of the blocks lose nothing until more than 40 % of all sublayers are gone.
"""

from secateur.budgets import Prefix
from secateur.core import Paper, Recipe, When, method
from secateur.scores import GreedyOrder
from secateur.scores.greedy_order import Distance
from secateur.structures import Layers


@method(
    "finercut",
    paper=Paper(
        "FinerCut: Finer-grained Interpretable Layer Pruning for Large Language Models",
        "Zhang et al.",
        2024,
        "https://arxiv.org/abs/2405.18218",
    ),
    structure="layers",
    when=When.AFTER,
    data="10 unlabelled sequences, a pass for each candidate",
    models=["causal-lm", "encoder"],
)
def finercut(
    distance: Distance = "js",
    samples: int = 10,
    front: float = 0.4,
    most: float = 1.0,  # the official loop stops at its target; one order to the end serves all of them
    force: bool = False,
    compat: bool = False,  # the released code has the arguments of its divergences reversed
    include: tuple[str, ...] = ("*",),
    exclude: tuple[str, ...] = (),
) -> Recipe:
    """Removes attentions and MLPs one by one, each time the one without which the outputs change least."""
    return Recipe(
        structure=Layers(include, exclude, kinds=("sublayers",), floor=0 if force else 1),
        score=GreedyOrder(distance, samples, front, most, force, compat),
        budget=Prefix(most, force),
    )
