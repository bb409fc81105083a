"""From an ONNX file to a module of torch."""

import logging
from pathlib import Path
from typing import Any

import onnx.inliner
from torch import nn

import onnx
from secateur.core import SubjectError

from .attributes import attributes_of, input_of
from .files import opened
from .filling import Filler
from .known import Known
from .layers import Held, layer_of
from .model import OnnxModel, Operation, Scope, Step, operation_of
from .names import legal, paths_of
from .operators import TABLE, Operator, find
from .recurrent import Packed, recurrent_of

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
        self._known = Known(self._graph, where)
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
        inputs = [input_of(v, self._where) for v in graph.input if v.name not in self._known.constants]
        made = OnnxModel(inputs, [v.name for v in graph.output])
        paths = paths_of(graph.node)
        for number, node in enumerate(graph.node):
            if node.op_type == "Constant" and node.domain in ("", "ai.onnx"):
                continue
            attributes = attributes_of(node, self._opsets, self._where)
            if self._known.is_formula(node):
                self._known.enter_formulas(number, node, attributes)
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

    def _module(
        self, number: int, node: onnx.NodeProto, attributes: dict[str, Any], path: str
    ) -> tuple[nn.Module, tuple[str, ...]]:
        recurrent = self._recurrent(node, attributes, path)
        if recurrent is not None:
            return recurrent, tuple(name for name in (node.input[0], *node.input[5:7]) if name)
        layer = self._layer(number, node, attributes, path)
        if layer is not None:
            return layer, tuple(name for name in node.input if name and name not in self._known.constants)
        operator = self._operator(node)
        wanted = max((k + 1 for k, name in enumerate(node.output) if name), default=1)
        made = operation_of(node.op_type)(node.op_type, node.name or path, operator, wanted)
        for name, value in attributes.items():
            made._names[name] = "groups" if name == "group" else legal(name)
            vars(made)[made._names[name]] = value
        filler = Filler(self._known, made, path, number)
        made._slots = tuple(filler.slot(name, operator.name(place), place) for place, name in enumerate(node.input))
        self.origin.held += filler.held
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
        own = all(name in self._known.constants and len(self._known.uses[name]) == 1 for name in names)
        states = [name for name in node.input[5:7] if name]
        many = 2 if node.op_type == "LSTM" else 1
        plain = len(states) in (0, many) and not any(
            name in self._known.constants or name in self._known.formulas for name in states
        )
        if not own or not plain or len(names) < 2 or any(node.input[4:5]) or any(node.input[7:8]) or node.domain:
            return None
        found = recurrent_of(node.op_type, attributes, [self._known.constants[name] for name in names])
        kinds = (("weight_ih",), ("weight_hh",), ("bias_ih", "bias_hh"))
        for name, kind in zip(names, kinds, strict=False) if found is not None else ():
            self.origin.packed.append(Packed(name, f"{path}.layer", kind))
        return found

    def _layer(self, number: int, node: onnx.NodeProto, attributes: dict[str, Any], path: str) -> nn.Module | None:
        weights = {
            place: self._known.constants[name]
            for place, name in enumerate(node.input)
            if name in self._known.constants and self._known.constants[name].dtype.kind in "fV"
        }
        given = [name for place, name in enumerate(node.input) if name and place not in weights]
        one = len([n for n in node.output if n]) == 1 and len(given) == 1 and given[0] not in self._known.formulas
        if node.domain not in ("", "ai.onnx") or not one or given[0] in self._known.constants:
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
            isinstance(self._known.shared.get((source, turned), tensors[source]), nn.Parameter)
            == isinstance(tensors[source], nn.Parameter)
            and (source, not turned) not in self._known.shared
            for source, turned in sources.items()
        ]
        if len(sources) < len(places) or not all(alike):  # one initializer is a weight here and a statistic there
            return None
        for place, (leaf, turned) in places.items():
            source = node.input[place]
            held: dict[str, Any] = layer._parameters if leaf in layer._parameters else layer._buffers
            if source not in self._known.loose:
                held[leaf] = self._known.shared.setdefault((source, turned), tensors[source])
            self.origin.held.append(Held(source, path, leaf, number, place, turned))
        return layer

    def _always_turned(self, source: str) -> bool:
        """Whether a weight is only used as the second factor of products that want it the other way round."""

        def turns(node: onnx.NodeProto, place: int) -> bool:
            at = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
            plain = at.get("alpha", 1) == 1 and at.get("beta", 1) == 1 and not at.get("transA", 0)
            gemm = node.op_type == "Gemm" and plain and not at.get("transB", 0) and self._is_layer_bias(node)
            fits = node.op_type == "MatMul" or gemm
            return (
                fits
                and place == 1
                and node.input[0] not in self._known.constants
                and node.input[0] not in self._known.formulas
            )

        return all(turns(node, place) for node, place in self._known.uses[source])

    def _is_layer_bias(self, node: onnx.NodeProto) -> bool:
        if len(node.input) < 3 or not node.input[2]:
            return True
        bias, weight = self._known.constants.get(node.input[2]), self._known.constants[node.input[1]]
        return bias is not None and bias.shape == (weight.shape[1],)

    def _outputs_without_nodes(self, made: OnnxModel) -> None:
        """Outputs that are sizes, constants or inputs: an operation gives them."""
        there = {name for step in made._steps for name in step.gives} | {i.name for i in made.inputs}
        for k, name in enumerate(made.outputs):
            if name in there:
                continue
            operator = find("Identity", 13)
            assert operator is not None
            module, path = Operation("Identity", name, operator, 1), f"output_{k}"
            filler = Filler(self._known, module, path, -1)
            module._slots = (filler.slot(name, "x", 0),)
            self.origin.held += filler.held
            made.add_module(path, module)
            made._steps.append(Step(module, tuple(filler.takes), (name,)))

    def _empty(self) -> None:
        """Leave the values out of the message that modules hold."""
        held = {h.source for h in self.origin.held} | {p.source for p in self.origin.packed}
        for tensor in self._graph.initializer:
            if tensor.name in held:
                for field in ("raw_data", "float_data", "int32_data", "int64_data", "double_data", "uint64_data"):
                    tensor.ClearField(field)


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
