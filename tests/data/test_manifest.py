"""Sample lists: what is written is read, and damage is named."""

import pytest
import torch

from secateur.core import CheckpointError, Keep
from secateur.data import read_ids, write_ids


def keep(*ids, size=9):
    mask = torch.zeros(size, dtype=torch.bool)
    mask[list(ids)] = True
    return Keep({"samples": mask})


@pytest.mark.parametrize("ids", [(), (0,), (2, 3, 8)])
def test_what_is_written_is_read(tmp_path, ids):
    assert write_ids(keep(*ids), tmp_path / "ids.txt") == len(ids)
    assert read_ids(tmp_path / "ids.txt") == keep(*ids)


def test_a_file_that_is_there_is_left_alone(tmp_path):
    (tmp_path / "ids.txt").write_text("mine")
    with pytest.raises(CheckpointError, match="there already"):
        write_ids(keep(1), tmp_path / "ids.txt")
    assert (tmp_path / "ids.txt").read_text() == "mine"


@pytest.mark.parametrize("text", ["", "1\n2\n", "# samples of 3\n5\n", "# samples of 3\n1\n1\n", "# samples of 3\nx\n"])
def test_damage_is_named(tmp_path, text):
    (tmp_path / "ids.txt").write_text(text if text != "1\n2\n" else "head\n2\n")
    with pytest.raises(CheckpointError, match="no list of samples"):
        read_ids(tmp_path / "ids.txt")


def test_a_keep_of_weights_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match=r"conv\.weight"):
        write_ids(Keep({"conv.weight": torch.ones(2, dtype=torch.bool)}), tmp_path / "ids.txt")
