"""Exports of tiny models of every kind, by both exporters of torch: cut to half, written, run by onnxruntime."""

import warnings

import pytest
import torch
from torch import nn

import secateur as sc
from secateur.onnx.verify import check_same, outputs_of, run_session, session_of


class Logits(nn.Module):
    """A model of transformers that gives one tensor."""

    def __init__(self, model, **more):
        super().__init__()
        self.model, self.more = model, more

    def forward(self, *given):
        return self.model(*given, **self.more).logits


class Depthwise(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16)
        self.depth, self.point = nn.Conv2d(16, 16, 3, 2, 1, groups=16), nn.Conv2d(16, 24, 1)
        self.squeeze, self.excite, self.head = nn.Linear(24, 8), nn.Linear(8, 24), nn.Linear(24, 5)

    def forward(self, x):
        x = self.point(nn.functional.hardswish(self.depth(self.norm(self.stem(x)).relu())))
        x = x * self.excite(self.squeeze(x.mean((2, 3))).relu()).sigmoid()[:, :, None, None]
        return self.head(x.mean((2, 3)))


class UNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 12, 3, padding=1), nn.Conv2d(12, 16, 3, 2, 1)
        self.norm, self.up = nn.GroupNorm(4, 16), nn.ConvTranspose2d(16, 12, 2, 2)
        self.c, self.d = nn.Conv2d(24, 12, 3, padding=1), nn.Conv2d(12, 3, 1)

    def forward(self, x):
        x = self.a(x).relu()
        y = nn.functional.silu(self.norm(self.b(x)))
        return self.d(self.c(torch.cat([x, self.up(y)], 1)).relu())


class Speech(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm, self.out = nn.LSTM(8, 16, 2, batch_first=True, bidirectional=True), nn.Linear(32, 5)

    def forward(self, x):
        return self.out(self.lstm(x)[0][:, -1])


def of_transformers(name, **settings):
    transformers = pytest.importorskip("transformers")
    config = getattr(transformers, name.removesuffix(name[name.index("For") :]) + "Config")(**settings)
    return getattr(transformers, name)(config)


PICTURE, WORDS, TEXT = (2, 3, 32, 32), (2, 6, 8), "tokens"
SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
MODELS = {
    "depthwise": (PICTURE, Depthwise),
    "unet": ((2, 3, 16, 16), UNet),
    "speech": (WORDS, Speech),
    "resnet": (
        PICTURE,
        lambda: Logits(
            of_transformers(
                "ResNetForImageClassification",
                embedding_size=16,
                hidden_sizes=[16, 32],
                depths=[2, 2],
                layer_type="basic",
            )
        ),
    ),
    "convnext": (
        PICTURE,
        lambda: Logits(
            of_transformers(
                "ConvNextForImageClassification", hidden_sizes=[16, 32, 32, 32], depths=[1, 1, 1, 1], image_size=32
            )
        ),
    ),
    "vit": (
        PICTURE,
        lambda: Logits(
            of_transformers("ViTForImageClassification", **SMALL, intermediate_size=37, image_size=32, patch_size=8)
        ),
    ),
    "swin": (
        PICTURE,
        lambda: Logits(
            of_transformers(
                "SwinForImageClassification",
                image_size=32,
                patch_size=4,
                embed_dim=16,
                depths=[1, 1],
                num_heads=[2, 4],
                window_size=4,
            )
        ),
    ),
    "bert": (
        TEXT,
        lambda: Logits(of_transformers("BertForSequenceClassification", **SMALL, vocab_size=99, intermediate_size=37)),
    ),
    "t5": (
        TEXT,
        lambda: Logits(
            of_transformers(
                "T5ForConditionalGeneration", vocab_size=99, d_model=32, d_kv=8, d_ff=37, num_layers=1, num_heads=4
            ),
            decoder_input_ids=torch.ones(2, 3, dtype=torch.int64),
            use_cache=False,
        ),
    ),
    "llama": (
        TEXT,
        lambda: Logits(
            of_transformers("LlamaForCausalLM", **SMALL, vocab_size=99, intermediate_size=48, num_key_value_heads=2),
            use_cache=False,
        ),
    ),
}
BY_DYNAMO = ("llama",)


def exported(name, file):
    """A tiny model with random weights, its input, and its file."""
    shape, build = MODELS[name]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = build().eval()
        given = torch.randint(99, (2, 8)) if shape == TEXT else torch.randn(shape)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        if name in BY_DYNAMO:
            torch.onnx.export(model, (given,), str(file), dynamo=True, verbose=False)
        else:
            torch.onnx.export(model, (given,), str(file), dynamo=False, opset_version=17, verbose=False)
    return model, given


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_an_export_is_cut_to_half_its_multiplications(tmp_path, name):
    file = tmp_path / "model.onnx"
    torch_model, given = exported(name, file)
    model = sc.onnx.read(file)
    inputs = {model.inputs[0].name: given}
    check_same(outputs_of(torch_model, given), outputs_of(model, given), name)
    result = sc.prune(model, "magnitude", structure="channels", macs=0.5, example=inputs)
    small = result.save(tmp_path / "small.onnx")
    assert result.after["macs"] < 0.56 * result.before["macs"]
    assert result.after["params"] < 0.8 * result.before["params"]
    check_same(outputs_of(result.subject, given), run_session(session_of(small), inputs), name)
    stored = sum(p.numel() for p in sc.onnx.read(small).parameters())
    assert stored == result.after["params"]
