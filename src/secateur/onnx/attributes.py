"""What a message of onnx tells, as plain data: attributes of a node, constants, inputs."""

from collections.abc import Mapping
from typing import Any

import numpy as np

import onnx
from onnx import AttributeProto, numpy_helper
from secateur.core import SubjectError

from .model import Input
from .values import dtype_of


def attributes_of(node: onnx.NodeProto, opsets: Mapping[str, int], where: str) -> dict[str, Any]:
    """The attributes as plain data, with the defaults of the operator."""
    found: dict[str, Any] = {}
    try:
        schema = onnx.defs.get_schema(node.op_type, opsets.get(node.domain, 1), node.domain)
    except onnx.defs.SchemaError:
        schema = None
    for name, told in schema.attributes.items() if schema is not None else ():
        if told.default_value.type:
            found[name] = _plain(told.default_value)
    for attribute in node.attribute:
        if attribute.type in (AttributeProto.GRAPH, AttributeProto.GRAPHS):
            raise SubjectError(
                f"{node.op_type} chooses what runs by the values of its inputs",
                where=f"node {node.name!r} of {where}",
                mend="export it without control flow, for one shape of inputs, or simplify it first",
            )
        found[attribute.name] = _plain(attribute)
    return found


def input_of(value: onnx.ValueInfoProto, where: str) -> Input:
    kind = value.type.tensor_type
    if not value.type.HasField("tensor_type"):
        raise SubjectError(f"the input {value.name!r} is no tensor", where=where, mend="give it tensors as inputs")
    shape: tuple[int | str | None, ...] | None = None
    if kind.HasField("shape"):
        shape = tuple(d.dim_value if d.HasField("dim_value") else d.dim_param or None for d in kind.shape.dim)
    return Input(value.name, dtype_of(kind.elem_type, f"input {value.name!r} of {where}"), shape)


def constant_of(node: onnx.NodeProto, where: str) -> np.ndarray:
    attribute = node.attribute[0]
    value = onnx.helper.get_attribute_value(attribute)
    match attribute.name:
        case "value":
            dtype_of(value.data_type, f"node {node.name or node.output[0]!r} of {where}")
            return np.asarray(numpy_helper.to_array(value))
        case "value_int" | "value_ints":
            return np.array(value, np.int64)
        case "value_float" | "value_floats":
            return np.array(value, np.float32)
    raise SubjectError(
        f"a constant of kind {attribute.name!r}", where=f"node {node.name!r} of {where}", mend="export it as a tensor"
    )


def _plain(attribute: AttributeProto) -> Any:
    value = onnx.helper.get_attribute_value(attribute)
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, onnx.TensorProto):
        return np.asarray(numpy_helper.to_array(value))
    if isinstance(value, list | tuple) or attribute.type in (AttributeProto.INTS, AttributeProto.FLOATS):
        return tuple(v.decode() if isinstance(v, bytes) else v for v in value)
    return value
