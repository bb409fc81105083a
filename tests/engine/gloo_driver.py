"""One of several processes that calibrate together: writes the weights that it ends with."""

import sys

import torch.distributed as dist
from safetensors.torch import save_file
from test_blockwise import llama, task

import secateur as sc

rank, world, store, out, *methods = int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:]
if world > 1:
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=world)
for method in methods:
    result = sc.prune(llama(), method, sparsity=0.5, task=task(16))
    save_file({n: p.detach() for n, p in result.subject.named_parameters()}, f"{out}-{method}-{rank}")
if world > 1:
    dist.destroy_process_group()
