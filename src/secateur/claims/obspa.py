"""Claims about obspa: refitting what reads a channel saves a network that is not trained again, even without data."""

import secateur as sc

from .claim import claim
from .subjects import cifar_task, trained_resnet20
from .verdict import higher


def _pruned(seed: int, method: str, **settings: object) -> dict[str, float]:
    """ResNet-20 with three quarters of its MACs; 256 training images to look at, 2,000 test images."""
    task = cifar_task(seed, train=256)
    result = sc.prune(trained_resnet20(), method, macs=0.75, task=task, seed=seed, **settings)  # type: ignore[arg-type]
    return {"accuracy": result.metrics["accuracy"], "macs": result.after["macs"] / result.before["macs"]}


@claim(
    "obspa",
    against="spa",
    expect=higher("accuracy", by=0.05),
    differs="ResNet-20 on CIFAR-10, a quarter of the MACs removed; for each seed other noise and 2,000 test images",
    finding="59 % against 49 %, where the dense network has 92 %: noise helps, and is no replacement for inputs.",
)
def noise_is_enough(seed: int, method: str) -> dict[str, float]:
    """Untrained after the cut, and with noise for data, it keeps 5 points more than L1 scores without a refit."""
    return _pruned(seed, "obspa", inputs="noise") if method == "obspa" else _pruned(seed, "spa")


@claim(
    "obspa",
    against="noise",
    expect=higher("accuracy"),
    differs="ResNet-20 on CIFAR-10, a quarter of the MACs removed; for each seed other noise, 256 images with batch "
    "norm recalibrated on them, and 2,000 test images",
    finding="87 % against 59 %. The images also bring the batch-norm statistics up to date, which noise cannot; how "
    "much of the gain is theirs was not measured.",
)
def images_beat_noise(seed: int, method: str) -> dict[str, float]:
    """256 training images keep at least as much accuracy as noise."""
    if method == "noise":
        return _pruned(seed, "obspa", inputs="noise")
    return _pruned(seed, "obspa", batchnorm=1.0)
