"""What blocks do to tokens: angles against hidden states that transformers gives, and which blocks are not heard."""

import pytest
import torch
from torch import nn

import secateur as sc
from secateur.calibration import collect
from secateur.core import AngularDistance
from secateur.core.blocks import angular_distances, block_around

transformers = pytest.importorskip("transformers")
IDS = torch.randint(3, 50, (6, 9), generator=torch.Generator().manual_seed(0))


def llama():
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 3, "num_attention_heads": 4}
    ends = {"vocab_size": 50, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(num_key_value_heads=2, **sizes, **ends)).eval()


def task(model_call=lambda model, batch: model(input_ids=batch)):
    return sc.Task(train=IDS, test=IDS, call=model_call, target=lambda b: b, metrics={})


def measured(model, batches):
    space = sc.structures.Channels(kinds=("hidden",), streams=False).find(model, {"input_ids": IDS})
    found = collect(model, space.leaves(), [AngularDistance()], task(), batches)
    return {name: value for (name, _), value in found.items()}


def test_angles_are_those_between_the_hidden_states_of_the_model():
    model = llama()
    with torch.no_grad():
        states = []  # the last entry of `hidden_states` is behind the final norm, so outputs are heard by hooks
        handles = [b.register_forward_hook(lambda m, i, o: states.append(o)) for b in model.model.layers]
        first = model.model.embed_tokens(IDS)
        model(input_ids=IDS)
        for h in handles:
            h.remove()
    outputs = [first, *(s if isinstance(s, torch.Tensor) else s[0] for s in states)]
    found = measured(model, IDS.split(2))
    for i in range(3):
        x, y = outputs[i].flatten(0, 1).double(), outputs[i + 1].flatten(0, 1).double()
        cosines = torch.tensor([float(a @ b / (a.norm() * b.norm())) for a, b in zip(x, y, strict=True)])
        expected = torch.tensor([float((cosines.arccos() / torch.pi).mean()), IDS.numel()], dtype=torch.float64)
        for tensor in ("gate_proj", "up_proj", "down_proj"):
            torch.testing.assert_close(found[f"model.layers.{i}.mlp.{tensor}.weight"], expected, rtol=1e-5, atol=1e-6)


def test_the_number_of_batches_does_not_matter():
    model = llama()
    one, many = measured(model, [IDS]), measured(model, IDS.split(1))
    assert one.keys() == many.keys() and one
    for name, value in one.items():
        torch.testing.assert_close(value, many[name])


def test_listening_leaves_no_hooks():
    model = llama()
    measured(model, [IDS])
    assert all(not m._forward_hooks and not m._forward_pre_hooks for m in model.modules())


def test_opposite_same_and_orthogonal_tokens_and_zeros():
    x = torch.tensor([[1.0, 0], [1, 0], [1, 0], [0, 0]])
    y = torch.tensor([[-2.0, 0], [3, 0], [0, 1], [1, 0]])
    expected = torch.tensor([1, 0, 0.5, 0.5], dtype=torch.float64)
    torch.testing.assert_close(angular_distances(x, y), expected)


def test_the_innermost_repeated_module_is_the_block():
    inner = nn.Sequential(nn.Sequential(nn.Linear(2, 2), nn.ReLU()), nn.Sequential(nn.Linear(2, 2), nn.ReLU()))
    model = nn.Sequential(inner, nn.Linear(2, 2))
    modules = dict(model.named_modules())
    assert [block_around(modules, p) for p in ("0.1.0", "1", "0")] == ["0.1", "", ""]


def test_blocks_that_change_shapes_or_give_maps_are_not_heard():
    class Maps(nn.Module):
        def __init__(self):
            super().__init__()
            self.blocks = nn.ModuleList(nn.Sequential(nn.Conv2d(2, 2, 1), nn.ReLU()) for _ in range(2))

        def forward(self, x):
            for block in self.blocks:
                x = block(x)
            return x

    model, x = Maps().eval(), torch.randn(2, 2, 3, 3)
    space = sc.structures.Channels().find(model, x)
    goal = task(lambda model, batch: model(batch))
    assert not collect(model, space.leaves(), [AngularDistance()], goal, [x])
