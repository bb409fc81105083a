"""A model that keeps no cache of keys and values: calibration runs the same block on the same tokens twice."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn


@contextmanager
def without_cache(model: nn.Module) -> Iterator[None]:
    """Configs of transformers say `use_cache = False` meanwhile."""
    found: list[Any] = [getattr(m, "config", None) for m in model.modules()]
    configs = {id(config): config for config in found if hasattr(config, "use_cache")}
    before = [(config, config.use_cache) for config in configs.values()]
    for config, _ in before:
        config.use_cache = False
    try:
        yield
    finally:
        for config, value in before:
            config.use_cache = value
