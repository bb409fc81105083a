"""Claims about obc: exact surgery of each row, on random layers and on ResNet-20.

Random layers: 64 outputs, 128 inputs, 2,000 tokens whose inputs are random mixtures of 128 sources. ResNet-20:
calibrated on 512 CIFAR-10 images drawn by the seed.
"""

from dataclasses import replace
from functools import cache

import torch
from torch import Tensor

import secateur as sc
from secateur.budgets import Uniform
from secateur.core import InputGram
from secateur.core.spd import damped_factor
from secateur.engine.methods import as_recipe
from secateur.solvers.obc import trace

from .claim import claim
from .layer_errors import lost_outputs
from .subjects import cifar_task, trained_resnet20
from .verdict import higher, lower, within

_OUT, _IN, _TOKENS = 64, 128, 2000


def _layer(seed: int) -> tuple[Tensor, Tensor]:
    """Weights and inputs of a random layer, in float64."""
    g = torch.Generator().manual_seed(seed)
    sources, mixing = torch.randn(_TOKENS, _IN, generator=g), torch.randn(_IN, _IN, generator=g)
    return torch.randn(_OUT, _IN, generator=g).double(), (sources @ mixing).double()


@claim(
    "obc",
    against="magnitude",
    expect=lower("mse", by=0.5, relative=True),
    differs="random layers of 64 x 128 with correlated inputs",
    finding="A fifth of it.",
)
def errs_less_than_half_as_much_as_magnitude(seed: int, method: str) -> dict[str, float]:
    """At 50 %, on correlated inputs, the mean squared error of a layer's outputs is less than half of magnitude's."""
    W, x = _layer(seed)
    model = torch.nn.Linear(_IN, _OUT, bias=False).double()
    with torch.no_grad():
        model.weight.copy_(W)
    subject = torch.nn.Sequential(model)
    task = sc.Task(train=[(x, x)], test=[(x[:1], x[:1])], loss=lambda outputs, _: outputs.mean(), metrics={})
    sc.prune(subject, method, sparsity=0.5, task=task, seed=seed, device="cpu")
    return {"mse": float((x @ (W - model.weight.detach()).T).square().mean())}


@claim(
    "obc",
    against="least-squares",
    expect=within("distance", by=1e-6),
    differs="random layers of 64 x 128 with correlated inputs",
    finding="The two agree to rounding in float64.",
)
def one_removal_is_restricted_least_squares(seed: int, method: str) -> dict[str, float]:
    """After one removal in each row, the weights are those of least squares without that input, to 1e-6.

    `distance` is the largest difference of a weight, by the largest weight, from what least squares gives.
    """
    if method != "obc":
        return {"distance": 0.0}
    W, x = _layer(seed)
    U, damping = damped_factor(2 * x.T @ x / len(x), 0.01)
    found = trace(W, U.T @ U, 1)
    extra = (damping * x.square().sum(0).mean()).sqrt() * torch.eye(_IN, dtype=x.dtype)
    damped = torch.cat((x, extra))  # damping is least squares on a few more tokens
    distance = 0.0
    for row, (w, p) in enumerate(zip(W, found.order[:, 0].tolist(), strict=True)):
        stays = torch.arange(_IN) != p
        best = torch.zeros_like(w)
        best[stays] = torch.linalg.lstsq(damped[:, stays], damped @ w[:, None]).solution[:, 0]
        distance = max(distance, float((found.weight[row] - best).abs().max() / w.abs().max()))
    return {"distance": distance}


@cache
def _errors(method: str, seed: int) -> dict[str, float]:
    recipe = replace(as_recipe(method, propagation="whole"), budget=Uniform(per="row"))
    task = cifar_task(seed, train=512, test=128)
    return lost_outputs(trained_resnet20(), recipe, task, 0.5, InputGram())


@claim(
    "obc",
    against="sparsegpt",
    expect=higher("layers_won", by=0.9),
    differs="ResNet-20 on CIFAR-10, 512 images; half of each row's weights",
    finding="In every layer, for every seed: 0.45 % of the outputs' energy is lost on average, against 1.0 %.",
)
def errs_less_than_sparsegpt_in_nearly_every_layer(seed: int, method: str) -> dict[str, float]:
    """At 50 % of each row, judged on dense inputs, the outputs of 95 % of the layers are nearer to the dense ones.

    `layers_won` is the share of matrices in which this side errs less than the other: 0.95 against 0.05.
    """
    mine, others = _errors(method, seed), _errors("sparsegpt" if method == "obc" else "obc", seed)
    won = torch.tensor([mine[name] < others[name] for name in mine]).float().mean()
    return {"layers_won": float(won), "error": sum(mine.values()) / len(mine)}


@claim(
    "obc",
    against="sparsegpt",
    expect=higher("accuracy"),
    differs="ResNet-20 on CIFAR-10, 512 images to calibrate, 2,000 test images for each seed; 70 % of each matrix, "
    "each layer hearing what the pruned ones before it give; batch norms are left as they are",
    finding="90.3 % against 81.4 %, where the published network has 91.7 %, at three times the time.",
)
def keeps_more_accuracy_than_sparsegpt(seed: int, method: str) -> sc.Result:
    """At 70 % its accuracy is higher than SparseGPT's."""
    task = cifar_task(seed, train=512)
    recipe = as_recipe(method, propagation="pruned")
    return sc.prune(trained_resnet20(), recipe, sparsity=0.7, task=task, batches=4, seed=seed, device="cpu")
