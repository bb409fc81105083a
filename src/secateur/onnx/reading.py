"""From an ONNX file to a module of torch."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx.inliner
from torch import Tensor, nn

import onnx
from onnx import AttributeProto, numpy_helper
from secateur.core import SubjectError

from .files import opened
from .formulas import FORMULAS, Constant, Formula, Given, Part, value_of
from .layers import Held, layer_of
from .model import Input, OnnxModel, Operation, Scope, Step, operation_of
from .names import legal, paths_of
from .operators import TABLE, Operator, find
from .recurrent import Packed, recurrent_of
from .values import dtype_of, tensor_of

_log = logging.getLogger(__name__)
_SMALL = 64
_HUGE = 1e4
_QUANTISED = ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "ConvInteger", "MatMulInteger")
_CONTROL = ("If", "Loop", "Scan")


def read(file: str | Path) -> OnnxModel:
    """The model of an ONNX file, as a module of torch that is pruned, trained and saved like any other.

    Args:
        file: with its external data beside it, if it has any.

    Raises:
        CheckpointError: there is no such file; it is damaged; its external data is missing.
        SubjectError: an operator is not supported, is quantised, or chooses its graph at run time; names the node.
    """
    path = Path(file)
    proto, external = opened(path)
    made = model_of(proto, where=str(path))
    made._source.external = external
    return made


def model_of(proto: onnx.ModelProto, where: str = "ModelProto") -> OnnxModel:
    """The module of a message of onnx; its functions are taken apart into nodes."""
    if proto.functions:
        proto = onnx.inliner.inline_local_functions(proto)
    return _Reader(proto, where).model()


class Origin:
    """What a module knows of the file that it comes from: everything that is not a weight or a size.

    Attributes:
        proto: the message, without the values that modules hold.
        held: which tensor of which module is which initializer.
        paths: of the module of each node.
        packed: initializers that hold several tensors.
        external: whether the weights lay in a file of their own.
    """

    def __init__(self, proto: onnx.ModelProto) -> None:
        self.proto = proto
        self.held: list[Held] = []
        self.paths: dict[int, str] = {}
        self.packed: list[Packed] = []
        self.external = False


class _Reader:
    def __init__(self, proto: onnx.ModelProto, where: str) -> None:
        self._proto, self._graph, self._where = proto, proto.graph, where
        self._opsets = {o.domain: o.version for o in proto.opset_import}
        self._opsets[""] = self._opsets.get("", self._opsets.get("ai.onnx", 0))
        self._constants = self._all_constants()
        self._initializers = {t.name for t in self._graph.initializer}
        self._formulas: dict[str, Formula] = {}
        self._uses = self._all_uses()
        self._loose = {name for name, uses in self._uses.items() if len(uses) > 1 and self._is_uniform(name)}
        self._shared: dict[tuple[str, bool], Tensor] = {}
        self._fixed: dict[int, bool] = {}
        self.origin = Origin(proto)

    def model(self) -> OnnxModel:
        if self._opsets[""] < 7:
            raise SubjectError(
                f"its opset is {self._opsets['']}; 7 is the oldest that is read",
                where=self._where,
                mend="convert it: onnx.version_converter.convert_version(model, 17)",
            )
        graph = self._graph
        if graph.sparse_initializer:
            raise SubjectError("it holds sparse tensors", where=self._where, mend="store them densely")
        inputs = [_input(v, self._where) for v in graph.input if v.name not in self._constants]
        made = OnnxModel(inputs, [v.name for v in graph.output])
        paths = paths_of(graph.node)
        for number, node in enumerate(graph.node):
            if node.op_type == "Constant" and node.domain in ("", "ai.onnx"):
                continue
            attributes = self._attributes(node)
            if self._is_formula(node):
                self._enter_formulas(number, node, attributes)
                continue
            module, takes = self._module(number, node, attributes, paths[number])
            self.origin.paths[number] = paths[number]
            _place(made, paths[number], module)
            made._steps.append(Step(module, takes, tuple(node.output)))
        self._outputs_without_nodes(made)
        _drop_early(made)
        self._empty()
        made._source = self.origin
        return made.eval()

    def _all_constants(self) -> dict[str, np.ndarray]:
        found = {}
        for tensor in self._graph.initializer:
            dtype_of(tensor.data_type, f"initializer {tensor.name!r} of {self._where}")
            found[tensor.name] = numpy_helper.to_array(tensor)
        for node in self._graph.node:
            if node.op_type == "Constant" and node.domain in ("", "ai.onnx"):
                found[node.output[0]] = _constant(node, self._where)
        return found

    def _all_uses(self) -> dict[str, list[tuple[onnx.NodeProto, int]]]:
        found: dict[str, list[tuple[onnx.NodeProto, int]]] = {}
        for node in self._graph.node:
            for place, name in enumerate(node.input):
                found.setdefault(name, []).append((node, place))
        return found

    def _attributes(self, node: onnx.NodeProto) -> dict[str, Any]:
        """The attributes as plain data, with the defaults of the operator."""
        found: dict[str, Any] = {}
        try:
            schema = onnx.defs.get_schema(node.op_type, self._opsets.get(node.domain, 1), node.domain)
        except onnx.defs.SchemaError:
            schema = None
        for name, told in schema.attributes.items() if schema is not None else ():
            if told.default_value.type:
                found[name] = _plain(told.default_value)
        for attribute in node.attribute:
            if attribute.type in (AttributeProto.GRAPH, AttributeProto.GRAPHS):
                raise SubjectError(
                    f"{node.op_type} chooses what runs by the values of its inputs",
                    where=f"node {node.name!r} of {self._where}",
                    mend="export it without control flow, for one shape of inputs, or simplify it first",
                )
            found[attribute.name] = _plain(attribute)
        return found

    def _is_uniform(self, name: str) -> bool:
        """Whether a value is one number over and over: exporters store one such for all norms, which nothing ties."""
        array = self._constants.get(name)
        return (
            array is not None and array.dtype.kind in "fV" and array.size > 1 and bool((array == array.flat[0]).all())
        )

    def _is_small(self, name: str) -> bool:
        array = self._constants[name]
        return array.size == 1 or (array.dtype.kind in "iub" and array.ndim <= 1 and array.size <= _SMALL)

    def _is_formula(self, node: onnx.NodeProto) -> bool:
        """Whether all that a node takes is small, or it reads a shape."""
        if node.op_type not in FORMULAS or node.domain not in ("", "ai.onnx"):
            return False
        if node.op_type in ("Shape", "Size"):
            return True
        if node.op_type == "ConstantOfShape" and any(a.t.data_type in (1, 10, 11, 16) for a in node.attribute):
            return False
        if node.op_type == "ConstantOfShape" and not node.attribute:
            return False
        return all(
            not name or name in self._formulas or (name in self._constants and self._is_small(name))
            for name in node.input
        )

    def _enter_formulas(self, number: int, node: onnx.NodeProto, attributes: dict[str, Any]) -> None:
        parts = tuple(self._formula_part(name) for name in node.input)
        for out, name in enumerate(node.output):
            self._formulas[name] = Formula(number, node.op_type, attributes, parts, out, len(node.output))

    def _formula_part(self, name: str) -> Any:
        """A part of the formula as the file has it: its constants and tensors are told by their names."""
        if not name:
            return None
        if name in self._formulas:
            return self._formulas[name]
        if name in self._constants and self._is_small(name):
            return Constant(name, name, self._constants[name].dtype, self._constants[name].shape)
        return _Tensor(name)

    def _module(
        self, number: int, node: onnx.NodeProto, attributes: dict[str, Any], path: str
    ) -> tuple[nn.Module, tuple[str, ...]]:
        recurrent = self._recurrent(node, attributes, path)
        if recurrent is not None:
            return recurrent, tuple(name for name in (node.input[0], *node.input[5:7]) if name)
        layer = self._layer(number, node, attributes, path)
        if layer is not None:
            return layer, tuple(name for name in node.input if name and name not in self._constants)
        operator = self._operator(node)
        wanted = max((k + 1 for k, name in enumerate(node.output) if name), default=1)
        made = operation_of(node.op_type)(node.op_type, node.name or path, operator, wanted)
        for name, value in attributes.items():
            made._names[name] = "groups" if name == "group" else legal(name)
            vars(made)[made._names[name]] = value
        filler = _Filler(self, made, path, number)
        made._slots = tuple(filler.slot(name, operator.name(place), place) for place, name in enumerate(node.input))
        made._as_read = {name: held for name, held in vars(made).items() if not name.startswith("_")}
        return made, tuple(filler.takes)

    def _operator(self, node: onnx.NodeProto) -> Operator:
        where = f"node {node.name or node.output[0]!r} of {self._where}"
        if node.op_type in _QUANTISED or node.op_type.startswith(("QLinear", "QGemm", "QAttention")):
            raise SubjectError(
                f"{node.op_type} is quantised", where=where, mend="prune the model before it is quantised"
            )
        if node.op_type in _CONTROL:
            raise SubjectError(
                f"{node.op_type} chooses what runs by values", where=where, mend="export it without control flow"
            )
        domain = "" if node.domain == "ai.onnx" else node.domain
        operator = find(node.op_type, self._opsets.get(domain, 1), domain)
        if operator is None:
            what = f"{domain}.{node.op_type}" if domain else node.op_type
            known = sum(1 for d, _ in TABLE if not d)
            raise SubjectError(
                f"the operator {what} of opset {self._opsets.get(domain)} is not supported",
                where=where,
                mend=f"export the model with other operators; {known} of ONNX are supported",
            )
        return operator

    def _recurrent(self, node: onnx.NodeProto, attributes: dict[str, Any], path: str) -> nn.Module | None:
        """A recurrent node whose weights are its own, and which takes nothing but states beside them."""
        names = [name for name in node.input[1:4] if name]
        own = all(name in self._constants and len(self._uses[name]) == 1 for name in names)
        states = [name for name in node.input[5:7] if name]
        many = 2 if node.op_type == "LSTM" else 1
        plain = len(states) in (0, many) and not any(
            name in self._constants or name in self._formulas for name in states
        )
        if not own or not plain or len(names) < 2 or any(node.input[4:5]) or any(node.input[7:8]) or node.domain:
            return None
        found = recurrent_of(node.op_type, attributes, [self._constants[name] for name in names])
        kinds = (("weight_ih",), ("weight_hh",), ("bias_ih", "bias_hh"))
        for name, kind in zip(names, kinds, strict=False) if found is not None else ():
            self.origin.packed.append(Packed(name, f"{path}.layer", kind))
        return found

    def _layer(self, number: int, node: onnx.NodeProto, attributes: dict[str, Any], path: str) -> nn.Module | None:
        weights = {
            place: self._constants[name]
            for place, name in enumerate(node.input)
            if name in self._constants and self._constants[name].dtype.kind in "fV"
        }
        given = [name for place, name in enumerate(node.input) if name and place not in weights]
        one = len([n for n in node.output if n]) == 1 and len(given) == 1 and given[0] not in self._formulas
        if node.domain not in ("", "ai.onnx") or not one or given[0] in self._constants:
            return None
        found = layer_of(node.op_type, attributes, weights, sum(map(bool, node.input)))
        if found is None:
            return None
        layer, places = found
        sources = {node.input[place]: turned for place, (_, turned) in places.items()}
        if any(turned and not self._always_turned(source) for source, turned in sources.items()):
            return None
        tensors = {node.input[place]: getattr(layer, leaf) for place, (leaf, _) in places.items()}
        alike = [
            isinstance(self._shared.get((source, turned), tensors[source]), nn.Parameter)
            == isinstance(tensors[source], nn.Parameter)
            and (source, not turned) not in self._shared
            for source, turned in sources.items()
        ]
        if len(sources) < len(places) or not all(alike):  # one initializer is a weight here and a statistic there
            return None
        for place, (leaf, turned) in places.items():
            source = node.input[place]
            held: dict[str, Any] = layer._parameters if leaf in layer._parameters else layer._buffers
            if source not in self._loose:
                held[leaf] = self._shared.setdefault((source, turned), tensors[source])
            self.origin.held.append(Held(source, path, leaf, number, place, turned))
        return layer

    def _always_turned(self, source: str) -> bool:
        """Whether a weight is only used as the second factor of products that want it the other way round."""

        def turns(node: onnx.NodeProto, place: int) -> bool:
            at = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
            plain = at.get("alpha", 1) == 1 and at.get("beta", 1) == 1 and not at.get("transA", 0)
            gemm = node.op_type == "Gemm" and plain and not at.get("transB", 0) and self._is_layer_bias(node)
            fits = node.op_type == "MatMul" or gemm
            return fits and place == 1 and node.input[0] not in self._constants and node.input[0] not in self._formulas

        return all(turns(node, place) for node, place in self._uses[source])

    def _is_layer_bias(self, node: onnx.NodeProto) -> bool:
        if len(node.input) < 3 or not node.input[2]:
            return True
        bias, weight = self._constants.get(node.input[2]), self._constants[node.input[1]]
        return bias is not None and bias.shape == (weight.shape[1],)

    def tensor(self, source: str) -> Tensor:
        """The parameter or buffer of an initializer: one, whoever uses it, unless it is one number over and over."""
        if (source, False) not in self._shared or source in self._loose:
            value = tensor_of(self._constants[source])
            statistic = any(n.op_type == "BatchNormalization" and place > 2 for n, place in self._uses.get(source, ()))
            learnt = not statistic and source in self._initializers and value.is_floating_point() and value.numel() > 1
            learnt = learnt and bool((value.abs() < _HUGE).all())  # not so a mask of what is not attended to
            self._shared[source, False] = nn.Parameter(value) if learnt else value
        return self._shared[source, False]

    def _outputs_without_nodes(self, made: OnnxModel) -> None:
        """Outputs that are sizes, constants or inputs: an operation gives them."""
        there = {name for step in made._steps for name in step.gives} | {i.name for i in made.inputs}
        for k, name in enumerate(made.outputs):
            if name in there:
                continue
            operator = find("Identity", 13)
            assert operator is not None
            module, path = Operation("Identity", name, operator, 1), f"output_{k}"
            filler = _Filler(self, module, path, -1)
            module._slots = (filler.slot(name, "x", 0),)
            made.add_module(path, module)
            made._steps.append(Step(module, tuple(filler.takes), (name,)))

    def _empty(self) -> None:
        """Leave the values out of the message that modules hold."""
        held = {h.source for h in self.origin.held} | {p.source for p in self.origin.packed}
        for tensor in self._graph.initializer:
            if tensor.name in held:
                for field in ("raw_data", "float_data", "int32_data", "int64_data", "double_data", "uint64_data"):
                    tensor.ClearField(field)

    def is_fixed(self, part: Any) -> bool:
        """Whether a formula reads no tensor."""
        if id(part) not in self._fixed:
            reads = isinstance(part, Formula) and not all(map(self.is_fixed, part.parts))
            self._fixed[id(part)] = not reads and not isinstance(part, _Tensor)
        return self._fixed[id(part)]

    def folded(self, formula: Formula) -> np.ndarray:
        """The value of a formula of constants alone."""
        return np.asarray(value_of(formula, _Values(self._constants), ()))

    def output_of(self, formula: Formula) -> str:
        """The name of the value that a formula is in the graph."""
        return str(self._graph.node[formula.node].output[formula.out])

    def fill(self, name: str) -> tuple[str, Any]:
        """What an input of a node is: "none", "value", "formula", "small" or "tensor"."""
        if not name:
            return "none", None
        if name in self._formulas:
            return "formula", self._formulas[name]
        if name in self._constants:
            return ("small" if self._is_small(name) else "tensor"), self._constants[name]
        return "value", None


class _Tensor:
    """A tensor of the graph in a formula, by its name."""

    def __init__(self, name: str) -> None:
        self.name = name


class _Filler:
    """Fills the slots of one operation; its formulas and their constants become its own."""

    def __init__(self, reader: _Reader, module: Operation, path: str, number: int) -> None:
        self._reader, self._module, self._path, self._number = reader, module, path, number
        self.takes: list[str] = []
        self._copies: dict[int, Part] = {}

    def slot(self, name: str, wanted: str, place: int) -> Part | str:
        kind, held = self._reader.fill(name)
        if kind == "value":
            return self._given(name)
        if kind == "small":
            return self._constant(name, held, legal(wanted))
        if kind == "tensor":
            return self._weight(name, legal(wanted), place)
        if kind == "formula":
            return self._formula(held, name, legal(wanted))
        return None

    def _given(self, name: str) -> Given:
        if name not in self.takes:
            self.takes.append(name)
        return Given(self.takes.index(name))

    def _constant(self, source: str, array: np.ndarray, attribute: str) -> Constant:
        attribute = self._free(attribute)
        plain = array.reshape(-1).tolist() if array.ndim else array.item()
        vars(self._module)[attribute] = tuple(plain) if isinstance(plain, list) else plain
        return Constant(attribute, source, array.dtype, array.shape if array.ndim > 1 else None)

    def _free(self, attribute: str) -> str:
        found, k = attribute, 0
        while hasattr(self._module, found):
            k += 1
            found = f"{attribute}_{k}"
        return found

    def _weight(self, source: str, leaf: str, place: int) -> str:
        leaf, tensor = self._free(leaf), self._reader.tensor(source)
        if isinstance(tensor, nn.Parameter):
            self._module.register_parameter(leaf, tensor)
        else:
            self._module.register_buffer(leaf, tensor)
        self._reader.origin.held.append(Held(source, self._path, leaf, self._number, place))
        return leaf

    def _formula(self, formula: Formula, name: str, attribute: str) -> Part:
        """A copy of its own; one of constants alone is a constant."""
        if self._reader.is_fixed(formula):
            return self._constant(name, self._reader.folded(formula), attribute)
        return self._copied(formula, attribute)

    def _copied(self, part: Any, attribute: str) -> Part:
        if id(part) not in self._copies:
            self._copies[id(part)] = self._copy(part, attribute)
        return self._copies[id(part)]

    def _copy(self, part: Any, attribute: str) -> Part:
        if part is None:
            return None
        if isinstance(part, _Tensor):
            return self._given(part.name)
        if isinstance(part, Constant):
            return self._constant(part.source, self._reader.fill(part.source)[1], attribute)
        if self._reader.is_fixed(part):
            return self._constant(self._reader.output_of(part), self._reader.folded(part), attribute)
        parts = tuple(self._copied(p, attribute) for p in part.parts)
        return Formula(part.node, part.op, part.attributes, parts, part.out, part.outs)


class _Values:
    """Holds constants under their names in the graph."""

    def __init__(self, values: Mapping[str, np.ndarray]) -> None:
        self._values = values

    def __getattr__(self, name: str) -> np.ndarray:
        return self._values[name]


def _input(value: onnx.ValueInfoProto, where: str) -> Input:
    kind = value.type.tensor_type
    if not value.type.HasField("tensor_type"):
        raise SubjectError(f"the input {value.name!r} is no tensor", where=where, mend="give it tensors as inputs")
    shape: tuple[int | str | None, ...] | None = None
    if kind.HasField("shape"):
        shape = tuple(d.dim_value if d.HasField("dim_value") else d.dim_param or None for d in kind.shape.dim)
    return Input(value.name, dtype_of(kind.elem_type, f"input {value.name!r} of {where}"), shape)


def _constant(node: onnx.NodeProto, where: str) -> np.ndarray:
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


def _place(root: nn.Module, path: str, module: nn.Module) -> None:
    """Put a module at its path; modules around it that are not there yet are made, alike ones of one class."""
    *scopes, leaf = path.split(".")
    at, so_far = root, ""
    for name in scopes:
        so_far = f"{so_far}.*" if name.isdigit() else f"{so_far}.{name}"
        if name not in at._modules:
            classes = vars(root).setdefault("_scopes", {})
            kind = classes.setdefault(so_far, type("Scope", (Scope,), {}))
            at.add_module(name, kind())
        child = at._modules[name]
        assert child is not None
        at = child
    at.add_module(leaf, module)


def _drop_early(model: OnnxModel) -> None:
    """Note after which step a value is read no more."""
    last: dict[str, Step] = {}
    for step in model._steps:
        last.update(dict.fromkeys((*step.takes, *step.gives), step))
    kept = set(model.outputs) | {""}
    drops: dict[int, list[str]] = {}
    for name, step in last.items():
        if name not in kept:
            drops.setdefault(id(step), []).append(name)
    for step in model._steps:
        step.drops = tuple(drops.get(id(step), ()))
