"""Retraining of a tiny subset of the parameters (Zimmer et al., "PERP", 2023): all else is frozen.

From the first pruning on, biases, norms, adapters of the pruned matrices and the head are trained, whichever are
chosen. In the end, and before each further pruning, adapters are merged into the weights under the stored masks, so the
model has the names, shapes and zeros that it had. Statistics of batch norms are measured as in any training.
"""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from secateur.core import Adapt, Adapter, Healing, Plan, RecipeError, Recovery, Task, Variant, masks_of, nearest
from secateur.core.adapter import factors, is_transposed
from secateur.core.draws import generator_of

from .moving_average import MovingAverage
from .scratch import Scratch
from .sparse_training import SparseTraining
from .tiny_subsets import SUBSETS, Chosen, Subset, chosen

_log = logging.getLogger(__name__)
_VARIANTS = ("lora", "lora_prune", "mask_lora", "scale_lora")
_ON = "/on"  # no layer is called so


@dataclass(frozen=True)
class ParameterEfficient(Recovery):
    """Train a tiny subset of the parameters after pruning; beside `FineTune`, which says how and how long.

    Attributes:
        subsets: any of "biases"; "norm" (LayerNorm, RMSNorm, batch norm and the like); "lora" (adapters of the masked
            linear layers, of all where nothing is masked); "head" (adapters of a language model's output embeddings,
            else the whole linear classifier). One that a model lacks is named in a warning; if it lacks all, an error.
        lora: "mask_lora", "scale_lora" or "lora_prune", which are merged; or "lora", whose adapters stay beside the
            sparse weights as parameters `weight_lora_a` and `weight_lora_b` of the layers, because merging them would
            bring every weight back (`secateur.core.merge_kept_` does it all the same). See `secateur.core.adapter`.
        rank: of the adapters.
        alpha: their scaling is alpha / rank.
        targets: shell patterns on names of linear layers or their last parts ("q_proj"), instead of the masked ones.
    """

    subsets: tuple[Subset, ...] = SUBSETS
    lora: Variant = "mask_lora"
    rank: int = 16
    alpha: float = 32.0
    targets: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if isinstance(self.subsets, str) or isinstance(self.targets, str):
            what = f"subsets={self.subsets!r}, targets={self.targets!r}: a text where several are meant"
            raise RecipeError(what, where="ParameterEfficient", mend='subsets=("norm",), targets=("q_proj",)')
        for wrong in (s for s in self.subsets if s not in SUBSETS):
            mend = nearest(str(wrong), SUBSETS)
            raise RecipeError(f"there is no subset {wrong!r}", where="ParameterEfficient(subsets=...)", mend=mend)
        if not self.subsets:
            what, mend = "no subset is chosen, so nothing is trained", f"some of {', '.join(SUBSETS)}"
            raise RecipeError(what, where="ParameterEfficient(subsets=())", mend=mend)
        if self.targets and "lora" not in self.subsets:
            what, mend = f"targets {self.targets} are given without adapters", 'add "lora" to the subsets'
            raise RecipeError(what, where=f"ParameterEfficient(subsets={self.subsets})", mend=mend)
        self._check_adapters()

    def _check_adapters(self) -> None:
        if self.lora not in _VARIANTS:
            mend = nearest(self.lora, _VARIANTS)
            raise RecipeError(f"there is no variant {self.lora!r}", where="ParameterEfficient(lora=...)", mend=mend)
        if self.rank < 1 or not 0 < self.alpha < float("inf"):
            what, where = f"rank is {self.rank} and alpha {self.alpha}", "ParameterEfficient(rank, alpha)"
            raise RecipeError(what, where=where, mend="1 or more, and above 0; the paper takes 16 and 32")

    @property
    def needs_training(self) -> bool:
        return True

    @property
    def grows(self) -> bool:
        return self.lora == "lora" and not {"lora", "head"}.isdisjoint(self.subsets)

    def check(self, others: Iterable[Recovery]) -> None:
        """Refuse recoveries that change, or average, weights which stay frozen here."""
        for other in others:
            if isinstance(other, MovingAverage | Scratch | SparseTraining | ParameterEfficient):
                raise RecipeError(
                    f"{type(other).__name__} is about all weights, and most are frozen",
                    where="a recipe with ParameterEfficient",
                    mend="leave one of the two out",
                )

    def begin(self, model: nn.Module, task: Task) -> Healing:
        """Look whether the model has what is to be trained; the dense model is left as it is."""
        chosen(model, self.subsets, self.targets)
        return Efficient(self, model, task.seed)


class Efficient(Healing):
    """The subset of one model, or of one block of it, at work.

    Args:
        block: whether it is a block, whose last layer is no head; what it lacks is not worth a warning.
    """

    def __init__(self, recovery: ParameterEfficient, model: nn.Module, seed: int, block: bool = False) -> None:
        self._recovery, self._model, self._seed, self._block = recovery, model, seed, block
        self._adapters: dict[str, Adapter] = {}
        self._wanted: dict[nn.Parameter, bool] = {}
        self._facts: dict[str, Any] = {}
        self._plan = Plan()

    def parameters(self) -> list[nn.Parameter]:
        return [p for adapter in self._adapters.values() for p in (adapter.a, adapter.b)]

    def before_move_(self) -> None:
        if self._adapters and self._recovery.lora == "lora":
            raise RecipeError(
                "more is to be pruned, and plain adapters cannot be merged before it without losing the sparsity",
                where=f"subsets={self._recovery.subsets}, lora='lora', in a schedule that prunes more than once",
                mend="prune once, or use mask_lora",
            )
        self._merge_()

    def after_move_(self) -> bool:
        found = chosen(self._model, self._recovery.subsets, self._recovery.targets, self._block)
        for subset, why in found.missing.items() if not self._facts else ():  # said once
            self._say(logging.WARNING, "%s: nothing is trained of it, because %s", subset, why)
        self._freeze_(found)
        self._adapters = {name: self._adapter(name) for name in found.adapted}
        self._tell(found)
        return True

    def finish_(self) -> None:
        if self._recovery.lora == "lora":
            kept, self._adapters = self._adapters, {}
            for name, adapter in kept.items():
                adapter.keep_()
                path = f"{name}.weight" if name else "weight"
                self._plan += Plan((Adapt(path, self._recovery.rank, adapter.scaling),))
            _log.warning("%d adapters stay beside their weights, which are dense where they are used", len(kept))
        self._merge_()

    def plan(self) -> Plan:
        return self._plan

    def facts(self) -> dict[str, Any]:
        return {"parameter_efficient": self._facts}

    def state(self) -> dict[str, Tensor]:
        if not self._wanted:
            return {}
        sides = {f"{name}/{side}": getattr(x, side).detach() for name, x in self._adapters.items() for side in "ab"}
        return {**sides, _ON: torch.tensor(True)}

    @torch.no_grad()
    def restore(self, state: Mapping[str, Tensor]) -> None:
        if _ON in state:
            self.after_move_()
            for name, adapter in self._adapters.items():
                adapter.a.copy_(state[f"{name}/a"])
                adapter.b.copy_(state[f"{name}/b"])

    def _freeze_(self, found: Chosen) -> None:
        trained = {id(p) for p in found.whole.values()}
        self._wanted = {p: p.requires_grad for p in self._model.parameters()}
        for parameter in self._wanted:
            parameter.grad = None
            if parameter.is_floating_point():
                parameter.requires_grad_(id(parameter) in trained)

    def _adapter(self, name: str) -> Adapter:
        layer, r = self._model.get_submodule(name), self._recovery
        turned, weight = is_transposed(layer), layer.get_parameter("weight")
        rng = generator_of(f"{self._seed}/{name}")
        a, b = factors(weight.T if turned else weight, r.rank, r.lora, rng)
        mask = masks_of(layer).get("weight")
        return Adapter(layer, a, b, mask, r.lora, r.alpha / r.rank, turned)

    def _merge_(self) -> None:
        """Merge all adapters, and let everything want gradients that did before."""
        for adapter in self._adapters.values():
            adapter.merge_()
        self._adapters = {}
        for parameter, wanted in self._wanted.items():
            parameter.requires_grad_(wanted)
        self._wanted = {}

    def _tell(self, found: Chosen) -> None:
        whole = {id(p): p.numel() for p in found.whole.values()}
        trained = sum(whole.values()) + sum(p.numel() for p in self.parameters())
        of = sum(p.numel() for p in self._model.parameters())
        self._facts = {"trained": trained, "of": of, "share": trained / of, "adapted": list(found.adapted)}
        share = 100 * trained / of
        self._say(logging.INFO, "%s of %s parameters are trained, %.3g %%", f"{trained:,}", f"{of:,}", share)

    def _say(self, level: int, text: str, *facts: object) -> None:
        """Tell it of a model; of each of its blocks only to who asks for everything."""
        _log.log(logging.DEBUG if self._block else level, text, *facts)
