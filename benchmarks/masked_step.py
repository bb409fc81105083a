"""A training step under masks against the plain step: ResNet-20, batches of 128, 90 % of the weights masked.

The masks must cost next to nothing (at most 1.05 times): they are applied in place after the optimizer's step and to
the gradients as they arrive, and add nothing to the graph. On a busy machine the ratio of whole steps scatters by more
than the masks cost, so two more figures stand beside it: two plain steps against each other, which is that scatter, and
the processor time inside the masks' own functions as a share of the plain step.
"""

import statistics
from collections.abc import Callable

import torch
from torch import nn

from harness import cpu_s, paired, parser, tell
from secateur.core import MaskKeeper, attach_mask_, masks
from secateur.tasks.models import CifarResNet

OPTIMIZERS = {
    "sgd with momentum": lambda parameters: torch.optim.SGD(parameters, lr=0.01, momentum=0.9),
    "adam": lambda parameters: torch.optim.Adam(parameters, lr=1e-3),
}


def step_of(optimizer: str, sparsity: float | None, batch: int) -> Callable[[], None]:
    """A function that does one training step of a model of its own; with masks if a sparsity is given."""
    torch.manual_seed(0)
    model = CifarResNet(20).train()
    images, labels = torch.randn(batch, 3, 32, 32), torch.randint(0, 10, (batch,))
    keeper = None
    if sparsity is not None:
        for name, p in model.named_parameters():
            if p.dim() > 1:
                attach_mask_(model, name, torch.rand(p.shape) >= sparsity)
        keeper = MaskKeeper(model)
    made = OPTIMIZERS[optimizer](model.parameters())

    def step() -> None:
        nn.functional.cross_entropy(model(images), labels).backward()
        made.step()
        made.zero_grad()

    step.keeper = keeper  # type: ignore[attr-defined]  # it must live as long as the steps
    step()
    return step


def inside_masks_s(optimizer: str, batch: int, steps: int) -> float:
    """Processor time of one step that is spent in zeroing gradients, weights and moments; the median of the steps."""
    spent = [0.0]

    def timed(work: Callable[..., None]) -> Callable[..., None]:
        def wrapped(*arguments: object) -> None:
            spent[-1] += cpu_s(work, *arguments)

        return wrapped

    kept = masks._zero_gradient_, MaskKeeper.enforce_
    masks._zero_gradient_, MaskKeeper.enforce_ = timed(kept[0]), timed(kept[1])  # type: ignore[method-assign]
    try:
        step = step_of(optimizer, 0.9, batch)
        for _ in range(steps):
            spent.append(0.0)
            step()
    finally:
        masks._zero_gradient_, MaskKeeper.enforce_ = kept  # type: ignore[method-assign]
    return statistics.median(spent[1:])


def main() -> None:
    """The command line."""
    options = parser(__doc__)
    options.add_argument("--pairs", type=int, default=25)
    given = options.parse_args()
    torch.set_num_threads(1)
    figures = {}
    for name in OPTIMIZERS:
        plain = step_of(name, None, 128)
        found = paired(step_of(name, 0.9, 128), plain, given.pairs) | {"target": 1.05}
        found["plain_against_plain"] = paired(step_of(name, None, 128), plain, given.pairs)["ratio"]
        found["inside_masks"] = inside_masks_s(name, 128, 9) / found["theirs_s"]
        figures[name] = found
    tell("masked_step", figures, given.json)


if __name__ == "__main__":
    main()
