"""A training step under masks against the plain step: ResNet-20, batches of 128, 90 % of the weights masked.

The masks must cost next to nothing (at most 1.05 times): they are applied in place after the optimizer's step and to
the gradients as they arrive, and add nothing to the graph.
"""

from collections.abc import Callable

import torch
from torch import nn

from harness import paired, parser, tell
from secateur.core import MaskKeeper, attach_mask_
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


def main() -> None:
    """The command line."""
    options = parser(__doc__)
    options.add_argument("--pairs", type=int, default=25)
    given = options.parse_args()
    torch.set_num_threads(1)
    figures = {}
    for name in OPTIMIZERS:
        figures[name] = paired(step_of(name, 0.9, 128), step_of(name, None, 128), given.pairs) | {"target": 1.05}
    tell("masked_step", figures, given.json)


if __name__ == "__main__":
    main()
