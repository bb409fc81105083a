"""ONNX graphs that no model of torch gave: read, cut by half, written, and run by onnxruntime."""

import copy

import numpy as np
import pytest
import torch
from graphs import GRAPHS

import onnx
import secateur as sc
from onnx import numpy_helper
from secateur.onnx.verify import outputs_of, run_session, session_of
from secateur.onnx.writing import proto_of


def written(tmp_path, name):
    proto, shapes = GRAPHS[name]()
    file = tmp_path / f"{name}.onnx"
    onnx.save(proto, file)
    rng = torch.Generator().manual_seed(0)
    inputs = {
        name: torch.randint(11, shape, generator=rng) if name == "ids" else torch.randn(shape, generator=rng)
        for name, shape in shapes.items()
    }
    return file, inputs


def weights(file):
    return {t.name: numpy_helper.to_array(t) for t in onnx.load(file).graph.initializer}


@pytest.mark.parametrize("name", GRAPHS)
def test_a_graph_gives_in_torch_what_onnxruntime_gives(tmp_path, name):
    file, inputs = written(tmp_path, name)
    for a, b in zip(run_session(session_of(file), inputs), outputs_of(sc.onnx.read(file), **inputs), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", GRAPHS)
def test_a_graph_that_was_only_read_is_written_as_it_was(tmp_path, name):
    file, _ = written(tmp_path, name)
    before, after = onnx.load(file), proto_of(sc.onnx.read(file))
    if not before.functions:
        assert list(after.graph.node) == list(before.graph.node)
    assert {t.name: numpy_helper.to_array(t).tobytes() for t in after.graph.initializer} == {
        t.name: numpy_helper.to_array(t).tobytes() for t in before.graph.initializer
    }
    assert after.opset_import[0] == before.opset_import[0]
    assert after.metadata_props[0].value == "nobody"


@pytest.mark.parametrize("name", GRAPHS)
def test_a_pruned_graph_is_smaller_and_runs_in_onnxruntime(tmp_path, name):
    file, inputs = written(tmp_path, name)
    result = sc.prune(file, "magnitude", structure="channels", params=0.6, example=inputs)
    small = result.save(tmp_path / "small.onnx")
    assert result.after["params"] < 0.75 * result.before["params"]
    assert result.after["macs"] < result.before["macs"]
    assert small.stat().st_size < file.stat().st_size
    sizes = {n: (w.size, weights(small)[n].size) for n, w in weights(file).items() if n in weights(small)}
    assert all(now <= old for old, now in sizes.values()) and any(now < old for old, now in sizes.values())
    for a, b in zip(run_session(session_of(small), inputs), outputs_of(result.subject, **inputs), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
    onnx.checker.check_model(onnx.load(small), full_check=True)
    again = sc.onnx.read(small)
    torch.testing.assert_close(outputs_of(again, **inputs), outputs_of(result.subject, **inputs))


def test_constants_that_attributes_and_shapes_hold_follow_the_cut(tmp_path):
    file, inputs = written(tmp_path, "branches")
    result = sc.prune(file, "magnitude", structure="channels", params=0.6, example=inputs)
    after = onnx.load(result.save(tmp_path / "small.onnx"))
    sizes = {t.name: numpy_helper.to_array(t) for t in after.graph.initializer}
    depthwise = next(n for n in after.graph.node if n.input[1:2] == ["w1"])
    assert onnx.helper.get_node_attr_value(depthwise, "group") == len(sizes["w1"]) < 8
    parts = next(n for n in after.graph.node if n.op_type == "Split").input[1]
    assert sizes[parts].tolist() == [len(sizes["w1"]), len(sizes["w0"]) - len(sizes["w1"])]
    assert sizes["w3"].shape[1] == len(sizes["scale"])
    assert sizes["w4"].shape[0] == sizes["w3"].shape[0]


def test_a_size_that_one_computation_gives_to_three_becomes_three_where_they_differ(tmp_path):
    file, inputs = written(tmp_path, "attention")
    model = sc.onnx.read(file)
    before = sum(n.op_type == "Concat" for n in onnx.load(file).graph.node)
    # heads go from all of queries, keys and values; features of heads of the values alone
    structure = sc.structures.Channels(kinds=("heads", "head-dims", "hidden"))
    result = sc.prune(model, "magnitude", structure=structure, params=0.6, example=inputs)
    after = onnx.load(result.save(tmp_path / "small.onnx"))
    shapes = {t.name: t.dims for t in after.graph.initializer}
    assert shapes["wq"] == shapes["wk"]
    if shapes["wv"] != shapes["wq"]:
        assert sum(n.op_type == "Concat" for n in after.graph.node) > before


def test_a_shared_initializer_stays_one_and_is_cut_once(tmp_path):
    file, inputs = written(tmp_path, "shared")
    model = sc.onnx.read(file)
    assert len(list(model.parameters())) == 4
    result = sc.prune(model, "magnitude", structure="channels", params=0.5, example=inputs)
    after = weights(result.save(tmp_path / "small.onnx"))
    assert after["table"].shape[0] == 11 and after["table"].shape[1] == after["out"].shape[1] == len(after["into"])
    assert after["bias"].shape == (after["into"].shape[1],)


def test_single_weights_are_masked_and_written_as_zeros(tmp_path):
    file, inputs = written(tmp_path, "branches")
    result = sc.prune(file, "magnitude", sparsity=0.8, example=inputs)
    after = weights(result.save(tmp_path / "sparse.onnx"))
    assert after["w3"].shape == (20, 16)
    assert (after["w3"] == 0).mean() > 0.5


def test_trained_weights_are_written(tmp_path):
    file, inputs = written(tmp_path, "branches")
    model = sc.onnx.read(file)
    y = torch.tensor([1, 3])
    data = [(inputs["x"], y)]
    task = sc.Task(train=data, test=data, loss=lambda out, batch: torch.nn.functional.cross_entropy(out, batch[1]))
    result = sc.prune(model, "magnitude", structure="channels", params=0.7, task=task, heal=2)
    small = result.save(tmp_path / "small.onnx")
    kept = dict(result.subject.named_parameters())
    name = next(n for n in kept if n.endswith("Gemm.weight") and kept[n].shape[0] == 5)
    np.testing.assert_array_equal(weights(small)["w4"], kept[name].detach().numpy().T)


def test_a_saved_folder_is_loaded_into_the_graph_of_the_file(tmp_path):
    file, inputs = written(tmp_path, "attention")
    result = sc.prune(file, "magnitude", structure="channels", params=0.6, example=inputs)
    result.save(tmp_path / "folder")
    loaded = sc.load(tmp_path / "folder", factory=lambda: sc.onnx.read(file))
    torch.testing.assert_close(outputs_of(loaded, **inputs), outputs_of(result.subject, **inputs))
    sc.onnx.write(loaded, tmp_path / "small.onnx")


def test_a_copy_is_a_model_of_its_own(tmp_path):
    file, inputs = written(tmp_path, "branches")
    model = sc.onnx.read(file)
    twin = copy.deepcopy(model)
    sc.prune(model, "magnitude", structure="channels", params=0.6, example=inputs)
    torch.testing.assert_close(outputs_of(twin, **inputs), run_session(session_of(file), inputs), rtol=1e-4, atol=1e-5)
