"""One of several processes that train together: prunes the digits MLP and writes what it got."""

import os
import sys

import torch
from safetensors.torch import save_file

import secateur as sc


def main(folder, run):
    task = sc.tasks.builtin_task("digits-flat")
    torch.manual_seed(0)
    result = sc.prune(
        task.model(), "gmp", sparsity=0.8, task=task, epochs=2, device="cpu", run=run or None, save_every_s=0
    )
    rank = os.environ.get("RANK", "alone")
    save_file({k: v.clone() for k, v in result.subject.state_dict().items()}, f"{folder}/{rank}.safetensors")


main(*sys.argv[1:])
