r"""SliceGPT: the residual stream is rotated to its principal directions, and the last ones go (Ashkboos et al., 2024).

With the weights of RMS norms fused into the layers that read them, any orthogonal Q leaves the network as it is:

    RMSNorm(X Q) Q^T = RMSNorm(X)                                                  (equation 2)

so at every place where a norm reads the stream, Q may be that of the stream's own second moment

    C = sum_t x_t x_t^T = Q diag(l) Q^T,    l descending                           (section 3.3)

of which the first D' = (1 - s) D columns stay: W Q in what reads, Q^T W in what writes, and Q_before^T Q_after as a
matrix in the shortcut between two places. C is measured with all places before it already sliced. The norm goes on
dividing by D. s is a share of the width; of the parameters fewer go, because of the shortcuts.
"""

from typing import Literal

from secateur.budgets import StreamWidths
from secateur.core import Paper, Recipe, When, method
from secateur.solvers import PrincipalAxes
from secateur.structures import Directions


@method(
    "slicegpt",
    paper=Paper(
        "SliceGPT: Compress Large Language Models by Deleting Rows and Columns",
        "Ashkboos et al.",
        2024,
        "https://arxiv.org/abs/2401.15024",
    ),
    structure="stream dimensions",
    when=When.AFTER,
    data="128 unlabelled sequences",
    models=["causal-lm"],
)
def slicegpt(
    multiple: int = 8,  # as in the official code, and rounded down as there
    tilt: float = 0.0,
    orientation: Literal["random", "pca"] = "random",
    damping: float = 0.01,
    head: bool = False,
) -> Recipe:
    """Rotates the residual stream to its principal directions, block by block, and cuts the last ones off."""
    return Recipe(
        structure=Directions(head=head),
        solve=PrincipalAxes(damping, orientation),
        budget=StreamWidths(multiple, tilt),
        propagation="stages",
    )
