"""What each operator of ONNX does, in operations of torch that the graph engine has rules for."""

from . import attention, elementwise, make, norms, picks, pools, products, recurrent, reduce, resize, shapes
from .table import TABLE, Operator, find

__all__ = [
    "TABLE",
    "Operator",
    "attention",
    "elementwise",
    "find",
    "make",
    "norms",
    "picks",
    "pools",
    "products",
    "recurrent",
    "reduce",
    "resize",
    "shapes",
]
