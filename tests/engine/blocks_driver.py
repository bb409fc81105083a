"""Pruning in memory with a run folder, in a process that ends itself by SIGKILL as it writes a block."""

import os
import signal

import torch
import transformers as tf

import secateur as sc
from secateur.core import Recipe
from secateur.engine.methods import recovery_from
from secateur.engine.runfolder import RunFolder
from secateur.scores import Wanda
from secateur.solvers.refining import BlockDescent
from secateur.structures import Weights
from secateur.tasks.language import Windows, language_task

RECIPES = {
    "wanda": lambda: "wanda",
    "sparsegpt": lambda: "sparsegpt",
    "owl": lambda: "owl",
    "healed": lambda: Recipe(
        Weights(),
        Wanda(),
        recovery=recovery_from("reconstruct(steps=4, subsets=[norm, lora], rank=2)"),
        propagation="stages",
    ),
    "refined": lambda: Recipe(
        Weights(exclude=("*embed*",)), Wanda(), propagation="pruned", refine=BlockDescent(steps=2, block=16)
    ),
}


def llama():
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2}
    return tf.LlamaForCausalLM(tf.LlamaConfig(vocab_size=64, intermediate_size=48, **sizes)).eval()


def task():
    ids = torch.randint(64, (8 * 16,), generator=torch.Generator().manual_seed(0))
    return language_task(Windows(ids, 16), Windows(ids[:32], 16), "ids", batch_size=4)


def prune(name, folder):
    return sc.prune(llama(), RECIPES[name](), sparsity=0.5, task=task(), run=folder)


def prune_and_die(name, folder, after):
    written, write = [], RunFolder.write_block

    def counted(self, number, state):
        if len(written) == after:
            os.kill(os.getpid(), signal.SIGKILL)
        write(self, number, state)
        written.append(number)

    RunFolder.write_block = counted
    torch.set_num_threads(1)
    prune(name, folder)
