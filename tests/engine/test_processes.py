"""Two processes that train together give what one gives."""

import socket
from pathlib import Path

import torch
from safetensors.torch import load_file

import commands
import secateur as sc

DRIVER = Path(__file__).with_name("ddp_driver.py")


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def test_two_processes_keep_the_same_weights_as_each_other_and_learn_as_one_does(tmp_path):
    one = commands.script(DRIVER, tmp_path, "")
    assert one.returncode == 0, one.stderr
    # what a launcher tells each process that it starts
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": "2"}
    ranks = [
        commands.started_script(DRIVER, tmp_path, tmp_path / "run", **place, RANK=str(n), LOCAL_RANK=str(n))
        for n in range(2)
    ]
    for done in [rank.ended(300) for rank in ranks]:
        assert done.returncode == 0, done.stderr
    alone, first, second = (load_file(tmp_path / f"{name}.safetensors") for name in ("alone", "0", "1"))
    assert all(torch.equal(v, second[k]) for k, v in first.items())
    # the mean of two halves of a batch is the batch's mean up to rounding, which training amplifies a little
    agree = [((alone[k] != 0) == (first[k] != 0)).float().mean() for k in alone]
    assert min(agree) > 0.97
    assert sc.load(tmp_path / "run" / "result").state_dict().keys() == first.keys()
