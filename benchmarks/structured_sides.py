"""Both sides of `structured.py`: find and cut one model, by ours and by Torch-Pruning, and what became of it."""

import copy
import time
from typing import Any

import torch
from torch import Tensor, nn

from secateur.graph.capture import still, tensors_in
from secateur.graph.coupling import Coupling
from secateur.graph.find import couple
from secateur.graph.masked import masked_outputs
from secateur.graph.surgery import cut_
from structured_cases import Case

_MOST_IN_DOUBLE = 100e6
TOLERANCE = {torch.float32: 1e-3, torch.float64: 1e-9}


def half(coupling: Coupling, seed: int = 0) -> dict[str, Tensor]:
    """A random half of every family stays."""
    rng = torch.Generator().manual_seed(seed)
    keep = {}
    for family in coupling.families:
        keep[family.name] = torch.zeros(family.size, dtype=torch.bool)
        keep[family.name][torch.randperm(family.size, generator=rng)[: (family.size + 1) // 2]] = True
    return keep


def parameters(model: nn.Module) -> int:
    """How many numbers."""
    return sum(p.numel() for p in model.parameters())


def ours(case: Case) -> dict[str, Any]:
    """Time of find and cut, what was found, and whether the smaller model equals the masked one."""
    model, call = case.model(), case.call()
    found: dict[str, Any] = {"parameters": parameters(model)}
    begin = time.process_time()
    coupling = couple(model, call)
    found["find_s"] = time.process_time() - begin
    gone = coupling.gone(half(coupling))
    dense = copy.deepcopy(model)
    begin = time.process_time()
    cut_(model, call, coupling, gone)
    found["cut_s"] = time.process_time() - begin
    found["cpu_s"] = found["find_s"] + found["cut_s"]
    found |= {
        "nodes": len(coupling.graph.nodes),
        "rung": coupling.graph.rung,
        "families": len(coupling.families),
        "unknown": sorted(coupling.unknown),
        "parameters_left": parameters(model) / found["parameters"],
        "macs_left": coupling.macs(gone) / max(coupling.macs(), 1),
        "frozen": len(coupling.frozen),
    }
    return found | proof(case, dense, model, coupling, gone)


def proof(case: Case, dense: nn.Module, cut: nn.Module, coupling: Coupling, gone: Any) -> dict[str, Any]:
    """The largest relative difference from the masked reference, and with garbage where nobody should read."""
    dtype = torch.float64 if parameters(dense) <= _MOST_IN_DOUBLE else torch.float32
    dense, cut = dense.to(dtype), cut.to(dtype)
    told: dict[str, Any] = {"dtype": str(dtype).removeprefix("torch.")}
    for oracle, garbage in (("masked", None), ("garbage", 1)):
        call = case.call(seed=1 + (garbage or 0), dtype=dtype)
        try:
            wanted = masked_outputs(dense, call, coupling, gone, garbage=garbage)
            with still(cut):
                got = list(tensors_in(call(cut)))
        except Exception as error:  # whatever a model does: it is a finding
            return told | {"error": f"{oracle}: {type(error).__name__}: {first_line(error)}"}
        told[oracle] = max(map(_difference, wanted, got), default=0.0)
    told["equal"] = max(told["masked"], told["garbage"]) <= TOLERANCE[dtype]
    return told


def _difference(wanted: Tensor, got: Tensor) -> float:
    if wanted.shape != got.shape:
        return float("inf")
    if not wanted.is_floating_point():
        return 0.0
    return float((wanted - got).abs().max() / wanted.abs().max().clamp_min(1e-30))


def theirs(case: Case) -> dict[str, Any]:
    """Time of building the graph and pruning by half; it names which heads there are, as its examples do."""
    import torch_pruning as tp

    model, call = case.model(), case.call()
    heads, groups = _attentions(model)
    layers = [m for m in model.modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    ignored = [m for m in layers if getattr(m, "out_features", getattr(m, "out_channels", 0)) == case.classes]
    torch.manual_seed(0)
    example = case.example()
    begin = time.process_time()
    pruner = tp.pruner.MetaPruner(
        model,
        example[0] if isinstance(example, tuple) else example,
        importance=tp.importance.GroupMagnitudeImportance(p=2),
        pruning_ratio=0.5,
        ignored_layers=ignored,
        num_heads=heads,
        out_channel_groups=groups,
        output_transform=lambda out: list(tensors_in(out)),
    )
    graph_s = time.process_time() - begin
    before = parameters(model)
    pruner.step()
    found = {"graph_s": graph_s, "cpu_s": time.process_time() - begin, "parameters_left": parameters(model) / before}
    try:
        with still(model):
            call(model)
    except Exception as error:  # whatever a model does: it is a finding
        found["error"] = f"forward: {type(error).__name__}: {first_line(error)}"
    return found


def _attentions(model: nn.Module) -> tuple[dict[nn.Module, int], dict[nn.Module, int]]:
    """Number of heads of the layers that make them; groups of packed attentions."""
    heads: dict[nn.Module, int] = {}
    groups: dict[nn.Module, int] = {}
    config = getattr(model, "config", None)
    for module in model.modules():
        if isinstance(module, nn.MultiheadAttention):
            groups[module] = module.num_heads
            continue
        count = getattr(module, "num_heads", getattr(module, "num_attention_heads", None))
        if hasattr(module, "q_proj") and config is not None:
            heads[module.q_proj] = config.num_attention_heads
            heads[module.k_proj] = heads[module.v_proj] = config.num_key_value_heads
        elif hasattr(module, "query") and isinstance(count, int):
            heads |= dict.fromkeys((module.query, module.key, module.value), count)
        else:
            for name in ("qkv", "c_attn"):
                if isinstance(getattr(module, name, None), nn.Module) and isinstance(count, int):
                    heads[getattr(module, name)] = count
    return heads, groups


def first_line(error: BaseException) -> str:
    """What it says, in short."""
    return (str(error).splitlines() or [""])[0][:200]
