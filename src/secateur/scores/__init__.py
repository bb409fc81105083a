"""How much does each unit matter? One value per unit, higher = keep."""

from .coupled import Coupled
from .custom import Custom
from .gradients import GradientMagnitude, Taylor
from .magnitude import Magnitude
from .random import Random
from .whole import Whole, of_units

__all__ = ["Coupled", "Custom", "GradientMagnitude", "Magnitude", "Random", "Taylor", "Whole", "of_units"]
