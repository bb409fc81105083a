"""Which operations relevance goes back through, and how, by torch's names for them."""

import operator

WEIGHTED = {"linear", *(f"conv{t}{d}d" for t in ("", "_transpose") for d in (1, 2, 3))}
AVERAGES = {"mean", "sum", "interpolate", *(f"{a}avg_pool{d}d" for a in ("", "adaptive_") for d in (1, 2, 3))}
PASSED_ON = {
    *("relu", "relu6", "hardtanh", "clamp", "leaky_relu", "elu", "selu", "gelu", "silu", "mish", "sigmoid", "tanh"),
    *("softplus", "hardswish", "hardsigmoid", "layer_norm", "group_norm", "instance_norm", "rms_norm"),
}
ROUTES = {
    *("reshape", "view", "flatten", "unflatten", "permute", "transpose", "t", "movedim", "contiguous", "clone", "get"),
    *("getitem", "narrow", "select", "chunk", "split", "unbind", "cat", "concat", "stack", "pad", "unsqueeze"),
    *("squeeze", "expand", "expand_as", "repeat", "roll", "pixel_shuffle", "to", "float", "double", "type", "size"),
    *("dim", "len", "numel", "stride", "is_floating_point", "detach", "identity", "dropout", "dropout1d", "dropout2d"),
    *(f"{a}max_pool{d}d" for a in ("", "adaptive_") for d in (1, 2, 3)),
}
SUMS = {"add": 1.0, "radd": 1.0, "iadd": 1.0, "sub": -1.0, "isub": -1.0}
PRODUCTS = {
    **dict.fromkeys(("mul", "rmul", "imul", "multiply"), operator.mul),
    **dict.fromkeys(("div", "truediv", "itruediv", "divide"), operator.truediv),
}
LOSSES = {
    "cross_entropy",
    "nll_loss",
    "mse_loss",
    "binary_cross_entropy_with_logits",
}  # a model's own: nothing comes back
