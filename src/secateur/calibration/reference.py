"""Relevance of a few reference samples of each class, from their own logits to every layer."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from secateur.core import Group, NumericsError, Relevance, Rules, Space, SubjectError, Task

from .relevance import RelevancePass


class References:
    """Sends relevance back, batch by batch, for the first samples of each class.

    Args:
        rules: of the pass; they say how many samples of each class.
    """

    def __init__(self, model: nn.Module, space: Space, task: Task, rules: Rules) -> None:
        self._model, self._task, self._rules = model, task, rules
        self._groups = {id(g.site.tensor): g for g in space if g.site is not None}
        self._seen: Counter[int] = Counter()

    def run(self, batch: Any, listen: Callable[[Group, Relevance], None]) -> None:
        """One batch; layers that relevance reaches are told, unless no sample of it is needed any more.

        Raises:
            SubjectError: an operation has no rule, or the outputs are not one row of logits for each target.
            NumericsError: relevance is not finite; names the layer.
        """
        target = self._task.target(batch)
        if not isinstance(target, Tensor) or target.dim() != 1 or target.is_floating_point():
            raise SubjectError(
                "relevance starts at the logit of a class, and the targets are no classes",
                where=f"task {self._task.name!r}",
                mend="give a task of classification, or use another score",
            )
        chosen = self._chosen(target)
        if not chosen.any():
            return

        def told(weight: Tensor, relevance: Tensor) -> None:
            group = self._groups.get(id(weight))
            if group is None:
                return
            if not relevance.isfinite().all():
                raise self._not_finite(group)
            listen(group, Relevance(relevance.detach().reshape(-1, relevance.shape[-1]).double().sum(0)))

        with torch.enable_grad():
            relevance_pass = RelevancePass(self._rules, told)
            with relevance_pass:
                outputs = self._task.call(self._model, batch)
            logits = getattr(outputs, "logits", outputs)
            if logits.dim() != 2 or len(logits) != len(target):
                raise SubjectError(
                    f"outputs of shape {tuple(logits.shape)} are no logits of {len(target)} samples",
                    where=f"task {self._task.name!r}",
                    mend="give a task of classification",
                )
            hot = nn.functional.one_hot(target, logits.shape[1]).to(logits) * chosen[:, None].to(logits)
            start = hot * logits.detach() if self._rules.start == "logit" else hot
            # asked for nothing but the anchor, it leaves no gradient anywhere
            torch.autograd.grad(logits, relevance_pass.anchor, start, allow_unused=True)

    def _not_finite(self, group: Group) -> NumericsError:
        """Names the weight that is not finite; where all are, the layer that relevance had reached."""
        broken = [g for g in self._groups.values() if g.site is not None and not g.site.tensor.isfinite().all()]
        where = (broken or [group])[0].name
        mend = "repair or reload the weights" if broken else "use the rule z+, or check the data"
        return NumericsError("relevance is NaN or infinite", where=where, mend=mend)

    def _chosen(self, target: Tensor) -> Tensor:
        """Which samples are still needed of their class."""
        chosen = torch.zeros(len(target), dtype=torch.bool, device=target.device)
        for i, label in enumerate(target.tolist()):
            if self._seen[label] < self._rules.per_class:
                self._seen[label] += 1
                chosen[i] = True
        return chosen
