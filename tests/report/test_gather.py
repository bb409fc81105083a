"""What the report reads: comparisons, results, half of them, and what a hostile hand put there."""

import json
import os

import pytest

from secateur.core import CheckpointError
from secateur.report.gather import gather
from secateur.report.read import number, plain, read_json, text


@pytest.fixture
def comparison(synthetic, tmp_path):
    return synthetic.write_comparison(
        tmp_path / "compare", methods=("magnitude", "lamp"), sparsities=(0.5, 0.9), seeds=2
    )


def first_cell(folder):
    return folder / "cells" / json.loads((folder / "comparison.json").read_text())["cells"][-1]


def test_every_cell_is_a_run_with_its_layers_masks_and_curve(comparison):
    found = gather([comparison])
    assert len(found.runs) == 14 and not found.notices
    pruned = [r for r in found.runs if r.method == "lamp"]
    assert all(len(r.layers) == 5 and len(r.masks) == 5 and r.curve and r.about["recipe"] for r in pruned)
    assert (found.sources[0].done, found.sources[0].missing) == (14, 0)


def test_a_half_finished_comparison_says_what_is_missing(comparison, synthetic):
    found = gather([synthetic.damage(comparison, failed=1, missing=3)])
    source = found.sources[0]
    assert (source.done, source.failed, source.missing) == (10, 1, 3)
    assert [r.error.split(":")[0] for r in found.runs if r.error] == ["layer collapse"]


def test_a_cell_that_failed_once_and_then_ended_well_is_done(comparison):
    (first_cell(comparison) / "error.json").write_text('{"error": "once"}')
    assert gather([comparison]).sources[0].done == 14


def test_saved_results_and_run_folders_are_runs_beside_their_dense_start(comparison, tmp_path):
    cell = first_cell(comparison)
    saved = cell / "run" / "result"
    (cell / "run" / "run.json").write_text("{}")
    by_itself, of_run = gather([saved]), gather([cell / "run"])
    for found in (by_itself, of_run):
        assert [r.method for r in found.runs] == ["lamp", "dense"]
        assert found.runs[0].structure == "weights" and found.sources[0].metric == "accuracy"


def test_a_folder_of_several_is_searched(comparison, synthetic, tmp_path):
    synthetic.write_comparison(tmp_path / "deep" / "other", methods=("lamp",), sparsities=(0.9,), seeds=1)
    found = gather([tmp_path])
    assert sorted(s.name for s in found.sources) == ["compare", "other"]


def test_a_run_that_has_not_ended_is_told(comparison, tmp_path):
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "run.json").write_text("{}")
    found = gather([comparison, tmp_path / "half"])
    assert found.notices == ["half: the run has not ended yet."]


@pytest.mark.parametrize(
    "make", [lambda p: None, lambda p: p.mkdir(), lambda p: (p.mkdir(), (p / "a.txt").write_text("x"))]
)
def test_a_folder_with_nothing_to_report_says_how_to_mend_it(make, tmp_path):
    make(tmp_path / "empty")
    with pytest.raises(CheckpointError, match="secateur compare"):
        gather([tmp_path / "empty"])


def test_no_folder_at_all_is_an_error_of_ours():
    with pytest.raises(CheckpointError):
        gather([])


HOSTILE = {
    "no JSON": b"{",
    "not UTF-8": b'{"a": "\xff\xfe"}',
    "a list": b"[1]",
    "deep": b'{"a":' + b"[" * 200_000,
    "a number too long": b'{"seed": ' + b"9" * 10_000 + b"}",
    "empty": b"",
}


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE.keys())
@pytest.mark.parametrize("name", ["row.json", "run/result/secateur.json"])
def test_a_damaged_cell_is_a_notice_and_the_others_stay(comparison, content, name):
    cell = first_cell(comparison)
    (cell / name).write_bytes(content)
    found = gather([comparison])
    assert len(found.notices) == 1 and cell.name in found.notices[0]
    assert len(found.runs) == (13 if name == "row.json" else 14)


def test_an_edited_result_is_not_believed(comparison):
    file = first_cell(comparison) / "run" / "result" / "secateur.json"
    file.write_text(file.read_text().replace('"step"', '"steps"'))
    found = gather([comparison])
    assert "it was edited" in found.notices[0] and found.runs[-1].curve is None and found.runs[-1].metrics


def test_links_and_pipes_are_not_read(comparison, tmp_path):
    (tmp_path / "secret.json").write_text('{"method": "secret"}')
    row = first_cell(comparison) / "row.json"
    row.unlink()
    row.symlink_to(tmp_path / "secret.json")
    result = (
        first_cell(comparison).parent
        / json.loads((comparison / "comparison.json").read_text())["cells"][4]
        / "row.json"
    )
    result.unlink()
    os.mkfifo(result)
    found = gather([comparison])
    assert len(found.notices) == 2 and "secret" not in {r.method for r in found.runs}


@pytest.mark.parametrize("name", ["..", "../../etc", "", ".", "a/b", "/etc", "x\0y", "a" * 300, "\ud800"])
def test_a_cell_name_never_leaves_the_folder(comparison, name):
    told = json.loads((comparison / "comparison.json").read_text())
    (comparison / "comparison.json").write_text(json.dumps({**told, "cells": [*told["cells"], name]}))
    found = gather([comparison])
    assert found.sources[0].failed == 1 and len(found.runs) == 14 and "no name of a cell" in found.notices[0]


ODD = [None, True, 3, "x" * 10_000, [], {}, [[]], {"a": [1]}, float("nan"), 10**400]


@pytest.mark.parametrize("value", ODD, ids=lambda v: type(v).__name__)
def test_a_value_of_another_kind_anywhere_in_a_row_is_no_crash(comparison, value, tmp_path):
    from secateur.report import write_report

    file = first_cell(comparison) / "row.json"
    row = json.loads(file.read_text())
    for key in row:
        file.write_text(json.dumps({**row, key: value}))
        assert len(gather([comparison]).runs) == 14
    file.write_text(json.dumps(dict.fromkeys(row, value)))
    assert "</html>" in write_report(comparison, tmp_path / "r.html").read_text()


@pytest.mark.parametrize("value", ODD, ids=lambda v: type(v).__name__)
def test_a_value_of_another_kind_in_the_comparison_or_a_result_is_no_crash(comparison, value, synthetic, tmp_path):
    from secateur.report import write_report

    told = json.loads((comparison / "comparison.json").read_text())
    for key in told.keys() - {"format", "cells"}:
        (comparison / "comparison.json").write_text(json.dumps({**told, key: value}))
        assert len(gather([comparison]).runs) == 14
    odd = {**dict.fromkeys(told, value), "format": 1, "cells": told["cells"]}
    (comparison / "comparison.json").write_text(json.dumps(odd))
    saved = first_cell(comparison) / "run" / "result"
    manifest = json.loads((saved / "secateur.json").read_text())
    for key in manifest.keys() - {"format", "sha256"}:
        synthetic.seal(saved, {**manifest, key: value})
        assert len(gather([comparison, saved]).runs) >= 14  # the saved result may be left out, and is told of then
    synthetic.seal(saved, {**dict.fromkeys(manifest, value), "format": 1})
    assert "</html>" in write_report([comparison, saved], tmp_path / "r.html").read_text()


def test_a_file_larger_than_its_kind_can_be_is_not_read(tmp_path):
    (tmp_path / "row.json").write_text('{"a": "' + "x" * 100 + '"}')
    with pytest.raises(CheckpointError, match="too large to be ours"):
        read_json(tmp_path / "row.json", 50)


def test_texts_and_numbers_come_out_harmless():
    assert text("a\u202eb\x00c\ud800", 10) == "a\ufffdb\ufffdc?"
    assert text("x" * 50, 10) == "x" * 9 + "…" and text(None) == ""
    assert [number(v) for v in (1, 2.5, True, "1", float("inf"), 10**400, None)] == [1.0, 2.5, *[None] * 5]
    assert plain({"a": "x" * 30_000}).endswith("…") and plain({"a": [1, "b"]}) == {"a": [1, "b"]}
