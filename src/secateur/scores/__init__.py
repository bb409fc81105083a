"""How much does each unit matter? One value per unit, higher = keep."""

from .beta_rank import BetaRank
from .coarse_to_fine import CoarseToFine
from .columns import Fluctuation, MagSP, WandaSP
from .coupled import Coupled
from .custom import Custom
from .energy import Energy
from .flow import Crop, Grasp, Snip
from .folded import FoldedNorm
from .gradients import GradientMagnitude, Taylor
from .greedy_order import GreedyOrder
from .influence import Influence, LayerAngle
from .magnitude import Magnitude
from .norm_scale import NormScale
from .obs import ObsError
from .random import Random
from .relevance import LRP
from .silence import KL
from .wanda import Wanda
from .whole import Whole, of_units

__all__ = [
    "KL",
    "LRP",
    "BetaRank",
    "CoarseToFine",
    "Coupled",
    "Crop",
    "Custom",
    "Energy",
    "Fluctuation",
    "FoldedNorm",
    "GradientMagnitude",
    "Grasp",
    "GreedyOrder",
    "Influence",
    "LayerAngle",
    "MagSP",
    "Magnitude",
    "NormScale",
    "ObsError",
    "Random",
    "Snip",
    "Taylor",
    "Wanda",
    "WandaSP",
    "Whole",
    "of_units",
]
