"""Units locked by count against units locked by index: half of the query heads that share a key, on trained models.

Two small language models of the sample data have two queries for each key; one of the two goes from every key. Locked
by index it is the same one everywhere, locked by count each key loses the one that matters less. Perplexity is that of
stories which nobody was calibrated on; scores that look at data see other stories with each seed. Nothing is trained.
"""

import copy
import statistics
import sys
from typing import Any

import torch
from torch import Tensor, nn

import secateur as sc
from harness import forked, parser, tell
from secateur.claims.data import data_folder
from structured_cases import declare_operators

MODELS = ("llama7m", "stories260k")
SCORES = {"magnitude": sc.scores.Magnitude(2), "taylor": sc.scores.Taylor(), "wanda-sp": sc.scores.WandaSP()}
LOCKS = ("index", "count")
_WINDOW, _CALIBRATE, _TEST = 256, 40, 24


def loaded(name: str) -> tuple[nn.Module, Tensor]:
    """A model, and windows of the stories that it was not trained on or, where it was on all, of the last ones."""
    declare_operators()
    sys.path.insert(0, str(data_folder()))
    sys.modules.pop("load", None)  # a benchmark has that name, too
    import load

    model, tokenizer = load.causal_lm("llama7m") if name == "llama7m" else load.stories_lm()
    ids = tokenizer(" ".join(load.tinystories()[-200:]), return_tensors="pt").input_ids[0]
    return model.float().eval(), ids[: len(ids) // _WINDOW * _WINDOW].reshape(-1, _WINDOW)


@torch.no_grad()
def perplexity(model: nn.Module, windows: Tensor) -> float:
    """Of a token, over whole windows."""
    losses = [model(input_ids=w[None], labels=w[None]).loss for w in windows]
    return float(torch.stack(losses).mean().exp())


def run(name: str, seed: int) -> dict[str, Any]:
    """Every score with both locks."""
    torch.set_num_threads(1)
    dense, windows = loaded(name)
    test, rest = windows[:_TEST], windows[_TEST:]
    order = torch.randperm(len(rest), generator=torch.Generator().manual_seed(seed))
    batches = [{"input_ids": w[None], "labels": w[None]} for w in rest[order[:_CALIBRATE]]]
    task = sc.Task(train=batches, test=batches[:1], loss=lambda outputs, _: outputs.loss)
    found: dict[str, Any] = {"dense": perplexity(dense, test)}
    for score_name, score in SCORES.items():
        for lock in LOCKS:
            recipe = sc.Recipe(structure=sc.structures.Channels(lock=lock, kinds=("heads",)), score=score)
            small = sc.prune(copy.deepcopy(dense), recipe, sparsity=0.5, task=task, batches=_CALIBRATE)
            found[f"{score_name}, {lock}"] = perplexity(small.subject, test)
    return found


def main() -> None:
    """The command line."""
    options = parser(__doc__)
    options.add_argument("--seeds", type=int, default=3)
    given = options.parse_args()
    figures: dict[str, Any] = {}
    for name in MODELS:
        runs = [forked(lambda n=name, s=seed: run(n, s), 1800) for seed in range(given.seeds)]
        errors = [row["error"] for row in runs if "error" in row]
        if errors:
            raise SystemExit(f"{name}: {errors[0]}")
        figures[name] = {
            key: {"mean": statistics.mean(r[key] for r in runs), "runs": [r[key] for r in runs]} for key in runs[0]
        }
    tell("locks", figures, given.json)


if __name__ == "__main__":
    main()
