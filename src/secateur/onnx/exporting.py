"""From any model of torch to an ONNX file, verified."""

import copy
import inspect
import logging
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from secateur.core import MissingExtra, RecipeError, SecateurError, SubjectError, masks_of, remove_masks_, require
from secateur.graph.switches import without_cache

from .model import OnnxModel
from .saving import Written, new_file, size_of, write
from .verify import check_same, others_like, outputs_of, run_session, session_of

_log = logging.getLogger(__name__)
_LARGE = 1 << 30


def export(model: Any, file: str | Path, example: Any = None, *, overwrite: bool = False) -> Written:
    """Write a model as ONNX, and compare the file with the model in onnxruntime, on two inputs.

    The file takes any number of samples where the model does: the second input then has one sample more.

    Args:
        model: a module, or a `Result`, whose subject is one.
        example: inputs of the model: a tensor, several in a tuple, or a mapping of arguments; not needed for a model
            that was read from ONNX, nor for a result that has one.

    Raises:
        RecipeError: there is no example.
        SubjectError: torch cannot export the model, or onnxruntime cannot run it.
        NumericsError: onnxruntime gives something else; no file was written.
        CheckpointError: the file is there already, or cannot be written.
        MissingExtra: onnxscript or onnxruntime is not installed.
    """
    subject = getattr(model, "subject", model)
    example = getattr(model, "example", None) if example is None else example
    if isinstance(subject, OnnxModel):
        return write(subject, file, overwrite=overwrite)
    if not isinstance(subject, nn.Module):
        raise SubjectError(f"a {type(subject).__name__} is no model", where="export", mend="give a torch.nn.Module")
    if example is None:
        raise RecipeError(
            "there is no example to export the model with",
            where=f"export of {type(subject).__name__}",
            mend="pass example=inputs; on the command line, --input 1,3,32,32",
        )
    for package in ("onnxscript", "onnxruntime"):
        require(package, extra="export", where="export")
    return _exported(_plain(subject), Path(file), _named(subject, example), overwrite)


def _plain(model: nn.Module) -> nn.Module:
    """A copy on the CPU in eval mode, without masks."""
    made = copy.deepcopy(model).cpu().eval()
    if masks_of(made):
        remove_masks_(made)
    return made


def _named(model: nn.Module, example: Any) -> dict[str, Tensor]:
    """The tensors of an example by the names of the arguments."""
    if not isinstance(example, Mapping):
        several = list(example) if isinstance(example, tuple | list) else [example]
        kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        names = [p.name for p in inspect.signature(model.forward).parameters.values() if p.kind in kinds]
        names += [f"input_{k}" for k in range(len(names), len(several))]
        example = dict(zip(names, several, strict=False))
    return {str(name): value.detach().cpu() for name, value in example.items() if isinstance(value, Tensor)}


def _exported(model: nn.Module, file: Path, example: dict[str, Tensor], overwrite: bool) -> Written:
    several = _of_size(example, max(_batch(example), 2))
    with new_file(file, overwrite) as temporary, without_cache(model):
        gap = None
        try:
            gap = _tried(model, temporary, several, _of_size(several, _batch(several) + 1))
        except MissingExtra:
            raise
        except Exception as error:  # what torch raises where a size cannot be left open is of many classes
            _log.warning("it is exported for %d samples at once, and no others: %s", _batch(example), _first(error))
        any_batch = gap is not None
        if gap is None:
            try:
                gap = _tried(model, temporary, example, None)
            except SecateurError:
                raise
            except Exception as error:
                raise SubjectError(
                    f"torch cannot export it: {_first(error)}",
                    where=type(model).__name__,
                    mend="see the documentation of torch.onnx.export for what a model must do without",
                ) from error
    return Written(file, size_of(file), gap, any_batch)


def _tried(model: nn.Module, file: Path, example: dict[str, Tensor], more: dict[str, Tensor] | None) -> float:
    """Export to a file and compare; the sizes of batches are left open where there is an example of another one."""
    batch = _batch(example)
    open_sizes = {
        name: {0: torch.export.Dim("batch")} if more is not None and len(value.shape) and len(value) == batch else None
        for name, value in example.items()
    }
    large = sum(p.numel() * p.element_size() for p in model.parameters()) > _LARGE
    with warnings.catch_warnings(), torch.no_grad(), _quiet():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            model,
            kwargs=example,
            dynamo=True,
            verbose=False,
            dynamic_shapes=open_sizes if more is not None else None,
        )
        assert program is not None
        program.save(str(file), external_data=large)
    session = session_of(file)
    names = [i.name for i in session.get_inputs()]
    worst = 0.0
    for given in (example, others_like(example) if more is None else others_like(more)):
        by_name = given if set(names) <= given.keys() else dict(zip(names, given.values(), strict=False))
        wanted = outputs_of(model, **given)
        worst = max(worst, check_same(wanted, run_session(session, by_name), str(file)))
    return worst


class _quiet:
    """The exporter of torch logs what it leaves out."""

    def __enter__(self) -> None:
        self._log = logging.getLogger("torch.onnx")
        self._before = self._log.level
        self._log.setLevel(logging.ERROR)

    def __exit__(self, *_: object) -> None:
        self._log.setLevel(self._before)


def _batch(example: Mapping[str, Tensor]) -> int:
    return next((len(v) for v in example.values() if v.dim()), 1)


def _of_size(example: Mapping[str, Tensor], count: int) -> dict[str, Tensor]:
    """The example with so many samples: its own ones over and over."""
    batch = _batch(example)
    return {
        name: value[torch.arange(count) % batch] if value.dim() and len(value) == batch else value
        for name, value in example.items()
    }


def _first(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
