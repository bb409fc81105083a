"""When: what goes at which step of the training."""

from .gradual import CubicGradual, LinearGradual
from .iterative import Iterative
from .oneshot import OneShot
from .rewinding import Rewinding
from .stepwise import Stepwise

__all__ = ["CubicGradual", "Iterative", "LinearGradual", "OneShot", "Rewinding", "Stepwise"]
