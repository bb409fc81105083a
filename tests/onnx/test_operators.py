"""Every operator, by the tests that ONNX itself brings for it: a model of one node, its inputs and its outputs."""

import warnings
from collections import Counter
from functools import cache

import numpy as np
import pytest
import torch

import onnx
from onnx import numpy_helper
from secateur.core import SubjectError
from secateur.onnx import model_of
from secateur.onnx.operators import TABLE
from secateur.onnx.values import array_of, tensor_of

# torch does no arithmetic with these
UNSIGNED = ("uint16", "uint32", "uint64")
OPERATORS = sorted(op for domain, op in TABLE if not domain)
# ONNX has no test of its own for these, or only of opset 1
WITHOUT_TESTS = {"Not", "SimplifiedLayerNormalization", "LpPool", "GlobalLpPool", "Scatter"}


@cache
def cases():
    """ONNX's tests by the operator of their first node, and of those that come in plain operators by all of these."""
    from onnx.backend.test.loader import load_model_tests

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = load_model_tests(kind="node")
    by_operator = {}
    for case in found:
        by_operator.setdefault(case.model.graph.node[0].op_type, []).append(case)
    return by_operator


def as_tensor(value):
    return tensor_of(np.asarray(numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else value))


def check(case):
    model = model_of(case.model)
    for inputs, outputs in case.data_sets:
        with torch.no_grad():
            given = {i.name: as_tensor(v) for i, v in zip(model.inputs, inputs, strict=False)}
            found = model(**given)
        found = found if isinstance(found, tuple) else (found,)
        assert len(found) == len(outputs)
        for got, wanted in zip(found, map(as_tensor, outputs), strict=True):
            got, wanted = array_of(got), array_of(wanted)
            assert (got.shape, got.dtype) == (wanted.shape, wanted.dtype)
            coarse = wanted.dtype.name in ("float16", "bfloat16")
            wide = np.complex128 if wanted.dtype.kind == "c" else np.float64
            rtol, atol = (3e-2, 1e-2) if coarse else (max(case.rtol, 1e-3), max(case.atol, 1e-6))
            np.testing.assert_allclose(got.astype(wide), wanted.astype(wide), rtol, atol)


@cache
def outcomes(op):
    found = Counter()
    for case in cases().get(op, []):
        try:
            check(case)
            found["passed"] += 1
        except NotImplementedError as error:
            assert any(kind in str(error).lower() for kind in UNSIGNED), (case.name, error)
            found["unsigned"] += 1
        except SubjectError:  # quantised numbers, sequences, modes of training
            found["refused"] += 1
        except AssertionError as error:
            raise AssertionError(f"{case.name}: {error}") from error
    return found


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("op", OPERATORS)
def test_gives_what_the_tests_of_onnx_want(op):
    found = outcomes(op)
    assert found["passed"] or op in WITHOUT_TESTS, found


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_so_many_tests_of_onnx_pass():
    listed = {op for domain, op in TABLE if not domain} | {"Shape", "Size", "Constant"}
    total = sum((outcomes(op) for op in sorted(cases().keys() & listed)), Counter())
    assert total["passed"] >= 1300
    assert total["refused"] <= 240
