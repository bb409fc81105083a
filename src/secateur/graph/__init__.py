"""Which slices of which tensors are coupled, and how they are cut: capture, labels, families, surgery, proof."""

from .capture import capture
from .coupling import Coupling, Family, Tag
from .find import couple
from .masked import masked_outputs
from .proof import otherwise, proven_cut_
from .surgery import Cut, Surgery, cut_, follow, follow_
from .tied import names_by_tensor

__all__ = [
    "Coupling",
    "Cut",
    "Family",
    "Surgery",
    "Tag",
    "capture",
    "couple",
    "cut_",
    "follow",
    "follow_",
    "masked_outputs",
    "names_by_tensor",
    "otherwise",
    "proven_cut_",
]
