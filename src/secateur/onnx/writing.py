"""From the module of a graph back to an ONNX file: the same graph with smaller weights and other sizes."""

from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx.shape_inference
from torch import Tensor, nn

import onnx
from onnx import AttributeProto, numpy_helper

from .files import is_large
from .formulas import Constant, Formula, Part, constants_of
from .model import OnnxModel, Operation
from .recurrent import Recurrent
from .values import array_of


def proto_of(model: OnnxModel) -> onnx.ModelProto:
    """The graph with the weights, sizes and attributes of now; names, opsets and metadata are those of the file."""
    return _Writer(model).proto()


class _Writer:
    def __init__(self, model: OnnxModel) -> None:
        self._model, self._origin = model, model._source
        self._proto = onnx.ModelProto()
        self._proto.CopyFrom(self._origin.proto)
        self._graph = self._proto.graph
        self._names = {n for node in self._graph.node for n in (*node.input, *node.output)}
        self._names |= {t.name for t in self._graph.initializer} | {node.name for node in self._graph.node}
        self._new: dict[int, list[onnx.NodeProto]] = {}
        self._read_before = {name for node in self._graph.node for name in node.input}

    def proto(self) -> onnx.ModelProto:
        inferred = len(self._graph.value_info) > 0
        self._put_tensors()
        for number, path in self._origin.paths.items():
            self._mend(number, self._model.get_submodule(path))
        for k, name in enumerate(self._model.outputs):
            self._check_output(f"output_{k}", name)
        self._insert()
        self._leave_out()
        del self._graph.value_info[:]
        if inferred and not is_large(self._proto):
            return onnx.shape_inference.infer_shapes(self._proto)
        return self._proto

    def _put_tensors(self) -> None:
        initializers = {t.name: t for t in self._graph.initializer}
        constants = {n.output[0]: n for n in self._graph.node if n.op_type == "Constant"}
        inputs = {v.name: v for v in self._graph.input}
        arrays = [
            (p.source, p.array(cast(nn.RNNBase, self._model.get_submodule(p.path))), -1, 0) for p in self._origin.packed
        ]
        for held in self._origin.held:
            tensor: Tensor = getattr(self._model.get_submodule(held.path), held.leaf)
            arrays.append((held.source, array_of(tensor.t() if held.turned else tensor), held.node, held.place))
        written: dict[str, np.ndarray] = {}
        for source, array, node, place in arrays:
            if source in written:
                same = written[source].shape == array.shape and bool((written[source] == array).all())
                if not same and node >= 0:  # one value for several, which are no longer alike
                    self._graph.node[node].input[place] = self._initializer(source, array)
                continue
            written[source] = array
            made = numpy_helper.from_array(np.ascontiguousarray(array).reshape(array.shape), source)
            if source in initializers:
                made.doc_string = initializers[source].doc_string
                initializers[source].CopyFrom(made)
            else:
                _set_constant(constants[source], made)
            if source in inputs:
                for told, size in zip(inputs[source].type.tensor_type.shape.dim, array.shape, strict=True):
                    told.dim_value = size

    def _mend(self, number: int, module: nn.Module) -> None:
        node = self._graph.node[number]
        if not isinstance(module, Operation):
            if isinstance(module, nn.modules.conv._ConvNd):
                _set_attribute(node, "group", module.groups)
            if isinstance(module, Recurrent):
                _set_attribute(node, "hidden_size", module.layer.hidden_size)
            return
        for name, attribute in module._names.items():
            now = vars(module)[attribute]
            if type(now) in (int, tuple) and now != module._as_read.get(attribute):
                _set_attribute(node, name, now)
        if node.op_type in ("LSTM", "GRU", "RNN"):
            inner = getattr(module, module._slots[2]) if isinstance(module._slots[2], str) else None
            if isinstance(inner, Tensor):
                _set_attribute(node, "hidden_size", inner.shape[-1])
        for place, slot in enumerate(module._slots):
            if isinstance(slot, str) or not any(self._changed(module, c) for c in constants_of(slot)):
                continue
            node.input[place] = self._rewritten(number, module, slot, {})

    def _changed(self, module: Operation, constant: Constant) -> bool:
        return bool(getattr(module, constant.attribute) != module._as_read[constant.attribute])

    def _rewritten(self, number: int, module: Operation, part: Part, known: dict[int, str]) -> str:
        """The name of a value that is computed from the constants of now, for this node alone."""
        if isinstance(part, Constant):
            if not self._changed(module, part):
                return part.source
            array = np.asarray(getattr(module, part.attribute), part.dtype)
            return self._initializer(part.source, array if part.shape is None else array.reshape(part.shape))
        if not isinstance(part, Formula):
            raise AssertionError(part)
        if id(part) not in known:
            old = self._graph.node[part.node]
            if not any(self._changed(module, c) for c in constants_of(part)):
                known[id(part)] = old.output[part.out]
                return known[id(part)]
            inputs = [
                name if not isinstance(p, Constant | Formula) else self._rewritten(number, module, p, known)
                for name, p in zip(old.input, part.parts, strict=True)
            ]
            copy = onnx.NodeProto()
            copy.CopyFrom(old)
            copy.input[:] = inputs
            copy.output[:] = [self._free(name) for name in old.output]
            copy.name = self._free(old.name or old.op_type)
            self._new.setdefault(number, []).append(copy)
            known[id(part)] = copy.output[part.out]
        return known[id(part)]

    def _check_output(self, path: str, name: str) -> None:
        """Sizes that are outputs of the graph never change."""
        module = dict(self._model.named_children()).get(path)
        if isinstance(module, Operation):
            for slot in module._slots:
                constants = () if isinstance(slot, str) else constants_of(slot)
                assert not any(self._changed(module, c) for c in constants), name

    def _initializer(self, source: str, array: np.ndarray) -> str:
        """The name of a new initializer."""
        name = self._free(source)
        self._graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(array).reshape(array.shape), name))
        return name

    def _free(self, name: str) -> str:
        k = 1
        while f"{name}_{k}" in self._names:
            k += 1
        self._names.add(f"{name}_{k}")
        return f"{name}_{k}"

    def _insert(self) -> None:
        """The copies of formulas stand before the node that uses them."""
        if not self._new:
            return
        nodes = []
        for number, node in enumerate(self._graph.node):
            nodes += [*self._new.get(number, ()), node]
        copies = [onnx.NodeProto() for _ in nodes]
        for copy, node in zip(copies, nodes, strict=True):
            copy.CopyFrom(node)
        del self._graph.node[:]
        self._graph.node.extend(copies)

    def _leave_out(self) -> None:
        """Nodes and initializers that were read before, and are not any more."""
        outputs = {v.name for v in self._graph.output}
        while True:
            read = {name for node in self._graph.node for name in node.input} | outputs
            idle = [
                node
                for node in self._graph.node
                if not read.intersection(node.output) and self._read_before.intersection(node.output)
            ]
            if not idle:
                break
            for node in idle:
                self._graph.node.remove(node)
        for tensor in list(self._graph.initializer):
            if tensor.name not in read and tensor.name in self._read_before:
                self._graph.initializer.remove(tensor)


def _set_constant(node: onnx.NodeProto, tensor: onnx.TensorProto) -> None:
    del node.attribute[:]
    tensor.name = ""
    node.attribute.append(onnx.helper.make_attribute("value", tensor))


def _set_attribute(node: onnx.NodeProto, name: str, value: Any) -> None:
    """Change an attribute; one that has its default and is not written stays so."""
    for attribute in node.attribute:
        if attribute.name == name:
            if onnx.helper.get_attribute_value(attribute) != (list(value) if isinstance(value, tuple) else value):
                attribute.CopyFrom(onnx.helper.make_attribute(name, value))
            return
    schema = onnx.defs.get_schema(node.op_type, domain=node.domain)
    default = schema.attributes[name].default_value
    if default.type == AttributeProto.UNDEFINED or onnx.helper.get_attribute_value(default) != value:
        node.attribute.append(onnx.helper.make_attribute(name, value))


def save_proto(proto: onnx.ModelProto, file: Path, *, external: bool) -> None:
    """Write a model; its weights go into a file beside it where it had one, or is too large for one file."""
    if external or is_large(proto):
        onnx.save(proto, str(file), save_as_external_data=True, location=f"{file.name}.data", size_threshold=1024)
    else:
        file.write_bytes(proto.SerializeToString())
