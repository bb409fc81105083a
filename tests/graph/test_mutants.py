"""Mistakes put into the labels, the surgery and the mending: each must be noticed, or the checks of the zoo are blind.

A mutant is noticed if the cut raises, the smaller model does not run, or one of the two masked references differs.
"""

import sys
from functools import cache

import numpy as np
import pytest
import torch
import zoo
from torch import nn

from secateur.graph import constants, surgery
from secateur.graph.coupling import Coupling
from secateur.graph.labels import Algebra
from secateur.graph.rules import RULES, attention, recurrent, shape

_SITES, _MERGED, _SPLIT, _JOINED, _MENDS = (
    Coupling.sites,
    Algebra.merged,
    Algebra.split,
    shape._joined,
    surgery.mends_of,
)


def half(coupling, g):
    """A keep-set of half of every family."""
    return {f.name: torch.rand(f.size, generator=g).argsort() < (f.size + 1) // 2 for f in coupling.families}


def noticed(name, seeds=range(6)):
    """Whether any of some cuts, each of half of every family, goes wrong."""
    try:
        coupling = zoo.coupled(name)[1]
        cuts = [zoo.cut(name, half(coupling, torch.Generator().manual_seed(seed)), seed) for seed in seeds]
    except Exception:  # to raise is to notice
        return True
    return not all(made.exact for made in cuts)


def at_sites(change):
    """What stays at the sites, mistaken: `change(name, dimension, stays)` gives another array, or None to forget it."""

    def sites(self, gone):
        for name, dim, stays in _SITES(self, gone):
            found = change(name, dim, stays)
            if found is not None:
                yield name, dim, np.ascontiguousarray(found)

    return sites


def site(wanted, change, of_dim=None):
    """A mistake at the sites whose name ends so."""
    return at_sites(lambda n, d, s: change(s) if n.endswith(wanted) and of_dim in (None, d) else s)


def passing(flow, node):
    """A rule of an operation of two tensors that looks at the first only."""
    flow.set(node.outs[0], flow.all(taken(node)[0]))


def taken(node):
    """The values among the arguments of a node."""
    return [a.value for a in node.args if hasattr(a, "value")]


def shifted_slice(flow, node):
    """Off by one to the left where a slice begins in the middle."""
    shape.slice_(flow, node)
    dim = node.args[1] if len(node.args) > 1 else 0
    dims = flow.all(node.outs[0])
    if dims[dim] is not None:
        dims[dim] = np.roll(dims[dim], 1, 0)
    flow.set(node.outs[0], dims)


def replicas_first(flow, q, k, v, d):
    """Query head i belongs to key head i mod r, not i // r."""
    own, shared = flow.shape(q)[d], flow.shape(k)[d]
    keys = flow.equate(flow.dim(k, d), flow.dim(v, d))
    cols, rows = flow.algebra.split(flow.dim(q, d), own // shared, shared)
    return flow.algebra.merged([(cols, own // shared), (flow.equate(rows, keys), shared)])


def gates_in_two(flow, weight, gates, units):
    """Unit h owns rows h of the first gate only, and h + 1 of the others."""
    rows = flow.dim(weight, 0)
    order = np.concatenate([np.roll(np.arange(units), -min(g, 1)) + g * units for g in range(gates)])
    _, cols = flow.algebra.split(None if rows is None else rows[order], gates, units)
    return cols


def swapped_pad(node, coupling, gone):
    """What is padded before and after, exchanged."""
    pairs = list(constants._pad(node, coupling, gone))
    for (before, less), (after, more) in zip(pairs[::2], pairs[1::2], strict=True):
        yield before, more
        yield after, less


def without(attribute):
    """The mends but for one attribute."""

    def mends_of(*args):
        found = _MENDS(*args)
        return [m for m in found if m.attribute != attribute] if isinstance(found, list) else found

    return mends_of


def put_under_one_name(model, pairs):
    """A tensor of two names is cut under the first."""
    return [put_first(model, old, new) for old, new in pairs]


def put_first(model, old, new):
    """Under the first of its names."""
    new = nn.Parameter(new) if isinstance(old, nn.Parameter) else new
    for module in model.modules():
        for held in (module._parameters, module._buffers):
            for name, tensor in held.items():
                if tensor is old:
                    held[name] = new
                    return new
    return new


def by_heads(stays):
    """The heads in reverse order, their features as they were."""
    return stays.reshape(4, -1)[::-1].reshape(-1)


def last_block(stays):
    """Shifted within the last of four gates."""
    blocks = stays.reshape(4, -1).copy()
    blocks[3] = np.roll(blocks[3], 1)
    return blocks.reshape(-1)


def shift(stays):
    return np.roll(stays, 1)


MUTANTS = {
    "a bias is forgotten": ("Residual", Coupling, "sites", site("a.bias", lambda s: None)),
    "a buffer of batch norm is forgotten": ("Residual", Coupling, "sites", site("running_var", lambda s: None)),
    "a buffer of batch norm is cut elsewhere": ("Residual", Coupling, "sites", site("running_mean", shift)),
    "the weight of a layer norm is shifted": ("layer_norm", Coupling, "sites", site("norm.weight", shift)),
    "what goes is kept": ("SqueezeExcitation", Coupling, "sites", site("less.weight", np.invert, of_dim=0)),
    "heads are read in reverse": ("fused_chunks", Coupling, "sites", site("out.weight", by_heads, of_dim=1)),
    "the last gate loses other rows": ("LearntState", Coupling, "sites", site("weight_hh_l0", last_block, of_dim=0)),
    "a consumer reads the next column": ("GatedMlp", Coupling, "sites", site("down.weight", shift, of_dim=1)),
    "a frequency of the rotation is another": ("rotary_halves", Coupling, "sites", site("inv_freq", shift)),
    "concatenation is off by one": ("DenselyConnected", shape, "_joined", lambda *a: np.roll(_JOINED(*a), 1, 0)),
    "a sum equates nothing": ("Residual", RULES, "add", passing),
    "a gate equates nothing": ("SqueezeExcitation", RULES, "mul", passing),
    "the pairs of a rotation are split": ("rotary_halves", RULES, "add", passing),
    "a transposed convolution is a plain one": ("ConvTranspose", RULES, "conv_transpose", RULES["conv"]),
    "a slice begins one too early": ("PartialConv", RULES, "slice", shifted_slice),
    "flattening runs the other way": (
        "FlattenedChannelsFirst",
        Algebra,
        "merged",
        lambda self, dims: _MERGED(self, list(dims)[::-1]),
    ),
    "replicas come before key heads": ("grouped_queries_of_torch", attention, "_heads", replicas_first),
    "gates are shifted against each other": ("LearntState", recurrent, "_gated", gates_in_two),
    "a tied weight is cut under one name": ("TiedEmbedding", surgery, "put_tensors_", put_under_one_name),
    "groups are not updated": ("GroupConv", surgery, "mends_of", without("groups")),
    "heads of a packed attention are not updated": ("packed_batch_first", surgery, "mends_of", without("num_heads")),
    "the split of a stream is not updated": ("Split", surgery, "mends_of", without("sizes")),
    "both sides of a padding are exchanged": ("PaddedShortcut", constants._SIZES, "constant_pad_nd", swapped_pad),
}


MADE_GOOD = [
    "a sum equates nothing",
    "a gate equates nothing",
    "a transposed convolution is a plain one",
    "the pairs of a rotation are split",
]
"""Families that the rules leave apart and that cannot lose different numbers of units are joined by the trials."""


@pytest.fixture(autouse=True)
def _own_couplings(monkeypatch):
    """Families found with a mutant are nobody else's."""
    monkeypatch.setattr(zoo, "coupled", cache(zoo.coupled.__wrapped__))


@pytest.fixture
def mutated(request, monkeypatch):
    """The name of the model on which a mutant, which is at large, should show."""
    name, holder, attribute, wrong = MUTANTS[request.param]
    put = monkeypatch.setitem if isinstance(holder, dict) else monkeypatch.setattr
    put(holder, attribute, wrong)
    return name


@pytest.mark.parametrize("mutated", [m for m in MUTANTS if m not in MADE_GOOD], indirect=True)
def test_a_mutant_is_noticed(mutated):
    assert noticed(mutated)


@pytest.mark.parametrize("mutated", MADE_GOOD, indirect=True)
def test_what_a_rule_forgets_to_say_the_trials_find_out(mutated):
    assert not noticed(mutated)


@pytest.mark.parametrize("mutated", MADE_GOOD, indirect=True)
def test_without_the_trials_it_is_noticed(mutated, monkeypatch):
    monkeypatch.setattr(sys.modules["secateur.graph.alike"], "mends_of", lambda *_: [])
    assert noticed(mutated)


@pytest.mark.parametrize("name", sorted({name for name, *_ in MUTANTS.values()}))
def test_without_a_mutant_there_is_nothing_to_notice(name):
    assert not noticed(name)
