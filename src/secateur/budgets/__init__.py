"""How much goes where? Counts that stay in every group, for one overall target."""

from .angular import AngularShares
from .at_least_one import AtLeastOne
from .cap import WithCap
from .contiguous import Contiguous
from .densities import Widths
from .exactly import Exactly
from .fixed import Fixed
from .floor import WithFloor
from .global_ import Global
from .isomorphic import Isomorphic
from .knapsack import Knapsack
from .lamp import Lamp
from .layer_rates import LayerRates
from .owl import OWL
from .paid import Paid
from .prefix import Prefix
from .q_constrained import QConstrained
from .random_graph import ER, ERK
from .sensitivity import Sensitivity
from .stream_widths import StreamWidths
from .uniform import Uniform, UniformPlus

__all__ = [
    "ER",
    "ERK",
    "OWL",
    "AngularShares",
    "AtLeastOne",
    "Contiguous",
    "Exactly",
    "Fixed",
    "Global",
    "Isomorphic",
    "Knapsack",
    "Lamp",
    "LayerRates",
    "Paid",
    "Prefix",
    "QConstrained",
    "Sensitivity",
    "StreamWidths",
    "Uniform",
    "UniformPlus",
    "Widths",
    "WithCap",
    "WithFloor",
]
