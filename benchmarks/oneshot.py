"""One-shot pruning of a language model, against llm-compressor 0.14: processor time, error, memory.

A Llama of 32.5 million parameters (8 blocks, width 512, random weights with norms of heavy tails, as trained models
have them) is calibrated on 64 windows of 256 tokens, one at a time. Each side prunes in a process of its own. Its
processor time, imports excluded, is divided by that of one dense forward of the same windows in the same process, which
cancels the machine; the error is the mean relative squared one of the linear layers' outputs on other, dense inputs;
memory is the high-water mark above the loaded model. Beside that: what five statistics in one dense pass cost over
second moments alone, in interleaved pairs. The peer comes from PYTHONPATH; without it ours is measured alone.
"""

import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from harness import Watch, parser, tell

WINDOWS, LENGTH, VOCABULARY, WIDTH = 64, 256, 8192, 512
CASES = (("wanda", ""), ("sparsegpt", ""), ("sparsegpt", "2:4"))
_PLACE = tempfile.TemporaryDirectory()
SIDES = ("secateur", "secateur, dense propagation", "llmcompressor")


def main() -> None:
    """The command line."""
    options = parser(__doc__)
    options.add_argument("--rounds", type=int, default=1, help="of all sides; medians are told")
    options.add_argument(
        "--measure", nargs=3, metavar=("SIDE", "METHOD", "PATTERN"), help="used by the benchmark itself"
    )
    given = options.parse_args()
    torch.set_num_threads(1)
    if given.measure:
        print(json.dumps(statistics_over_one() if given.measure[1] == "statistics" else measure(*given.measure)))
        return
    sides = [s for s in SIDES if s != "llmcompressor" or importlib.util.find_spec("llmcompressor")]
    figures: dict[str, Any] = {}
    for method, pattern in CASES:
        for side in sides:
            if "dense" in side and (method, pattern) != ("wanda", ""):
                continue
            runs = [_forked(side, method, pattern) for _ in range(given.rounds)]
            runs.sort(key=lambda run: run["cpu_per_forward"])
            figures[f"{method} {pattern or '50 %'}, {side}"] = runs[len(runs) // 2]
            print(f"{method} {pattern} {side}: {runs[len(runs) // 2]}", file=sys.stderr, flush=True)
    figures["five statistics in one pass"] = _forked("secateur", "statistics", "")
    tell("oneshot", figures, given.json)


def _forked(side: str, method: str, pattern: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, __file__, "--measure", side, method, pattern], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def measure(side: str, method: str, pattern: str) -> dict[str, Any]:
    """One side, in this process."""
    model, windows, held = model_and_windows()
    with torch.no_grad():
        model(input_ids=windows[:1])
        start = time.process_time()
        for window in windows[:16]:
            model(input_ids=window[None])
        forward = (time.process_time() - start) * len(windows) / 16
    if side == "llmcompressor":
        run = _by_peer(model, windows, method, pattern)
    else:
        run = _by_ours(model, windows, method, pattern, dense="dense" in side)
    watch = Watch()
    start = time.process_time()
    model = run()
    cpu = time.process_time() - start
    peak = watch.stop()
    errors, unpruned = [], _stored()  # only now, so that the process is as a user's before
    dense, inputs = {n: m.weight.detach() for n, m in linears(unpruned).items()}, _inputs(unpruned, held)
    for name, module in linears(model).items():
        x, W = inputs[name], dense[name]
        y = x @ W.T
        errors.append(float((y - x @ module.weight.detach().T).square().sum() / y.square().sum()))
    zeros = sum(int((m.weight == 0).sum()) for m in linears(model).values())
    return {
        "cpu_per_forward": cpu / forward,
        "error": sum(errors) / len(errors),
        "sparsity": zeros / sum(w.numel() for w in dense.values()),
        "peak_mib": peak,
    }


def model_and_windows() -> tuple[nn.Module, Tensor, Tensor]:
    """The model, the calibration windows, and others to measure on."""
    import transformers

    torch.manual_seed(0)
    shape = {"hidden_size": WIDTH, "intermediate_size": 3 * WIDTH, "num_hidden_layers": 8, "num_attention_heads": 8}
    config = transformers.LlamaConfig(vocab_size=VOCABULARY, num_key_value_heads=2, **shape)
    model = transformers.LlamaForCausalLM(config).eval()
    rng = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for block in model.model.layers:
            for norm in (block.input_layernorm, block.post_attention_layernorm):
                norm.weight.copy_(torch.exp(0.8 * torch.randn(WIDTH, generator=rng)))
    model.save_pretrained(_PLACE.name)  # the peer wants a model that came from somewhere, and looks there again
    return (
        _stored(),
        torch.randint(VOCABULARY, (WINDOWS, LENGTH), generator=rng),
        torch.randint(VOCABULARY, (4, LENGTH), generator=rng),
    )


def _stored() -> nn.Module:
    """The model as it was saved, in memory of its own and not mapped; the one that was made is forgotten."""
    import transformers

    found: nn.Module = transformers.LlamaForCausalLM.from_pretrained(_PLACE.name).eval()
    for parameter in found.parameters():
        parameter.data = parameter.data.clone()
    return found


def linears(model: nn.Module) -> dict[str, nn.Linear]:
    """The linear layers of the blocks."""
    return {n: m for n, m in model.named_modules() if isinstance(m, nn.Linear) and ".layers." in n}


@torch.no_grad()
def _inputs(model: nn.Module, windows: Tensor) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    hooks = [
        m.register_forward_pre_hook(lambda _, given, n=n: found.__setitem__(n, given[0].flatten(0, -2)))
        for n, m in linears(model).items()
    ]
    model(input_ids=windows)
    for hook in hooks:
        hook.remove()
    return found


def _by_ours(model: nn.Module, windows: Tensor, method: str, pattern: str, dense: bool) -> Callable[[], nn.Module]:
    import secateur as sc
    from secateur.engine import job  # noqa: F401
    from secateur.engine.methods import as_recipe
    from secateur.tasks.language import Windows, language_task

    task = language_task(Windows(windows.flatten(), LENGTH), Windows(windows[0], LENGTH), "ids", batch_size=1)
    asked: dict[str, Any] = {"structure": pattern} if pattern else {"sparsity": 0.5}
    recipe = as_recipe(method, **({"propagation": "whole"} if dense else {}))
    return lambda: sc.prune(model, recipe, task=task, batches=len(windows), **asked).subject


def _by_peer(model: nn.Module, windows: Tensor, method: str, pattern: str) -> Callable[[], nn.Module]:
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    from llmcompressor import oneshot
    from llmcompressor.modifiers.pruning import SparseGPTModifier, WandaPruningModifier
    from tokenizers import Tokenizer, models
    from torch.utils.data import DataLoader
    from transformers import PreTrainedTokenizerFast, default_data_collator

    kind = {"wanda": WandaPruningModifier, "sparsegpt": SparseGPTModifier}[method]
    recipe = kind(sparsity=0.5, mask_structure=pattern or "0:0", targets=["Linear"], ignore=["re:.*lm_head"])
    words = Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    rows = [{"input_ids": w, "attention_mask": torch.ones_like(w)} for w in windows]

    def run() -> nn.Module:
        oneshot(
            model=model,
            tokenizer=PreTrainedTokenizerFast(tokenizer_object=words),
            dataset=DataLoader(rows, batch_size=1, collate_fn=default_data_collator),
            recipe=recipe,
            max_seq_length=LENGTH,
            num_calibration_samples=len(windows),
            shuffle_calibration_samples=False,
            pipeline="sequential",
        )
        return model

    return run


def statistics_over_one(pairs: int = 5) -> dict[str, float]:
    """Processor time of five statistics of all linear layers over that of second moments alone, and of none."""
    from secateur.calibration import collect
    from secateur.core import InputGram, InputMoments, InputNorm, InputTokens, RunningMoments
    from secateur.structures import Weights
    from secateur.tasks.language import Windows, language_task

    model, windows, _ = model_and_windows()
    task = language_task(Windows(windows.flatten(), LENGTH), Windows(windows[0], LENGTH), "ids", batch_size=1)
    space, batches = Weights().find(model), list(task.batches("train", epoch=0))[:16]
    one = (InputGram(precise=False),)
    sides = {"none": (), "one": one, "five": (*one, InputTokens(), InputNorm(), InputMoments(), RunningMoments())}
    spent: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(pairs):
        for name, needs in sides.items():
            start = time.process_time()
            collect(model, space, needs, task, batches)
            spent[name].append(time.process_time() - start)
    ratios = [[a / b for a, b in zip(spent["five"], spent[other], strict=True)] for other in ("one", "none")]
    return {"over_one": statistics.median(ratios[0]), "over_none": statistics.median(ratios[1])}


if __name__ == "__main__":
    main()
