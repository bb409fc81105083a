r"""GCP-SAD: channels of a detector go by sections, and it learns where to look (Chu et al., 2022).

1. Sparse training pulls the scales of batch norms to zero, at first all of them, at last only the lower half of each
   section: grad(gamma) += s(t) sign(gamma) (`secateur.recovery.ScaleSparsity` with the rate `Dynamic`).
2. Layers of one kind of block and one stride are a section. A scan says what quality a section loses at each share;
   with one limit for all, the largest share that stays below it goes, the lowest |gamma| of the section first, and
   a tenth of every layer stays (`secateur.budgets.Sensitivity`).
3. The smaller network trains on while maps of attention, A = mean_c |F_c|^2, are compared with the dense one's
   (`secateur.recovery.SpatialAttention`).

No official code could be had; the formulas are those that fit the abstract.
"""

from secateur.budgets import Sensitivity
from secateur.core import Paper, Recipe, Recovery, When, method
from secateur.recovery import FineTune, ScaleSparsity, SpatialAttention
from secateur.recovery.scale_sparsity import Dynamic
from secateur.schedules import Stepwise
from secateur.scores import NormScale
from secateur.structures import Channels


@method(
    "gcp-sad",
    paper=Paper(
        "Group channel pruning and spatial attention distilling for object detection",
        "Chu, Li, Bai, Hu, Chen & Lu",
        2022,
        "https://arxiv.org/abs/2306.01526",
    ),
    structure="channels",
    when=When.DURING,
    data="training data",
    models=["cnn", "detector"],
)
def gcp_sad(
    sparse: float = 3,
    strength: float = 1e-3,
    delta: float | None = None,
    epochs: float = 3,
    share: float = 0.1,
    scales: tuple[str, ...] = (),
    floor: float = 0.1,
    include: tuple[str, ...] = ("*",),
    exclude: tuple[str, ...] = (),
) -> Recipe:
    """Slims batch norms, cuts channels by sections that lose the same quality, heals with maps of attention."""
    structure = Channels(include, exclude)
    heals: tuple[Recovery, ...] = (FineTune(epochs=sparse + epochs),) if sparse or epochs else ()
    if sparse:
        heals = (*heals, ScaleSparsity(structure, sparse, strength, Dynamic()))
    if epochs and share:
        heals = (*heals, SpatialAttention(share, scales, after=sparse))
    return Recipe(
        structure=structure,
        score=NormScale(),
        budget=Sensitivity(delta=delta, floor=floor),
        schedule=Stepwise(1, at=f"{sparse} epochs" if sparse else 0),
        recovery=heals,
    )
