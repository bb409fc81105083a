"""How much does each unit matter? One value per unit, higher = keep."""

from .beta_rank import BetaRank
from .coarse_to_fine import CoarseToFine
from .columns import Fluctuation, MagSP, WandaSP
from .coupled import Coupled
from .custom import Custom
from .flow import Crop, Grasp, Snip
from .folded import FoldedNorm
from .gradients import GradientMagnitude, Taylor
from .magnitude import Magnitude
from .norm_scale import NormScale
from .obs import ObsError
from .random import Random
from .relevance import LRP
from .silence import KL
from .whole import Whole, of_units

__all__ = [
    "KL",
    "LRP",
    "BetaRank",
    "CoarseToFine",
    "Coupled",
    "Crop",
    "Custom",
    "Fluctuation",
    "FoldedNorm",
    "GradientMagnitude",
    "Grasp",
    "MagSP",
    "Magnitude",
    "NormScale",
    "ObsError",
    "Random",
    "Snip",
    "Taylor",
    "WandaSP",
    "Whole",
    "of_units",
]
