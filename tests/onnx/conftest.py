"""Without onnx there is nothing to test in this folder."""

import pytest

for _package in ("onnx", "onnxruntime", "onnxscript"):
    pytest.importorskip(_package)
