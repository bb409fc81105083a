"""What goes together in a model, slices of tensors or whole layers, and how it is cut: capture, surgery, proof."""

from .absent import absent
from .capture import capture
from .coupling import Coupling, Family, Tag
from .find import couple
from .hooked import overheard
from .layers import LayerUnits, layers_of
from .masked import masked_outputs
from .norms import NormForm, norm_form
from .prenorm import PreNorm, Step, SumBlock, is_linear, prenorm_of, refused
from .proof import otherwise, proven_cut_, same_function
from .removal import Removal, products, removal
from .residual import Unit
from .shorten import shorten_
from .slots import pinned, tracks_of
from .strands import Across, Strands, strands_of
from .subject import check_subject
from .surgery import Cut, Surgery, cut_, follow, follow_, forget
from .tied import names_by_tensor

__all__ = [
    "Across",
    "Coupling",
    "Cut",
    "Family",
    "LayerUnits",
    "NormForm",
    "PreNorm",
    "Removal",
    "Step",
    "Strands",
    "SumBlock",
    "Surgery",
    "Tag",
    "Unit",
    "absent",
    "capture",
    "check_subject",
    "couple",
    "cut_",
    "follow",
    "follow_",
    "forget",
    "is_linear",
    "layers_of",
    "masked_outputs",
    "names_by_tensor",
    "norm_form",
    "otherwise",
    "overheard",
    "pinned",
    "prenorm_of",
    "products",
    "proven_cut_",
    "refused",
    "removal",
    "same_function",
    "shorten_",
    "strands_of",
    "tracks_of",
]
