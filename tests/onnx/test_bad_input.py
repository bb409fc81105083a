"""Files that are damaged, and graphs that cannot be read, say what is wrong, where, and how to mend it."""

import numpy as np
import pytest
import torch
from graphs import FLOAT, GRAPHS, Maker

import onnx
import secateur as sc
from secateur.core import CheckpointError, NumericsError, SubjectError
from secateur.onnx import model_of, verify


def saved(tmp_path, **how):
    file = tmp_path / "model.onnx"
    onnx.save(GRAPHS["branches"]()[0], file, **how)
    return file


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(CheckpointError, match="No such file"):
        sc.prune(tmp_path / "none.onnx", "magnitude", macs=0.5)


@pytest.mark.parametrize("content", [b"", b"no onnx file at all", b"\x08\x08"])
def test_a_file_of_something_else(tmp_path, content):
    file = tmp_path / "model.onnx"
    file.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"no ONNX file, or a truncated one\n  where: .*model\.onnx"):
        sc.onnx.read(file)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_a_truncated_file(tmp_path, share):
    file = saved(tmp_path)
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * share)])
    with pytest.raises((CheckpointError, SubjectError), match=r"truncated|not valid"):
        sc.onnx.read(file)


def test_external_data_that_is_missing_or_short(tmp_path):
    file = saved(tmp_path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    sc.onnx.read(file)
    data = tmp_path / "weights.bin"
    data.write_bytes(data.read_bytes()[:100])
    with pytest.raises(CheckpointError, match=r"weights\.bin"):
        sc.onnx.read(file)
    data.unlink()
    with pytest.raises(CheckpointError, match=r"external data is missing: there is no file 'weights\.bin'"):
        sc.onnx.read(file)


def test_external_data_outside_of_the_folder_is_not_read(tmp_path):
    inner = tmp_path / "inner"
    inner.mkdir()
    file = saved(inner, save_as_external_data=True, location="weights.bin", size_threshold=0)
    (inner / "weights.bin").rename(tmp_path / "weights.bin")
    model = onnx.load(file, load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = "../weights.bin"
    file.write_bytes(model.SerializeToString())
    with pytest.raises(CheckpointError, match="cannot be read"):
        sc.onnx.read(file)


def of_one(op, inputs=("x",), opset=18, **attributes):
    m = Maker()
    m.node(op, list(inputs), ["y"], **attributes)
    graph = onnx.helper.make_graph(
        m.nodes,
        "made",
        [onnx.helper.make_tensor_value_info(n, FLOAT, [2, 3, 4, 4]) for n in inputs],
        [onnx.helper.make_tensor_value_info("y", FLOAT, [2, 3, 4, 4])],
    )
    opsets = [onnx.helper.make_opsetid("", opset), onnx.helper.make_opsetid("mine", 1)]
    return onnx.helper.make_model(graph, opset_imports=opsets)


def test_an_operator_that_is_not_known_is_named_with_its_node():
    with pytest.raises(
        SubjectError, match=r"operator mine\.Magic of opset 1 is not supported\n  where: node 'node_0_Magic'"
    ):
        model_of(of_one("Magic", domain="mine"))


def test_quantised_graphs_are_refused():
    with pytest.raises(SubjectError, match=r"DynamicQuantizeLinear is quantised[\s\S]*before it is quantised"):
        model_of(of_one("DynamicQuantizeLinear"))


def test_control_flow_is_refused():
    body = onnx.helper.make_graph([], "body", [], [])
    with pytest.raises(SubjectError, match=r"If chooses what runs"):
        model_of(of_one("If", then_branch=body, else_branch=body))


def test_an_old_opset_says_how_to_convert_it():
    with pytest.raises(SubjectError, match="version_converter"):
        model_of(of_one("Relu", opset=5))


def unshaped(tmp_path, shape):
    m = Maker()
    x = m.node("Relu", [m.node("MatMul", ["x", m.weight("w", 6, 10)])])
    m.node("MatMul", [x, m.weight("v", 10, 2)], ["y"])
    file = tmp_path / "model.onnx"
    onnx.save(m.model([("x", FLOAT, shape)], [("y", [None, 2])]), file)
    return file


def test_sizes_that_are_open_are_taken_as_small_ones_and_told(tmp_path, caplog):
    model = sc.onnx.read(unshaped(tmp_path, ["batch", "time", 6]))
    assert model.example_inputs()["x"].shape == (2, 8, 6)
    assert "batch = 2, time = 8" in caplog.text


def test_a_shape_that_is_not_told_asks_for_an_example(tmp_path):
    proto = onnx.load(unshaped(tmp_path, ["batch", 6]))
    proto.graph.input[0].type.tensor_type.ClearField("shape")
    model = model_of(proto)
    with pytest.raises(SubjectError, match=r"nothing of the shape of its input 'x'[\s\S]*example=inputs"):
        sc.prune(model, "magnitude", structure="channels", params=0.5)
    result = sc.prune(model, "magnitude", structure="channels", params=0.5, example={"x": torch.randn(3, 6)})
    assert result.after["params"] == 40


def test_an_example_of_another_form_says_what_the_graph_takes(tmp_path):
    model = sc.onnx.read(unshaped(tmp_path, ["batch", 6]))
    with pytest.raises(SubjectError, match="takes x"):
        model()
    with pytest.raises(SubjectError, match="does not run on the example"):
        sc.prune(model, "magnitude", structure="channels", params=0.5, example=torch.randn(2, 7))


def test_a_file_that_gives_something_else_is_not_written(tmp_path, monkeypatch):
    file = saved(tmp_path)
    model = sc.onnx.read(file)
    monkeypatch.setattr(verify, "tensor_of", lambda array: torch.tensor(np.asarray(array)) * 1.01)
    with pytest.raises(NumericsError, match=r"another output than the model[\s\S]*no file was written"):
        sc.onnx.write(model, tmp_path / "other.onnx")
    assert [p.name for p in tmp_path.iterdir()] == ["model.onnx"]


def test_a_file_that_is_there_is_kept(tmp_path):
    file = saved(tmp_path)
    before = file.read_bytes()
    with pytest.raises(CheckpointError, match="it is there already"):
        sc.onnx.write(sc.onnx.read(file), file)
    assert file.read_bytes() == before
    sc.onnx.write(sc.onnx.read(file), file, overwrite=True)


def test_external_data_stays_external(tmp_path):
    file = saved(tmp_path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    sc.onnx.write(sc.onnx.read(file), tmp_path / "small.onnx")
    assert (tmp_path / "small.onnx.data").stat().st_size > 2000
    sc.onnx.read(tmp_path / "small.onnx")
    sc.onnx.write(sc.onnx.read(tmp_path / "small.onnx"), tmp_path / "small.onnx", overwrite=True)
    sc.onnx.read(tmp_path / "small.onnx")
