"""Pruning a checkpoint that is larger than memory: block by block, from disk to disk."""

import hashlib
import json
import logging
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from secateur._version import __version__
from secateur.calibration import checked_layout, parts_of, stored_names
from secateur.calibration.chain import Layout
from secateur.calibration.on_disk import OnDisk
from secateur.calibration.shards import Shards, ShardWriter
from secateur.calibration.stream import Act, Part, Stream
from secateur.core import (
    CheckpointError,
    InputGram,
    Kind,
    Move,
    Passes,
    Recipe,
    RecipeError,
    Recovery,
    Statistic,
    Stats,
    Structure,
    SubjectError,
    Task,
    batch_length,
    require,
    samples_for,
    to_device,
)
from secateur.core.files import once, read_small

from .acting import Blocks
from .blockwise import Streamed, prune_blocks_, sectioned
from .methods import adapted, as_recipe, implied_target
from .runfolder import fingerprint
from .tensors import write_atomically

_log = logging.getLogger(__name__)
_REPORT, _PROGRESS, _ACTIVATIONS = "pruning.json", "progress.json", "activations"
_WEIGHTS = (".safetensors", ".safetensors.index.json", ".bin", ".bin.index.json", ".pt", ".pth", ".h5", ".msgpack")
_REST = 64 << 20
_MOST_JSON = 64 << 20
Evidence = dict[tuple[str, Statistic], Tensor]


@dataclass(repr=False)
class Pruned:
    """What pruning from disk to disk did.

    Attributes:
        folder: a checkpoint that transformers reads, with zeros in the weights and `pruning.json` beside them.
        sparsity: share of the prunable weights that is gone.
        blocks: for each block its units, how many stay, errors, time and memory.
        bound: bytes that were reckoned to be needed at once, beside Python and its libraries.
        provenance: recipe, target, seed, version.
    """

    folder: Path
    sparsity: float
    blocks: list[dict[str, Any]]
    bound: int
    provenance: dict[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"Pruned({str(self.folder)!r}, sparsity={self.sparsity:.4g}, {len(self.blocks)} blocks)"


def prune_folder(
    folder: str | Path,
    method: str | Recipe,
    out: str | Path,
    *,
    task: Task,
    sparsity: float | None = None,
    structure: Structure | str | None = None,
    recovery: str | Sequence[Recovery] | None = None,
    memory: int | None = None,
    batches: int = 16,
    seed: int = 0,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
    **settings: Any,
) -> Pruned:
    """Prune the weights of a transformers checkpoint, never holding more than one block of it.

    Killed at any point, the same call goes on with the first block that is not finished; the result has the same bits.

    Args:
        folder: what `save_pretrained` wrote, in one file or in shards.
        method: a registered method's id, or a recipe, of masks: wanda, sparsegpt, owl, magnitude.
        out: the folder to write; it must not exist. Until all is done it is called `OUT.part`.
        task: batches of token ids, and how they become a call.
        sparsity: share removed of all prunable weights; N:M structures imply it.
        structure, recovery: instead of the method's own, as in `sc.prune`; what heals does so block by block.
        memory: bytes that may be used at once. Activations go to disk where that keeps below.
        batches: of the task's training data.
        device: where blocks run.
        dtype: in which blocks run; what is stored keeps its own, and what follows a block hears it rounded so.
        settings: of the method.

    Raises:
        CheckpointError: the folder is damaged or a shard is missing; `out` is there already or cannot be written.
        SubjectError: the model has no blocks that follow each other, or weights to prune outside them.
        RecipeError: the recipe trains, cuts, or compares all weights at once; or `memory` is too little.
    """
    source, target = Path(folder), Path(out)
    if target.exists():
        raise CheckpointError("it is there already", where=str(target), mend="choose another folder, or remove it")
    recipe = adapted(as_recipe(method, **settings), structure, None, recovery)
    _check(recipe)
    shards = Shards(source)
    job = _Job(source, shards, recipe, task.fork(seed), batches, seed, torch.device(device), dtype)
    part = target.with_name(target.name + ".part")
    done = job.prune_(part, sparsity, memory, method if isinstance(method, str) else None)
    part.rename(target)
    done.folder = target
    return done


def _check(recipe: Recipe) -> None:
    wrong = ""
    if recipe.structure.cuts:
        wrong = "it cuts units out, which changes the architecture"
    elif recipe.refine is not None:
        wrong = f"{type(recipe.refine).__name__} asks the loss of the whole model"
    elif whole := [type(r).__name__ for r in recipe.recovery if not r.rebuilds]:
        wrong = f"{whole[0]} needs the whole model"
    elif recipe.budget is not None and recipe.budget.needs_scores:
        wrong = f"the budget {type(recipe.budget).__name__} compares all weights at once"
    if wrong:
        mend = "prune it in memory: sc.prune(model, ...)"
        raise RecipeError(f"this recipe does not run from disk to disk: {wrong}", where="prune_folder", mend=mend)


class _Job:
    def __init__(
        self,
        source: Path,
        shards: Shards,
        recipe: Recipe,
        task: Task,
        batches: int,
        seed: int,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        self.source, self.shards, self.recipe, self.task, self.seed = source, shards, recipe, task, seed
        self.device, self.dtype = device, dtype
        self.batches = list(islice(task.batches("train", epoch=0), batches))
        self.model = _without_weights(source)
        self.names = stored_names(self.model, shards)
        self.layout = self._layout()
        space = recipe.structure.find(self.model)
        by_blocks = recipe.budget is not None and recipe.budget.by_blocks
        self.space = sectioned(space, self.layout) if by_blocks else space
        outside = next((p for p in parts_of(self.space, self.layout) if p.place[1] < 0), None)
        if outside is not None:
            name = outside.space.groups[0].name
            mend = f"exclude=({name!r},), or prune it in memory"
            raise SubjectError(f"{name!r} lies outside all blocks", where=str(source), mend=mend)

    def _layout(self) -> Layout:
        """Found and proven on one sample, with weights that are read layer by layer."""
        sample = to_device(samples_for(self.model, self.batches[0]), self.device)
        with self._dense().around():
            found = checked_layout(self.model, lambda m: self.task.call(m, sample), sample, self.device)
        if not found.chains:
            raise SubjectError(
                "no blocks were found that follow each other", where=str(self.source), mend="prune it in memory"
            )
        return found

    def _dense(self) -> OnDisk:
        """The weights as they were."""
        return OnDisk(self.model, lambda n: self.shards[self.names[n]], self.dtype, self.device, lambda _, __: None)

    def prune_(self, folder: Path, sparsity: float | None, memory: int | None, method: str | None) -> Pruned:
        target = implied_target(self.recipe, self.space, sparsity)
        provenance = {
            "secateur": __version__,
            "method": method,
            "recipe": self.recipe.to_json(),
            "sparsity": target.sparsity,
            "seed": self.seed,
            "batches": len(self.batches),
            "data": _digest(self.batches),
            "dtype": str(self.dtype),
        }
        bound, spilled = self._bound(memory)
        stored = {name: self.shards.bytes_of(name) for name in sorted(set(self.names.values()))}
        progress = _Progress(folder, fingerprint(provenance | {"stored": stored}))
        activations = folder / _ACTIVATIONS if spilled else None
        writer = ShardWriter(folder)
        finished = dict(progress.blocks)
        waiting: dict[str, list[dict[str, Any]]] = {}
        blocks = Blocks()

        def tensor(name: str) -> Tensor:
            written = next((p for p in finished if name.startswith(f"{p}.")), None)
            return self.shards[self.names[name]] if written is None else writer.read(written, name)

        def done(path: str, named: Mapping[str, Tensor]) -> None:
            if path in waiting:
                writer.write(path, {n: self._as_stored(n, t) for n, t in named.items()})
                finished[path] = waiting.pop(path)
                progress.finish(path, finished[path])

        def changed(part: Part) -> list[str]:
            if not self.recipe.recovery:
                return [group.name for group in part.space]
            block = self.model.get_submodule(part.name)
            return [f"{part.name}.{name}" for name, _ in block.named_parameters()]

        def acting(act: Act) -> Act:
            def and_round(part: Part, evidence: Evidence, passes: Passes | None) -> None:
                act(part, evidence, passes)
                for name in changed(part):  # what follows hears what will be stored
                    live = self.model.get_parameter(name).detach()
                    live.copy_(self._as_stored(name, live).to(live.dtype))
                waiting.setdefault(part.name, []).append(blocks.facts[-1])

            return and_round

        residency = OnDisk(self.model, tensor, self.dtype, self.device, done)
        stats = Stats(self._dense_evidence(activations), seed=self.seed)
        streamed = Streamed(self.layout, residency, self.device, activations, tuple(finished), acting)
        move = Move(Kind.PRUNE, target.sparsity)
        prune_blocks_(
            self.model,
            self.recipe,
            move,
            self.space,
            stats,
            self.task,
            self.batches,
            hold=False,
            streamed=streamed,
            done=blocks,
        )
        return self._finished(folder, writer, finished, bound, provenance)

    def _dense_evidence(self, activations: Path | None) -> Evidence:
        """What the budget asks for, of the dense model."""
        needs = () if self.recipe.budget is None else self.recipe.budget.needs
        found: Evidence = {}
        if needs:
            stream = Stream(
                self.model, self.layout, self.task.call, self.batches, activations, self._dense(), self.device
            )

            def digest(part: Part, heard: Evidence, _: Passes | None) -> None:
                assert self.recipe.budget is not None
                found.update(self.recipe.budget.digest(part.space, Stats(heard)))

            stream.run(parts_of(self.space, self.layout), needs, digest, "dense")
        return found

    def _as_stored(self, name: str, tensor: Tensor) -> Tensor:
        return tensor.detach().to(self.shards.dtype_of(self.names[name]))

    def _bound(self, memory: int | None) -> tuple[int, bool]:
        """Bytes needed at once, and whether activations have to lie on disk for it."""
        width = torch.empty((), dtype=self.dtype).element_size()
        blocks: dict[str, int] = {}
        rest = 0
        for name, parameter in self.model.named_parameters():
            place = self.layout.place_of(name.rpartition(".")[0])
            if place[1] >= 0:
                path = self.layout.chains[place[0]].paths[place[1]]
                blocks[path] = blocks.get(path, 0) + parameter.numel() * width
            else:
                rest = max(rest, parameter.numel() * width)
        judge = self.recipe.solve or self.recipe.score
        squares = judge is not None and any(isinstance(n, InputGram) for n in judge.needs)
        moments = 0
        for part in parts_of(self.space, self.layout):
            inputs = [g.site.shape[1] for g in part.space if g.site is not None]
            moments = max(
                moments, sum(4 * n * n if squares else 8 * n for n in inputs) + 16 * max(inputs) ** 2 * squares
            )
        # a block with its new values, masks, and as it is stored and written; or a table, mapped, copied and written
        largest = max(blocks.values())
        flow = self._activations(width)
        if self.recipe.recovery:  # what each layer of a block gives on a batch, and adapted weights with gradients
            moments = max(moments, 4 * largest + self._inside(flow // len(self.batches)))
            flow *= 2
        working = max(4 * largest + largest // width + moments, 3 * rest)
        if memory is None or working + flow <= memory:
            return working + flow, False
        if working + flow // len(self.batches) > memory:
            raise RecipeError(
                f"at least {(working + flow // len(self.batches)) / 2**20:.0f} MiB are needed at once",
                where=f"memory={memory / 2**20:.0f} MiB",
                mend="more memory=, a smaller batch, or dtype=torch.bfloat16",
            )
        return working + flow // len(self.batches), True

    def _inside(self, flow: int) -> int:
        """Bytes of what a pass back through the widest block needs of a batch of which `flow` bytes come in."""
        outputs: dict[str, int] = {}
        for group in self.space:
            if group.site is not None:
                block = self.layout.place_of(group.name.rpartition(".")[0])
                outputs[str(block)] = outputs.get(str(block), 0) + group.site.shape[0] + group.site.shape[1]
        given = next(leaf for leaf in self.layout.chains[0].blocks[0].leaves if isinstance(leaf, torch.Size))
        return 2 * flow * max(outputs.values()) // given[-1]

    def _activations(self, width: int) -> int:
        """Bytes of what flows between blocks, for all batches; of sequences of the model's width."""
        chain = self.layout.chains[0].blocks[0]
        shape = next(leaf for leaf in chain.leaves if isinstance(leaf, torch.Size))
        samples = sum(map(batch_length, self.batches))
        return samples * int(shape[1:].numel()) * width

    def _finished(
        self,
        folder: Path,
        writer: ShardWriter,
        blocks: Mapping[str, list[dict[str, Any]]],
        bound: int,
        provenance: dict[str, Any],
    ) -> Pruned:
        """Everything that is no pruned block is copied, then the index and the report are written."""
        written = {n: s for n, s in self.names.items() if any(n.startswith(f"{p}.") for p in blocks)}
        parts, batch, size = list(blocks), dict[str, Tensor](), 0
        rest = [n for n in self.shards.files if n not in set(written.values())]
        for number, name in enumerate(rest):
            batch[name] = self.shards[name]
            size += self.shards.bytes_of(name)
            if size >= _REST or number + 1 == len(rest):
                parts.append(f"rest-{len(parts) - len(blocks):03d}")
                writer.write(parts[-1], batch)
                batch, size = {}, 0
        writer.index(parts)
        for file in self.source.iterdir():
            if file.is_file() and not file.name.endswith(_WEIGHTS):
                shutil.copyfile(file, folder / file.name)
        facts = [told for parts_of_block in blocks.values() for told in parts_of_block]
        units = sum(f["units"] for f in facts)
        sparsity = 1 - sum(f["kept"] for f in facts) / max(units, 1)
        report = {"sparsity": sparsity, "blocks": facts, "bound": bound, "provenance": provenance}
        write_atomically(folder / _REPORT, json.dumps(report, indent=1).encode())
        shutil.rmtree(folder / _ACTIVATIONS, ignore_errors=True)
        (folder / _PROGRESS).unlink(missing_ok=True)
        return Pruned(folder, sparsity, facts, bound, provenance)


class _Progress:
    """Which blocks are finished, in the folder that becomes the result."""

    def __init__(self, folder: Path, run: str) -> None:
        self._file, self._run = folder / _PROGRESS, run
        self.blocks: dict[str, list[dict[str, Any]]] = {}
        folder.mkdir(parents=True, exist_ok=True)
        if not self._file.exists():
            if any(p.suffix == ".safetensors" for p in folder.iterdir()):
                raise CheckpointError("it holds what is no run", where=str(folder), mend="remove it")
            self._write()
            return
        try:
            found = json.loads(read_small(self._file, _MOST_JSON).decode(), object_pairs_hook=once)
            known, self.blocks = found["run"], dict(found["blocks"])
        except (ValueError, KeyError, TypeError) as error:
            raise CheckpointError(
                f"its progress cannot be read: {error!r}", where=str(folder), mend="remove it"
            ) from error
        if known != run:
            raise CheckpointError(
                "it belongs to another recipe, model or data",
                where=str(folder),
                mend="repeat that call to go on with it, or remove it",
            )
        # a shard that is not there is no finished block
        self.blocks = {p: f for p, f in self.blocks.items() if (folder / f"{p}.safetensors").is_file()}

    def finish(self, block: str, facts: list[dict[str, Any]]) -> None:
        """One more block is finished."""
        self.blocks[block] = facts
        self._write()

    def _write(self) -> None:
        write_atomically(self._file, json.dumps({"run": self._run, "blocks": self.blocks}).encode())


def _without_weights(folder: Path) -> nn.Module:
    """The model of a folder's config, its parameters on the meta device."""
    require("transformers", extra="llm", where=str(folder))
    import transformers
    from accelerate import init_empty_weights

    try:
        config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True)
        name = (config.architectures or ["?"])[0]
        made = getattr(transformers, name)
    except (OSError, ValueError, AttributeError) as error:
        raise CheckpointError(
            f"its config names no model of transformers: {error}",
            where=str(folder),
            mend="give a folder of save_pretrained",
        ) from error
    with init_empty_weights(include_buffers=False):
        model = made(config)
    assert isinstance(model, nn.Module)
    model.tie_weights()  # type: ignore[operator]
    return model.eval()


def _digest(batches: list[Any]) -> str:
    found = hashlib.sha256()
    for batch in batches:
        tensors = [batch] if isinstance(batch, Tensor) else batch.values() if isinstance(batch, Mapping) else batch
        for tensor in tensors:
            if isinstance(tensor, Tensor):
                found.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return found.hexdigest()[:16]
