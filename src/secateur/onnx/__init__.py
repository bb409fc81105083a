"""ONNX: models of any framework, read into a module that is pruned like any other, and written back, verified.

`sc.onnx.read("model.onnx")` gives the module, `sc.onnx.write(model, "smaller.onnx")` writes it, and
`sc.onnx.export(model, "model.onnx", example)` writes any model of torch.
"""

from secateur.core import require

require("onnx", extra="export", where="secateur.onnx")

from .example import example_of  # noqa: E402
from .exporting import export  # noqa: E402
from .model import Input, OnnxModel, Operation  # noqa: E402
from .reading import model_of, read  # noqa: E402
from .saving import Written, write  # noqa: E402

__all__ = ["Input", "OnnxModel", "Operation", "Written", "example_of", "export", "model_of", "read", "write"]
