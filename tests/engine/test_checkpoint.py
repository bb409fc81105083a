"""Saved results: what is loaded equals what was saved to the last bit, and a damaged or hostile folder is an error."""

import hashlib
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import secateur as sc
from secateur.engine.verify import verify
from secateur.tasks.models import DigitsCNN


def digits_cnn() -> nn.Module:
    from secateur.tasks import builtin_model

    return builtin_model("digits-cnn")


def layers() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Dropout(0.1),
        nn.Flatten(),
        nn.Linear(8 * 64, 12),
        nn.LayerNorm(12),
        nn.Linear(12, 4, bias=False),
    )


def named_layers() -> nn.Module:
    inner = nn.Sequential()
    inner.add_module("first", nn.Linear(64, 8))
    inner.add_module("act", nn.GELU(approximate="tanh"))
    return nn.Sequential(nn.Flatten(), inner, nn.Linear(8, 4))


def llama(**changes: Any) -> nn.Module:
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
    config = LlamaConfig(**sizes, intermediate_size=64, vocab_size=96, **changes)  # type: ignore[arg-type]
    return LlamaForCausalLM(config)


class Tied(nn.Module):
    """A language model whose head is its embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(16, 8)
        self.middle = nn.Linear(8, 8)
        self.head = nn.Linear(8, 16, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.middle(self.embedding(ids)))


class Positions(nn.Module):
    """Tensors that no state dict holds: a buffer, and a plain attribute."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 8)
        self.register_buffer("angles", torch.linspace(0, 1, 8), persistent=False)
        self.scale = torch.full((8,), 3.0)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x + self.angles) * self.scale


def pruned(build: Callable[[], nn.Module], structure: str = "weights", **settings: Any) -> sc.Result:
    torch.manual_seed(0)
    model = build().eval()
    arguments: dict[str, Any] = {"structure": structure} | ({} if ":" in structure else {"sparsity": 0.5}) | settings
    return sc.prune(model, "magnitude", **arguments)


def bits(model: nn.Module) -> dict[str, tuple[torch.dtype, bytes]]:
    """Every tensor of a model as its type and bytes, buffers outside the state dict included."""
    tensors = dict(model.state_dict()) | dict(model.named_buffers())
    return {n: (t.dtype, t.detach().flatten().view(torch.uint8).numpy().tobytes()) for n, t in tensors.items()}


def half(build: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
    return lambda: build().to(torch.bfloat16)


SUBJECTS: dict[str, tuple[Callable[[], nn.Module], str, Callable[[], nn.Module] | None]] = {
    "builtin": (digits_cnn, "weights", None),
    "layers": (layers, "weights", None),
    "named layers": (named_layers, "weights", None),
    "one layer": (lambda: nn.Linear(8, 8), "weights", None),
    "N:M": (layers, "2:4", None),
    "blocks": (layers, "4x2", None),
    "bf16": (half(layers), "weights", None),
    "llama": (llama, "weights", None),
    "bf16 llama": (half(llama), "weights", None),
    "tied llama": (lambda: llama(tie_word_embeddings=True), "weights", None),
    "own class": (lambda: DigitsCNN(4), "weights", lambda: DigitsCNN(4)),
    "tied": (Tied, "weights", Tied),
    "positions": (Positions, "weights", Positions),
    "bf16 positions": (half(Positions), "weights", Positions),
}
every_subject = pytest.mark.parametrize(("build", "structure", "factory"), SUBJECTS.values(), ids=SUBJECTS)


@every_subject
def test_what_is_loaded_equals_what_was_saved_bit_for_bit(tmp_path, build, structure, factory):
    result = pruned(build, structure)
    loaded = sc.load(result.save(tmp_path / "pruned"), factory=factory)
    assert bits(loaded) == bits(result.subject)


@every_subject
def test_masks_that_stay_on_a_loaded_model_are_those_of_the_result(tmp_path, build, structure, factory):
    result = pruned(build, structure)
    loaded = sc.load(result.save(tmp_path / "pruned"), factory=factory, masks=True)
    masks = sc.core.masks_of(loaded)
    assert masks.keys() == result.masks.keys()
    assert all(torch.equal(m, result.masks[n]) for n, m in masks.items())


@every_subject
def test_the_keep_of_a_saved_folder_is_that_of_the_result(tmp_path, build, structure, factory):
    result = pruned(build, structure)
    assert sc.load_keep(result.save(tmp_path / "pruned")) == sc.Keep(result.masks)


@every_subject
def test_no_saved_file_holds_a_pickle(tmp_path, build, structure, factory):
    folder = pruned(build, structure).save(tmp_path / "pruned")
    assert {p.suffix for p in folder.iterdir()} == {".safetensors", ".json"}


@pytest.mark.parametrize(("build", "factory"), [(llama, None), (Positions, Positions)])
def test_loading_leaves_the_global_generator_alone(tmp_path, build, factory):
    folder = pruned(build).save(tmp_path / "pruned")
    before = torch.get_rng_state()
    sc.load(folder, factory=factory)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_loaded_llama_generates_the_same_text(tmp_path):
    result = pruned(llama)
    loaded = sc.load(result.save(tmp_path / "pruned"))
    prompt = torch.tensor([[3, 1, 4, 1, 5]])
    assert torch.equal(*(m.generate(prompt, do_sample=False, max_new_tokens=7) for m in (loaded, result.subject)))


def test_a_loaded_llama_generates_by_the_settings_that_it_was_saved_with(tmp_path):
    result = pruned(llama)
    result.subject.generation_config.max_new_tokens = 7
    loaded = sc.load(result.save(tmp_path / "pruned"))
    assert loaded.generate(torch.tensor([[3, 1]]), eos_token_id=None).shape == (1, 9)


class ReadsValues(nn.Module):
    """A constructor that the meta device cannot run."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, int(torch.tensor(4.0).item()))


def test_a_known_class_whose_constructor_reads_values_is_loaded_all_the_same(tmp_path, monkeypatch):
    from secateur.tasks import builtin

    monkeypatch.setitem(builtin._MODELS, "reads-values", ReadsValues)
    monkeypatch.setattr("secateur.engine.result.describe", lambda model: {"kind": "builtin", "name": "reads-values"})
    result = pruned(ReadsValues)
    assert bits(sc.load(result.save(tmp_path / "pruned"))) == bits(result.subject)


def test_a_model_with_tensors_outside_its_state_dict_computes_the_same(tmp_path):
    result = pruned(Positions)
    loaded = sc.load(result.save(tmp_path / "pruned"), factory=Positions)
    x = torch.randn(3, 8)
    assert torch.equal(loaded(x), result.subject(x))


def test_a_tied_tensor_is_stored_once(tmp_path):
    folder = pruned(Tied).save(tmp_path / "pruned")
    assert {n.split(":")[0] for n in load_file(folder / "model.safetensors")} == {
        "embedding.weight",
        "middle.weight",
        "middle.bias",
    }


def test_a_tied_tensor_is_tied_again(tmp_path):
    loaded = sc.load(pruned(Tied).save(tmp_path / "pruned"), factory=Tied)
    assert loaded.head.weight is loaded.embedding.weight


def test_a_tied_tensor_that_was_pruned_is_masked_once_and_tied_again(tmp_path):
    torch.manual_seed(0)
    recipe = sc.Recipe(structure=sc.structures.Weights(embeddings=True), score=sc.scores.Magnitude())
    result = sc.prune(Tied(), recipe, sparsity=0.5)
    loaded = sc.load(result.save(tmp_path / "pruned"), factory=Tied)
    assert loaded.head.weight is loaded.embedding.weight
    assert bits(loaded) == bits(result.subject)


def test_a_kept_weight_of_exactly_zero_stays_kept(tmp_path):
    model = nn.Linear(4, 2, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[0.0, 0.0, 0.0, 1.0], [0.0, 2.0, 3.0, 4.0]]))
    result = sc.prune(model, "magnitude", sparsity=0.25)
    folder = result.save(tmp_path / "pruned")
    assert int(sc.load_keep(folder)["weight"].sum()) == 6 > torch.count_nonzero(sc.load(folder).weight)


def test_a_pruned_tensor_takes_its_kept_values_and_a_bit_per_weight(tmp_path):
    folder = pruned(lambda: nn.Linear(64, 64, bias=False)).save(tmp_path / "pruned")
    stored = load_file(folder / "model.safetensors")
    assert {n: t.numel() * t.element_size() for n, t in stored.items()} == {
        "weight:bits": 64 * 64 // 8,
        "weight:values": 64 * 64 // 2 * 4,
    }


FRESH = """
import sys, secateur as sc
from safetensors.torch import save_file
loaded = sc.load(sys.argv[1])
save_file(loaded.state_dict(), sys.argv[2])
sys.exit("transformers" in sys.modules)
"""


def test_a_fresh_process_loads_the_same_bits_without_a_warning(tmp_path):
    result = pruned(layers)
    folder = result.save(tmp_path / "pruned")
    command = [sys.executable, "-W", "error", "-c", FRESH, str(folder), str(tmp_path / "state.safetensors")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    loaded = load_file(tmp_path / "state.safetensors")
    assert all(torch.equal(t, loaded[n]) for n, t in result.subject.state_dict().items())


def test_a_class_of_ones_own_needs_the_factory_and_says_so(tmp_path):
    folder = pruned(lambda: DigitsCNN(4)).save(tmp_path / "pruned")
    with pytest.raises(sc.CheckpointError, match="factory=MyModel"):
        sc.load(folder)


def test_the_factory_of_another_architecture_is_told_the_first_tensor_that_does_not_fit(tmp_path):
    folder = pruned(lambda: DigitsCNN(4)).save(tmp_path / "pruned")
    with pytest.raises(sc.CheckpointError, match=r"conv1\.weight"):
        sc.load(folder, factory=lambda: DigitsCNN(8))


def test_an_error_inside_the_factory_is_the_users_own(tmp_path):
    folder = pruned(lambda: DigitsCNN(4)).save(tmp_path / "pruned")
    with pytest.raises(ZeroDivisionError):
        sc.load(folder, factory=lambda: 1 // 0)


def told_anew(folder: Path, **changes: Any) -> None:
    """Edit the manifest as an attacker would: with every hash right again."""
    file = folder / "secateur.json"
    manifest = json.loads(file.read_text()) | changes
    listed = changes.get("files", {p.name: "" for p in folder.iterdir() if p != file})
    if isinstance(listed, dict):
        manifest["files"] = {n: hashlib.sha256((folder / n).read_bytes()).hexdigest() for n in listed}
    del manifest["sha256"]
    manifest["sha256"] = hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()
    file.write_text(json.dumps(manifest))


def truncated(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-5])


def flipped(folder: Path) -> None:
    file = folder / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[-3] ^= 1
    file.write_bytes(bytes(content))


def edited(folder: Path) -> None:
    file = folder / "secateur.json"
    file.write_text(file.read_text().replace('"seed": 0', '"seed": 1'))


def without_tensors(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def without_manifest(folder: Path) -> None:
    (folder / "secateur.json").unlink()


def linked(name: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        (folder / name).rename(folder.parent / name)
        (folder / name).symlink_to(folder.parent / name)

    return damage


def of_the_future(folder: Path) -> None:
    told_anew(folder, format=99)


def nested(depth: int) -> Callable[[Path], None]:
    return lambda folder: (folder / "secateur.json").write_text('{"format": 1, "a": ' + "[" * depth + "]" * depth + "}")


def cut_manifest(folder: Path) -> None:
    file = folder / "secateur.json"
    file.write_text(file.read_text()[:-20])


def no_text(folder: Path) -> None:
    (folder / "secateur.json").write_bytes(b"\xff\xfe\x00")


DAMAGES = {
    "truncated tensors": truncated,
    "a flipped bit": flipped,
    "an edited manifest": edited,
    "no tensors": without_tensors,
    "no manifest": without_manifest,
    "tensors behind a link": linked("model.safetensors"),
    "a manifest behind a link": linked("secateur.json"),
    "a format of the future": of_the_future,
    "nested 100 000 deep": nested(10**5),
    **{f"nested {depth} deep": nested(depth) for depth in (320, 900, 960, 980)},
    "a truncated manifest": cut_manifest,
    "no text": no_text,
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_folder_is_a_checkpoint_error(tmp_path, damage):
    folder = pruned(layers).save(tmp_path / "pruned")
    damage(folder)
    with pytest.raises(sc.CheckpointError):
        sc.load(folder)


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_the_keep_of_a_damaged_folder_is_a_checkpoint_error(tmp_path, damage):
    folder = pruned(layers).save(tmp_path / "pruned")
    damage(folder)
    with pytest.raises(sc.CheckpointError):
        sc.load_keep(folder)


class Touch:
    """Unpickled, it leaves a file behind."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.file),)


def test_a_pickle_named_as_tensors_is_refused_and_not_run(tmp_path):
    folder = pruned(layers).save(tmp_path / "pruned")
    (folder / "model.safetensors").write_bytes(pickle.dumps(Touch(tmp_path / "owned")))
    told_anew(folder)
    with pytest.raises(sc.CheckpointError, match="cannot be read"):
        sc.load(folder)
    assert not (tmp_path / "owned").exists()


def tensors_changed(change: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        file = folder / "model.safetensors"
        tensors = load_file(file)
        save_file(change(tensors), file)
        told_anew(folder)

    return damage


def manifest_changed(**changes: Any) -> Callable[[Path], None]:
    return lambda folder: told_anew(folder, **changes)


HOSTILE = {
    "a name with ..": tensors_changed(lambda t: t | {"../../outside": torch.zeros(1)}),
    "a name with .. and bits": tensors_changed(lambda t: t | {"..:bits": torch.zeros(1, dtype=torch.uint8)}),
    "a buffer that is not there": tensors_changed(lambda t: t | {"..:buffer": torch.zeros(1)}),
    "a tensor too few": tensors_changed(lambda t: {n: v for n, v in t.items() if n != "6.weight"}),
    "values without bits": tensors_changed(lambda t: {n: v for n, v in t.items() if n != "5.weight:bits"}),
    "bits without values": tensors_changed(lambda t: {n: v for n, v in t.items() if n != "5.weight:values"}),
    "too few values": tensors_changed(lambda t: t | {"5.weight:values": t["5.weight:values"][:-1].clone()}),
    "too few bits": tensors_changed(lambda t: t | {"5.weight:bits": t["5.weight:bits"][:-1].clone()}),
    "bits that are floats": tensors_changed(lambda t: t | {"5.weight:bits": t["5.weight:bits"].float()}),
    "another shape": tensors_changed(lambda t: t | {"6.weight": torch.zeros(13)}),
    "no files listed": manifest_changed(files={}),
    "files as a list": manifest_changed(files=["model.safetensors"]),
    "a file outside": manifest_changed(files={"../model.safetensors": "", "model.safetensors": ""}),
    "aliases as a list": manifest_changed(aliases=[1, 2]),
    "an alias of nothing": manifest_changed(aliases={"9.weight": "8.weight"}),
    "an alias with ..": manifest_changed(aliases={"..": "5.weight"}),
    "an alias that replaces a method": manifest_changed(aliases={"0.forward": "0.weight"}),
    "a base that is a list": manifest_changed(base=[]),
    "a base of an unknown kind": manifest_changed(base={"kind": "os.system", "name": "true"}),
    "a built-in that is none": manifest_changed(base={"kind": "builtin", "name": "../x"}),
    "a class that is no layer": manifest_changed(base={"kind": "torch", "tree": {"class": "__dict__"}}),
    "a function for a class": manifest_changed(
        base={"kind": "torch", "tree": {"class": "factory_kwargs", "arguments": {}}}
    ),
    "arguments that do not fit": manifest_changed(
        base={"kind": "torch", "tree": {"class": "Linear", "arguments": {"in_features": "x"}}}
    ),
    "a layer beyond memory": manifest_changed(
        base={"kind": "torch", "tree": {"class": "Linear", "arguments": {"in_features": 2**40, "out_features": 2**40}}}
    ),
    "a tree without children": manifest_changed(base={"kind": "torch", "tree": {"class": "Sequential"}}),
    "a transformers class without its config": manifest_changed(
        base={"kind": "transformers", "class": "LlamaForCausalLM"}
    ),
    "a transformers function": manifest_changed(base={"kind": "transformers", "class": "pipeline"}),
    "no plan": manifest_changed(plan=None),
    "an unknown action": manifest_changed(plan=[{"do": "run", "tensor": "5.weight"}]),
    "a plan for another model": manifest_changed(plan=[{"do": "mask", "tensor": "x.weight"}]),
    "a plan on a method": manifest_changed(plan=[{"do": "mask", "tensor": "0.forward"}]),
    "a resize to nothing like it": manifest_changed(plan=[{"do": "resize", "tensor": "0.weight", "shape": [2**39, 2]}]),
}


@pytest.mark.parametrize("damage", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_folder_with_right_hashes_is_a_checkpoint_error(tmp_path, damage):
    result = pruned(layers)
    folder = result.save(tmp_path / "pruned")
    (tmp_path / "model.safetensors").write_bytes(b"outside")
    damage(folder)
    with pytest.raises(sc.CheckpointError):
        sc.load(folder)


@pytest.mark.parametrize(
    "keep",
    [[], {"5.weight": 3}, {"5.weight": [-1, 512]}, {"5.weight": [2, 2]}, {"nothing": [2, 2]}, {"5.weight": ["x"]}],
)
def test_a_keep_of_impossible_shapes_is_a_checkpoint_error(tmp_path, keep):
    folder = pruned(layers).save(tmp_path / "pruned")
    told_anew(folder, keep=keep)
    with pytest.raises(sc.CheckpointError):
        sc.load_keep(folder)


@pytest.mark.parametrize("key", ["attn_implementation", "_attn_implementation"])
def test_a_config_that_names_code_on_a_hub_is_refused(tmp_path, key):
    folder = pruned(llama).save(tmp_path / "pruned")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {key: "someone/kernel"}))
    told_anew(folder)
    with pytest.raises(sc.CheckpointError, match="someone/kernel"):
        sc.load(folder)


def test_a_subset_of_samples_is_loaded_as_a_keep_and_not_as_a_model(tmp_path):
    data = torch.utils.data.TensorDataset(torch.arange(20.0))
    recipe = sc.Recipe(structure=sc.structures.Samples(), score=sc.scores.Random())
    folder = sc.prune(data, recipe, keep=0.25).save(tmp_path / "subset")
    assert int(sc.load_keep(folder)["samples"].sum()) == 5
    with pytest.raises(sc.CheckpointError, match="load_keep"):
        sc.load(folder)


@pytest.mark.parametrize("width", [5, 7, 9, 11])
def test_a_single_sample_gives_the_same_bits_wherever_the_file_has_its_tensors(tmp_path, width):
    torch.manual_seed(width)
    model = torch.nn.Sequential(torch.nn.Linear(16, width), torch.nn.ReLU(), torch.nn.Linear(width, 45))
    result = sc.prune(model, "magnitude", structure="hidden", sparsity=0.3, example=torch.randn(1, 16))
    loaded = sc.load(result.save(tmp_path / "odd"))
    inputs = torch.randn(1, 16)
    assert torch.equal(loaded(inputs), result.subject(inputs))
    assert verify(tmp_path / "odd")["identical"]
