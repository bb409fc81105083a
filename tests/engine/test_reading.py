"""What is read was verified, is our own memory, and later changes of the file do not reach it."""

import hashlib
import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load, load_file, save, save_file
from torch import nn

import secateur as sc
from secateur.core.packed import pack_bits, unpack_bits
from secateur.engine import manifest as manifest_module
from secateur.engine.reading import TensorFile, read_tensors
from secateur.engine.tensors import aligned

TYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.int64, torch.uint8, torch.bool]


@pytest.fixture
def folder(tmp_path):
    torch.manual_seed(0)
    return sc.prune(nn.Linear(64, 64), "magnitude", sparsity=0.5).save(tmp_path / "pruned")


def of_format_1(folder):
    """The folder as the first version wrote it."""
    file = folder / "secateur.json"
    facts = json.loads(file.read_text())
    facts |= {"format": 1, "files": {n: entry["sha256"] for n, entry in facts["files"].items()}}
    del facts["sha256"]
    facts["sha256"] = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
    file.write_text(json.dumps(facts))


def flip_last_bit(file):
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(bytes(content))


@given(st.lists(st.tuples(st.sampled_from(TYPES), st.lists(st.integers(0, 5), max_size=4)), max_size=5))
def test_equals_what_safetensors_reads(tmp_path_factory, drawn):
    file = tmp_path_factory.mktemp("file") / "x"
    tensors = {str(i): torch.randint(0, 2, shape).to(dtype) for i, (dtype, shape) in enumerate(drawn)}
    file.write_bytes(save(tensors))
    ours, theirs = read_tensors(file), load_file(file)
    assert ours.keys() == theirs.keys()
    assert all(t.dtype == ours[n].dtype and torch.equal(t, ours[n]) for n, t in theirs.items())


@pytest.mark.parametrize("size", [8, 1 << 20], ids=["small", "on large pages"])
def test_a_file_that_changes_later_does_not_change_the_tensors(tmp_path, size):
    file = tmp_path / "x"
    save_file({"x": torch.ones(size)}, file)
    x = read_tensors(file)["x"]
    with file.open("r+b") as opened:
        opened.truncate(100)
        opened.write(bytes(200))
    assert bool((x == 1).all())
    x += 1
    assert bool((x == 2).all())


def test_bits_of_a_mask_of_a_million_dimensions_are_refused_at_once():
    with pytest.raises(ValueError, match="no shape"):
        unpack_bits(torch.zeros(1, dtype=torch.uint8), (4, 12) * 500_000)


@given(st.integers(1, 40))
def test_an_aligned_file_holds_the_same_and_its_data_begins_at_a_multiple_of_64(length):
    content = aligned(save({"x" * length: torch.arange(5.0)}))
    assert (8 + int.from_bytes(content[:8], "little")) % 64 == 0
    assert torch.equal(load(content)["x" * length], torch.arange(5.0))


def test_the_metadata_is_that_of_the_file(tmp_path):
    (tmp_path / "x").write_bytes(save({"x": torch.ones(2)}, metadata={"tree": "7"}))
    with TensorFile(tmp_path / "x") as file:
        assert file.metadata == {"tree": "7"}


@pytest.mark.parametrize("verify", ["xxh3", "sha256"])
def test_every_file_is_verified_by_either_digest(folder, verify):
    sc.load(folder, verify=verify)
    flip_last_bit(folder / "model.safetensors")
    with pytest.raises(sc.CheckpointError, match="its hash differs"):
        sc.load(folder, verify=verify)


@pytest.mark.parametrize("mmap", [True, False])
def test_mapped_or_copied_the_tensors_are_the_same_and_writing_to_them_leaves_the_file(folder, mmap):
    content = (folder / "model.safetensors").read_bytes()
    model, other = sc.load(folder, mmap=mmap), sc.load(folder)
    assert torch.equal(model.weight, other.weight)
    with torch.no_grad():
        model.weight += 1
        assert torch.equal(model.weight, other.weight + 1)
    assert (folder / "model.safetensors").read_bytes() == content


def test_a_copied_model_does_not_see_what_is_later_written_into_the_file(folder):
    bias = sc.load(folder, mmap=False).bias
    whole = bias.clone()
    with (folder / "model.safetensors").open("r+b") as file:
        file.write(bytes((folder / "model.safetensors").stat().st_size))
    assert torch.equal(bias, whole)


def test_another_digest_than_these_is_refused(folder):
    with pytest.raises(sc.RecipeError, match="xxh3, sha256"):
        sc.load(folder, verify="md5")


def test_a_folder_of_format_1_loads(folder):
    whole = sc.load(folder).weight
    of_format_1(folder)
    assert torch.equal(sc.load(folder).weight, whole)


def test_a_folder_of_format_1_is_verified_by_sha256(folder):
    of_format_1(folder)
    flip_last_bit(folder / "model.safetensors")
    with pytest.raises(sc.CheckpointError, match="its hash differs"):
        sc.load(folder)


def test_the_tensors_are_read_once(folder, monkeypatch):
    opened = []
    real = manifest_module.open_plain
    monkeypatch.setattr(manifest_module, "open_plain", lambda path: opened.append(path.name) or real(path))
    sc.load(folder)
    assert opened == []  # the manifest is read whole, and the tensors are verified on their way into memory


@given(st.integers(0, 50), st.integers(0, 2**16))
def test_packed_bits_are_those_of_the_mask_lowest_first(size, seed):
    mask = torch.rand(size, generator=torch.Generator().manual_seed(seed)) > 0.5
    slow = [sum(int(b) << j for j, b in enumerate(mask[i : i + 8])) for i in range(0, size, 8)]
    assert pack_bits(mask).tolist() == slow
    assert torch.equal(unpack_bits(pack_bits(mask), (size,)), mask)
