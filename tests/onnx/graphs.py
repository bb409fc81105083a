"""Graphs written with the helper of onnx, which no model of torch gave."""

import numpy as np

import onnx
from onnx import TensorProto, helper, numpy_helper

FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64


class Maker:
    """Adds nodes and initializers; weights are random."""

    def __init__(self, seed=0):
        self.rng, self.nodes, self.initializers = np.random.default_rng(seed), [], []

    def weight(self, name, *shape):
        values = self.rng.standard_normal(shape) / max(np.prod(shape[1:]), 1) ** 0.5
        return self.constant(name, values.astype(np.float32))

    def constant(self, name, values):
        self.initializers.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def node(self, op, inputs, outputs=None, **attributes):
        outputs = outputs or [f"{op}_{len(self.nodes)}"]
        self.nodes.append(helper.make_node(op, inputs, outputs, name=f"node_{len(self.nodes)}_{op}", **attributes))
        return outputs[0] if len(outputs) == 1 else outputs

    def model(self, inputs, outputs, opset=18, functions=(), **more):
        graph = helper.make_graph(
            self.nodes,
            "made",
            [helper.make_tensor_value_info(n, kind, shape) for n, kind, shape in inputs],
            [helper.make_tensor_value_info(n, FLOAT, shape) for n, shape in outputs],
            self.initializers,
        )
        opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(f.domain, 1) for f in functions)]
        made = helper.make_model(graph, opset_imports=opsets, functions=list(functions), ir_version=8, **more)
        helper.set_model_props(made, {"author": "nobody"})
        onnx.checker.check_model(made)
        return made


def branches():
    """Split, two branches, concatenation, depthwise and grouped convolutions, Gemm of both kinds."""
    m = Maker()
    x = m.node("Conv", ["x", m.weight("w0", 12, 3, 3, 3), m.weight("b0", 12)], auto_pad="SAME_UPPER", strides=[2, 2])
    x = m.node("Relu", [x])
    a, b = m.node("Split", [x, m.constant("parts", np.array([8, 4]))], ["a", "b"], axis=1)
    a = m.node("Conv", [a, m.weight("w1", 8, 1, 3, 3)], group=8, pads=[1, 1, 1, 1])
    b = m.node("Conv", [b, m.weight("w2", 8, 2, 3, 3), m.weight("b2", 8)], group=2, pads=[0, 0, 2, 2])
    x = m.node("Concat", [a, b], axis=1)
    scale, shift = m.constant("scale", np.ones(16, np.float32)), m.weight("shift", 16)
    mean, var = m.weight("mean", 16), m.constant("var", np.linspace(0.5, 2, 16, dtype=np.float32))
    x = m.node("BatchNormalization", [x, scale, shift, mean, var])
    x = m.node("Flatten", [m.node("GlobalAveragePool", [m.node("LeakyRelu", [x], alpha=0.1)])])
    x = m.node("Gemm", [x, m.weight("w3", 20, 16), m.weight("b3", 20)], transB=1)
    m.node("Gemm", [m.node("Tanh", [x]), m.weight("w4", 20, 5), m.weight("b4", 5)], ["y"])
    return m.model([("x", FLOAT, ["n", 3, 12, 12])], [("y", ["n", 5])]), {"x": (2, 3, 12, 12)}


def attention():
    """Attention in products and shapes: constants in some, arithmetic of sizes in others, one size for three."""
    m = Maker(1)
    shape = m.node("Shape", ["x"])
    zero = m.constant("zero", np.array([0]))
    batch = m.node("Gather", [shape, m.constant("first", np.array(0))])
    batch = m.node("Unsqueeze", [batch, zero])
    sizes = m.node("Concat", [batch, m.constant("rest", np.array([-1, 4, 8]))], axis=0)

    def heads(name, perm):
        made = m.node("Add", [m.node("MatMul", ["x", m.weight(f"w{name}", 16, 32)]), m.weight(f"b{name}", 32)])
        return m.node("Transpose", [m.node("Reshape", [made, sizes])], perm=perm)

    q, k, v = heads("q", [0, 2, 1, 3]), heads("k", [0, 2, 3, 1]), heads("v", [0, 2, 1, 3])
    scores = m.node("Mul", [m.node("MatMul", [q, k]), m.constant("scale", np.float32(8**-0.5))])
    made = m.node("MatMul", [m.node("Softmax", [scores], axis=-1), v])
    made = m.node("Reshape", [m.node("Transpose", [made], perm=[0, 2, 1, 3]), m.constant("flat", np.array([0, 0, 32]))])
    made = m.node("Add", [m.node("MatMul", [made, m.weight("wo", 32, 16)]), "x"])
    made = m.node("LayerNormalization", [made, m.weight("ln", 16), m.weight("ln_b", 16)], axis=-1)
    hidden = m.node("Erf", [m.node("MatMul", [made, m.weight("w1", 16, 24)])])
    m.node("MatMul", [hidden, m.weight("w2", 24, 7)], ["y"])
    return m.model([("x", FLOAT, ["n", "t", 16])], [("y", ["n", "t", 7])]), {"x": (2, 5, 16)}


def recurrent():
    """An LSTM in both directions and a GRU of which the reset comes first, states given as zeros."""
    m = Maker(2)
    y, _, _ = m.node(
        "LSTM",
        ["x", m.weight("w", 2, 40, 6), m.weight("r", 2, 40, 10), m.weight("b", 2, 80)],
        ["steps", "h", "c"],
        hidden_size=10,
        direction="bidirectional",
    )
    y = m.node("Transpose", [y], perm=[0, 2, 1, 3])
    y = m.node("Reshape", [y, m.constant("joined", np.array([0, 0, 20]))])
    m.node("GRU", [y, m.weight("gw", 1, 24, 20), m.weight("gr", 1, 24, 8)], ["", "last"], hidden_size=8)
    y = m.node("Squeeze", ["last", m.constant("axis", np.array([0]))])
    m.node("Gemm", [y, m.weight("o", 3, 8)], ["y"], transB=1)
    return m.model([("x", FLOAT, [4, 2, 6])], [("y", [2, 3])]), {"x": (4, 2, 6)}


def shared():
    """One table looked up and used as the output layer, one bias in two layers, a pixel shuffle, a padded shortcut."""
    m = Maker(3)
    table = m.weight("table", 11, 12)
    x = m.node("Gather", [table, "ids"])
    bias, weight = m.weight("bias", 18), m.weight("into", 12, 18)
    a = m.node("Relu", [m.node("Add", [m.node("MatMul", [x, weight]), bias])])
    b = m.node("Sigmoid", [m.node("Add", [m.node("MatMul", [x, weight]), bias])])
    y = m.node("MatMul", [m.node("Mul", [a, b]), m.weight("out", 18, 12)])
    y = m.node("Add", [x, y])
    m.node("MatMul", [y, m.node("Transpose", [table], perm=[1, 0])], ["y"])
    return m.model([("ids", INT64, ["n", 6])], [("y", ["n", 6, 11])]), {"ids": (2, 6)}


def function():
    """A function of the file's own, called twice."""
    m = Maker(4)
    body = [
        helper.make_node("MatMul", ["v", "w"], ["p"]),
        helper.make_node("Add", ["p", "b"], ["s"]),
        helper.make_node("Relu", ["s"], ["o"]),
    ]
    opsets = [helper.make_opsetid("", 18)]
    dense = helper.make_function("own", "Dense", ["v", "w", "b"], ["o"], body, opsets)
    x = m.node("Dense", ["x", m.weight("w1", 6, 14), m.weight("b1", 14)], domain="own")
    x = m.node("Dense", [x, m.weight("w2", 14, 10), m.weight("b2", 10)], domain="own")
    m.node("MatMul", [x, m.weight("w3", 10, 4)], ["y"])
    return m.model([("x", FLOAT, ["n", 6])], [("y", ["n", 4])], functions=[dense]), {"x": (3, 6)}


def resized():
    """A picture made larger to sizes that a constant tells, channels among them, and a transposed convolution."""
    m = Maker(5)
    x = m.node("Conv", ["x", m.weight("w0", 10, 3, 3, 3), m.weight("b0", 10)], pads=[1, 1, 1, 1])
    small = m.node("MaxPool", [x], kernel_shape=[2, 2], strides=[2, 2])
    sizes = m.constant("sizes", np.array([2, 10, 8, 8]))
    large = m.node(
        "Resize",
        [small, "", "", sizes],
        mode="nearest",
        nearest_mode="floor",
        coordinate_transformation_mode="asymmetric",
    )
    x = m.node("Sub", [m.node("Clip", [large, m.constant("low", np.float32(0)), ""]), x])
    x = m.node("ConvTranspose", [x, m.weight("w1", 10, 6, 2, 2), m.weight("b1", 6)], strides=[2, 2])
    x = m.node("PRelu", [x, m.weight("slope", 6, 1, 1)])
    x = m.node("DepthToSpace", [m.node("Conv", [x, m.weight("w2", 8, 6, 1, 1)])], blocksize=2)
    m.node("ReduceMean", [x, m.constant("axes", np.array([2, 3]))], ["y"], keepdims=0)
    return m.model([("x", FLOAT, [2, 3, 8, 8])], [("y", [2, 2])]), {"x": (2, 3, 8, 8)}


def norms():
    """Two group norms in views, as exporters write them, with one constant for the scale of both."""
    m = Maker(6)
    one, zero = m.constant("one", np.ones(4, np.float32)), m.constant("none", np.zeros(4, np.float32))
    groups, x = m.constant("groups", np.array([0, 4, -1])), "x"
    for k, (taken, made) in enumerate([(3, 8), (8, 12)]):
        x = m.node("Conv", [x, m.weight(f"w{k}", made, taken, 3, 3), m.weight(f"b{k}", made)], pads=[1, 1, 1, 1])
        y = m.node("InstanceNormalization", [m.node("Reshape", [x, groups]), one, zero])
        y = m.node("Reshape", [y, m.node("Shape", [x])])
        x = m.node("Relu", [m.node("Mul", [y, m.weight(f"scale{k}", made, 1, 1)])])
    m.node("Gemm", [m.node("Flatten", [m.node("GlobalMaxPool", [x])]), m.weight("out", 12, 5)], ["y"])
    return m.model([("x", FLOAT, ["n", 3, 6, 6])], [("y", ["n", 5])]), {"x": (2, 3, 6, 6)}


GRAPHS = {f.__name__: f for f in (branches, attention, recurrent, shared, function, resized, norms)}
