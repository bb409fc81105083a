"""Pruning block by block, in a process that ends itself by SIGKILL as it writes a block or notes."""

import os
import signal
from dataclasses import replace

import torch
import transformers as tf

import secateur as sc
from secateur.calibration.shards import ShardWriter
from secateur.core import Recipe
from secateur.engine.methods import as_recipe, recovery_from
from secateur.engine.runfolder import RunFolder
from secateur.schedules import Stepwise
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
    "stepwise": lambda: Recipe(Weights(), Wanda(), schedule=Stepwise(steps=2), propagation="pruned"),
    "icbs": lambda: as_recipe("icbs", steps=5, block=16, tabu=0.2, exclude=("*embed*",)),
    "finercut": lambda: "finercut",
    "slicegpt": lambda: "slicegpt",
    "flap": lambda: replace(as_recipe("flap"), propagation="pruned"),
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
    RunFolder.write_block = _deadly(RunFolder.write_block, after)
    torch.set_num_threads(1)
    prune(name, folder)


def note_and_die(name, folder, after):
    RunFolder.due = lambda self: True
    RunFolder.write_notes = _deadly(RunFolder.write_notes, after)
    torch.set_num_threads(1)
    prune(name, folder)


def prune_folder_and_die(source, out, after):
    ShardWriter.write = _deadly(ShardWriter.write, after)
    torch.set_num_threads(1)
    sc.prune_folder(source, "sparsegpt", out, task=task(), sparsity=0.5)


def _deadly(write, after):
    """What writes, and ends the process at the next time after so many."""
    times = iter(range(after))

    def counted(*arguments):
        if next(times, None) is None:
            os.kill(os.getpid(), signal.SIGKILL)
        return write(*arguments)

    return counted
