"""Attention: as torch computes it in one operation, and as the packed module does."""

from ..flow import Flow, Role, arguments, value_of
from ..ir import Node
from ..labels import Dim


def attention(flow: Flow, node: Node) -> None:
    """`softmax(q k^T * scale + mask) v`: heads are separate, features of queries and keys meet, others pass."""
    given = arguments(node, "query key value attn_mask dropout_p is_causal scale enable_gqa")
    q, k, v = (given[name].value for name in ("query", "key", "value"))
    features = flow.equate(flow.dim(q, -1), flow.dim(k, -1))
    flow.consume(q, -1)
    if features is not None:
        flow.notes.contracted.append(features)
        if given.get("scale") is None:
            flow.freeze([features], "the attention scales by its own head dimension")
    length = flow.equate(flow.dim(k, -2), flow.dim(v, -2))
    flow.freeze([length], "attention runs along it")
    dims = flow.all(q)
    lead = [_heads(flow, q, k, v, d) for d in range(len(dims) - 2)]
    flow.notes.heads += [labels for labels in lead if labels is not None]
    mask = value_of(given.get("attn_mask"))
    if mask is not None:
        shape = flow.shape(mask)
        flow.freeze([flow.dim(mask, -1)], "attention runs along it")
        flow.equate(dims[-2], flow.dim(mask, -2)) if shape[-2] > 1 else None
        for d in range(-len(shape), -2):
            if shape[d] > 1:
                flow.equate(lead[d + 2], flow.dim(mask, d))
    made = flow.dim(v, -1)
    if made is not None:
        flow.notes.values.append(made)
    flow.set(node.outs[0], [*lead, dims[-2], made])
    free = list(zip(flow.shape(q)[:-1], [*lead, dims[-2]], strict=True))
    flow.product(*free, (flow.shape(k)[-2], None), (flow.shape(q)[-1], features))
    flow.product(*free, (flow.shape(k)[-2], None), (flow.shape(v)[-1], made))


def _heads(flow: Flow, q: int, k: int, v: int, d: int) -> Dim:
    """One of the leading dimensions; keys and values may have fewer heads than queries."""
    own, shared = flow.shape(q)[d], flow.shape(k)[d]
    keys = flow.equate(flow.dim(k, d), flow.dim(v, d)) if flow.shape(v)[d] == shared else flow.dim(k, d)
    if own == shared:
        return flow.equate(flow.dim(q, d), keys)
    if shared == 1:
        return flow.dim(q, d)
    rows, cols = flow.algebra.split(flow.dim(q, d), shared, own // shared)
    return flow.algebra.merged([(flow.equate(rows, keys), shared), (cols, own // shared)])


_PACKED = """query key value embed_dim_to_check num_heads in_proj_weight in_proj_bias bias_k bias_v add_zero_attn
dropout_p out_proj_weight out_proj_bias training key_padding_mask need_weights attn_mask use_separate_proj_weight
q_proj_weight k_proj_weight v_proj_weight"""


def packed(flow: Flow, node: Node) -> None:
    """`nn.MultiheadAttention`: queries, keys and values from one weight or three, heads, and the output layer.

    Its inner width is that of its heads, whatever becomes of its outer one: surgery sees to that.
    """
    given = arguments(node, _PACKED)
    q, k, v = (given[name].value for name in ("query", "key", "value"))
    heads = given["num_heads"]
    out_weight, out_bias = given["out_proj_weight"].value, value_of(given.get("out_proj_bias"))
    inner = flow.shape(out_weight)[1]
    labels = flow.dim(out_weight, 1)
    flow.role(out_weight, 1, Role.CONSUMER)
    flow.consume(out_weight, 1)
    weight = value_of(given.get("in_proj_weight"))
    if weight is not None:
        for source in (q, k, v):
            flow.contracted(source, -1, weight, 1)
        flow.role(weight, 1, Role.CONSUMER)
        flow.role(weight, 0, Role.PRODUCER)
        three, rows = flow.algebra.split(flow.dim(weight, 0), 3, inner)
        flow.freeze([three], "queries, keys and values")
        labels = flow.equate(labels, rows)
    else:
        for source, name in ((q, "q_proj_weight"), (k, "k_proj_weight"), (v, "v_proj_weight")):
            separate = given[name].value
            flow.contracted(source, -1, separate, 1)
            flow.role(separate, 1, Role.CONSUMER)
            flow.role(separate, 0, Role.PRODUCER)
            labels = flow.equate(labels, flow.dim(separate, 0))
    bias = value_of(given.get("in_proj_bias"))
    if bias is not None:
        three, rows = flow.algebra.split(flow.dim(bias, 0), 3, inner)
        flow.freeze([three], "queries, keys and values")
        labels = flow.equate(labels, rows)
        flow.role(bias, 0, Role.PRODUCER)
    for name in ("bias_k", "bias_v"):
        extra = value_of(given.get(name))
        if extra is not None:
            labels = flow.equate(labels, flow.dim(extra, -1))
            flow.role(extra, len(flow.shape(extra)) - 1, Role.PRODUCER)
    rows, cols = flow.algebra.split(labels, heads, inner // heads)
    # the scale is that of the original head dimension, and heads are what people take from an attention
    flow.freeze([cols], "the head dimension of a packed attention")
    if rows is not None:
        flow.notes.heads.append(rows)
    made = flow.dim(out_weight, 0)
    flow.role(out_weight, 0, Role.PRODUCER)
    if out_bias is not None:
        made = flow.equate(made, flow.dim(out_bias, 0))
        flow.role(out_bias, 0, Role.PRODUCER)
    dims, shape = flow.all(q), flow.shape(q)
    flow.set(node.outs[0], [*dims[:-1], made])
    for out in node.outs[1:]:
        flow.set(out, [None] * len(flow.shape(out)))
    tokens = [(n, None) for n in shape[:-1]]
    more = (value_of(given.get("bias_k")) is not None) + bool(given.get("add_zero_attn"))
    keys = (flow.shape(k)[0] + more, None)
    head = (inner // heads, None)
    for value in (q, k, v):
        each = [(n, None) for n in flow.shape(value)[:-1]]
        flow.product(*each, (flow.shape(value)[-1], flow.dim(value, -1)), (heads, rows), head)
    for _ in ("scores", "mixing"):
        flow.product(*tokens, keys, (heads, rows), head)
    flow.product(*tokens, (heads, rows), head, (flow.shape(out_weight)[0], made))


RULES = {"attention": attention, "multi_head_attention": packed}
