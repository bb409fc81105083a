"""Lets the tests of this folder import its graphs; without onnx there is nothing to test."""

import sys
from pathlib import Path

import pytest

for _package in ("onnx", "onnxruntime", "onnxscript"):
    pytest.importorskip(_package)
sys.path.insert(0, str(Path(__file__).parent))
