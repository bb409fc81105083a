"""Two processes that train together give what one gives."""

import os
import socket
import subprocess
import sys
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
    launch = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-addr", "127.0.0.1"]
    command = [sys.executable, *launch, "--master-port", free_port(), DRIVER, tmp_path, tmp_path / "run"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    two = subprocess.run([str(c) for c in command], capture_output=True, text=True, env=environment, timeout=300)
    assert two.returncode == 0, two.stderr
    alone, first, second = (load_file(tmp_path / f"{name}.safetensors") for name in ("alone", "0", "1"))
    assert all(torch.equal(v, second[k]) for k, v in first.items())
    # the mean of two halves of a batch is the batch's mean up to rounding, which training amplifies a little
    agree = [((alone[k] != 0) == (first[k] != 0)).float().mean() for k in alone]
    assert min(agree) > 0.97
    assert sc.load(tmp_path / "run" / "result").state_dict().keys() == first.keys()
