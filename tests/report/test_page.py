"""The page as text: nothing in it can break out, everything is inside, links stay paths."""

import json
import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import secateur as sc
from secateur.core import CheckpointError
from secateur.core.progress import showing
from secateur.report import write_report
from secateur.report.data import Tables, _merge, page_data
from secateur.report.embed import Pool, rounded, script_json
from secateur.report.gather import gather
from secateur.report.masks import matrices

EVIL = "</script><script>alert(1)</script><!--<script>&\"'\u2028{{7*7}}%{x}<img src=x onerror=alert(2)>"
values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(), st.sampled_from([EVIL, "]]>", "\u2028\u2029"])),
    lambda inner: st.one_of(st.lists(inner), st.dictionaries(st.text(), inner)),
)


@given(values)
def test_embedded_json_is_harmless_and_the_same_value(value):
    embedded = script_json(value)
    assert embedded.isascii() and not set(embedded) & set("<>&") and json.loads(embedded) == value


@given(st.floats(-1e12, 1e12), st.integers(3, 8))
def test_a_rounded_figure_is_near_and_short(value, digits):
    assert rounded(value, digits) == pytest.approx(value, rel=10.0 ** (1 - digits))
    assert len(str(rounded(value, digits)).lstrip("-")) <= digits + 13


def test_a_pool_holds_each_value_once():
    pool = Pool()
    assert [pool.index(v) for v in ({"a": 1}, [1], {"a": 1}, 1, True)] == [0, 1, 0, 2, 3] and len(pool.values) == 4


@given(st.lists(st.lists(st.sampled_from("abcdef"), unique=True), max_size=4))
def test_merged_layers_are_each_there_once_and_one_network_keeps_its_order(networks):
    names = []
    for network in networks:
        _merge(names, network)
    assert sorted(names) == sorted({n for network in networks for n in network})
    if networks:
        assert [n for n in names if n in networks[0]] == networks[0]


@pytest.fixture
def comparison(synthetic, tmp_path):
    some = {"methods": ("magnitude", "lamp", "imp"), "sparsities": (0.9,), "seeds": 2}
    return synthetic.write_comparison(tmp_path / "compare", **some)


def embedded(path):
    return json.loads(re.search(r'id="data">(.*?)</script>', path.read_text(encoding="utf-8"))[1])


def test_overlap_of_the_page_is_that_of_the_loaded_keeps(comparison):
    groups = Tables(gather([comparison])).groups
    (found,), notices = matrices(groups)
    assert not notices and found.seeds == found.of == 2
    for i, g in enumerate(found.groups):
        for j, h in enumerate(found.groups):
            if i == j:
                assert found.iou[i][j] is None
                continue
            shares = []
            for a, b in zip(groups[g].runs, groups[h].runs, strict=True):
                first, second = (_flat(run.folder) for run in (a, b))
                shares.append(float((first & second).sum() / (first | second).sum()))
            assert found.iou[i][j] == pytest.approx(sum(shares) / 2)


def _flat(folder):
    from safetensors.torch import load_file

    from secateur.core.packed import unpack_bits

    keep = json.loads((folder / "secateur.json").read_text())["keep"]
    stored = load_file(folder / "model.safetensors")
    return torch.cat([unpack_bits(stored[f"{n}:bits"], tuple(shape)).flatten() for n, shape in keep.items()])


def test_overlap_of_cut_models_is_that_of_the_units_they_keep(tmp_path):
    """Cut weights are in no file any more: what a method kept lies apart."""
    kept = {}
    for method in ("depgraph", "magnitude"):
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 4))
        how = {} if method == "depgraph" else {"structure": "channels"}
        sc.prune(model, method, sparsity=0.5, example=torch.ones(2, 8), **how).save(tmp_path / method)
        kept[method] = torch.cat([bits.flatten() for bits in sc.load_keep(tmp_path / method).masks.values()])
    (found,), notices = matrices(Tables(gather([tmp_path])).groups)
    assert not notices
    first, second = kept.values()
    assert found.iou[0][1] == pytest.approx(float((first & second).sum() / (first | second).sum()))


def test_the_work_on_masks_is_bounded_and_the_bound_is_told(comparison):
    groups = Tables(gather([comparison])).groups
    each = 3 * 5100  # three pairs of a little over 40,000 weights
    (found,), _ = matrices(groups, most=each + 100)
    assert (found.seeds, found.of) == (1, 2)
    none, notices = matrices(groups, most=100)
    assert not none and "too many to compare" in notices[0]


def test_a_damaged_mask_file_is_a_notice(comparison):
    file = next((comparison / "cells").glob("lamp-*/run/result/model.safetensors"))
    file.write_bytes(b"\xff" * file.stat().st_size)
    (found,), notices = matrices(Tables(gather([comparison])).groups)
    assert "its masks cannot be read" in notices[0] and found.iou[0][1] is not None


def test_names_of_a_hostile_hand_stay_text(comparison, tmp_path, synthetic):
    file = next((comparison / "cells").glob("lamp-*/row.json"))
    row = json.loads(file.read_text())
    file.write_text(json.dumps({**row, "label": EVIL, "command": EVIL, "metrics": {"accuracy": 0.99, EVIL: 1.0}}))
    told = json.loads((comparison / "comparison.json").read_text())
    told |= {"protocol": {"model": EVIL, EVIL: EVIL}, "command": EVIL}
    (comparison / "comparison.json").write_text(json.dumps(told))
    page = write_report(comparison, tmp_path / "r.html").read_text(encoding="utf-8")
    own = re.sub(r"<script>.*?</script>", "", page, flags=re.S)
    assert own.count("</script>") == 1 and own.count("<script") == 1  # that of the data
    assert "<img" not in own and "<!--" not in own and "{{7*7}}" in page.split("<h1>")[1].split("</h1>")[0]


def test_links_are_relative_paths_whatever_a_folder_is_called(comparison, tmp_path):
    odd = comparison.rename(tmp_path / 'javascript:alert("1")#?')
    links = [r["link"] for r in embedded(write_report(odd, tmp_path / "r.html"))["runs"]]
    assert all(link.startswith("./javascript%3Aalert%28%221%22%29%23%3F/cells/") for link in links)


def test_nothing_points_outside(comparison, tmp_path):
    page = write_report(comparison, tmp_path / "r.html").read_text(encoding="utf-8")
    own = re.sub(r"<script>.*?</script>", "", page, flags=re.S)
    assert "http://" not in own and "https://" not in own and "src=" not in own.replace("img-src", "")
    assert "default-src 'none'" in page and str(tmp_path) not in page


def test_an_older_report_is_replaced_and_nothing_else_is_left(comparison, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "r.html").write_text("old")
    write_report(comparison, tmp_path / "out" / "r.html")
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["r.html"]
    assert (tmp_path / "out" / "r.html").stat().st_size < 6e6


def test_a_report_that_cannot_be_written_says_so(comparison, tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file" / "r.html", tmp_path):
        with pytest.raises(CheckpointError, match="another file with -o"):
            write_report(comparison, path)


def test_progress_is_told(comparison, tmp_path):
    titles = set()
    with showing(lambda title, done, total: titles.add(title)):
        write_report(comparison, tmp_path / "r.html")
    assert titles == {"reading compare", "comparing masks"}


def test_the_page_knows_each_mean_with_its_interval(comparison, tmp_path):
    from secateur.analysis import mean_interval

    data = embedded(write_report(comparison, tmp_path / "r.html"))
    for group in data["groups"]:
        values = [data["runs"][r]["m"][0] for r in group["runs"]]
        assert group["m"][0] == pytest.approx([sum(values) / 2, *mean_interval(values)], rel=1e-3)


def test_a_real_result_of_prune_can_be_reported(tmp_path):
    model = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.Linear(8, 4))
    sc.prune(model, "magnitude", sparsity=0.5).save(tmp_path / "out")
    found = gather([tmp_path / "out"])
    data, notices = page_data(Tables(found), tmp_path / "r.html")
    assert not notices and data["layers"]["names"] == ["0.weight", "1.weight"]
    assert data["series"][0]["method"] == "magnitude"
    write_report(tmp_path / "out", tmp_path / "r.html")
