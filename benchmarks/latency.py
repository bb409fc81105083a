"""Latency of models cut to half their MACs, against the dense ones: eager torch and onnxruntime, batches of 1 and 32.

ResNet-50 at 224 x 224 and a Llama shape of 60 million parameters on 128 tokens, with random weights: which units go
does not matter for time, only how many of which layer. Three cuts of each: by magnitude as it comes, the same in
multiples of 16 units, and with the measured latency itself as the target. Figures are ratios of processor time, cut
over dense, from interleaved pairs on one thread. What FILE holds of other models, cuts and batches stays there, so that
a long run may be made in pieces.
"""

import copy
import json
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import secateur as sc
from harness import forked, paired, parser, tell
from secateur.onnx.verify import session_of
from structured_cases import declare_operators

SHARE = 0.5
CUTS: dict[str, dict[str, Any]] = {
    "macs": {"macs": SHARE},
    "macs, multiples of 16": {"macs": SHARE, "structure": sc.structures.Channels(multiple=16)},
    "latency": {"latency": SHARE},
}


def resnet50() -> tuple[nn.Module, Callable[[int], Tensor]]:
    """The model, and inputs of a batch size."""
    import torchvision

    return torchvision.models.resnet50(weights=None).eval(), lambda batch: torch.randn(batch, 3, 224, 224)


class Logits(nn.Module):
    """A language model as a function of tokens alone."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: Tensor) -> Tensor:
        """`[batch, places, words]`."""
        return self.model(input_ids=tokens, use_cache=False).logits


def llama60m() -> tuple[nn.Module, Callable[[int], Tensor]]:
    """The model, and inputs of a batch size."""
    import transformers

    config = transformers.LlamaConfig(
        vocab_size=16000,
        hidden_size=640,
        intermediate_size=1728,
        num_hidden_layers=8,
        num_attention_heads=10,
        num_key_value_heads=10,
        tie_word_embeddings=True,
    )
    return Logits(transformers.LlamaForCausalLM(config).eval()), lambda batch: torch.randint(16000, (batch, 128))


MODELS = {"resnet50": resnet50, "llama-60m": llama60m}


def measured(name: str, cut: str, batches: list[int], pairs: int) -> dict[str, Any]:
    """Both runtimes on dense and cut model."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    declare_operators()
    dense, inputs = MODELS[name]()
    small = sc.prune(copy.deepcopy(dense), "magnitude", example=inputs(1), **{"structure": "channels"} | CUTS[cut])
    found: dict[str, Any] = {
        "macs": small.after["macs"] / small.before["macs"],
        "params": small.after["params"] / small.before["params"],
    }
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        sides = small.subject, dense
        sessions = [_session(model, Path(folder) / f"{k}.onnx", inputs(1)) for k, model in enumerate(sides)]
        for batch in batches:
            x = inputs(batch)
            found[f"eager, batch {batch}"] = paired(*(partial(model, x) for model in sides), pairs)
            runs = (partial(session.run, None, {session.get_inputs()[0].name: x.numpy()}) for session in sessions)
            found[f"onnxruntime, batch {batch}"] = paired(*runs, pairs)
    return found


def _session(model: nn.Module, file: Path, example: Tensor) -> Any:
    sc.export(model, file, example=example)
    return session_of(file)


def main() -> None:
    """The command line."""
    options = parser(__doc__)
    options.add_argument("--pairs", type=int, default=7)
    options.add_argument("--batches", type=int, nargs="+", default=[1, 32])
    options.add_argument("--models", nargs="+", default=list(MODELS))
    options.add_argument("--cuts", nargs="+", default=list(CUTS))
    given = options.parse_args()
    stored = given.json is not None and given.json.exists()
    figures: dict[str, Any] = json.loads(given.json.read_text())["figures"] if stored else {}
    for name in given.models:
        for cut in given.cuts:
            found = forked(lambda n=name, c=cut: measured(n, c, given.batches, given.pairs), 1800)
            known = figures.setdefault(name, {}).get(cut, {})
            known.pop("error", None)
            figures[name][cut] = known | found
            tell("latency", figures, given.json)  # what was measured stays, whatever becomes of the next one


if __name__ == "__main__":
    main()
