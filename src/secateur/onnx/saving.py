"""Writing an ONNX file: verified before it has its name, whole or not at all."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from secateur.core import CheckpointError, device_of, to_device
from secateur.core.files import unwritable

from .model import OnnxModel
from .verify import check_file, others_like, outputs_of
from .writing import proto_of, save_proto


@dataclass(frozen=True)
class Written:
    """An ONNX file that was written and verified.

    Attributes:
        file: its path.
        bytes: its size, with its external data.
        gap: the largest difference of an output of onnxruntime from the model's, relative to the largest output.
        any_batch: whether it takes any number of samples.
    """

    file: Path
    bytes: int
    gap: float
    any_batch: bool


def write(model: OnnxModel, file: str | Path, *, overwrite: bool = False) -> Written:
    """Write the graph of a model with its weights and sizes of now, after onnxruntime gave the same with it.

    Two inputs are compared: those of the model's last pass, or an example where there was none, and others like them.

    Args:
        file: its weights go into a file beside it, `NAME.data`, where those of the original did, or beyond 2 GB.

    Raises:
        CheckpointError: it is there already, or cannot be written.
        NumericsError, SubjectError: onnxruntime gives something else, or cannot run it; nothing was written.
    """
    inputs = {name: value.cpu() for name, value in model.last_inputs().items()}
    device = device_of(model)
    with new_file(Path(file), overwrite) as temporary:
        save_proto(proto_of(model), temporary, external=model._source.external)
        gap = check_file(
            temporary,
            lambda given: outputs_of(model, **to_device(dict(given), device)),
            [inputs, others_like(inputs)],
            str(file),
        )
    any_batch = any(i.shape is not None and len(i.shape) > 0 and not isinstance(i.shape[0], int) for i in model.inputs)
    return Written(Path(file), size_of(Path(file)), gap, any_batch)


def size_of(file: Path) -> int:
    """Bytes of a file and of the external data beside it."""
    data = file.with_name(f"{file.name}.data")
    return file.stat().st_size + (data.stat().st_size if data.is_file() else 0)


@contextmanager
def new_file(file: Path, overwrite: bool) -> Iterator[Path]:
    """A place to write a file, and its `NAME.data`, to; both get their names when all went well.

    Raises:
        CheckpointError: it is there already, or cannot be written.
    """
    if file.exists() and not overwrite:
        raise CheckpointError("it is there already", where=str(file), mend="choose another file, or overwrite=True")
    _told(file, lambda: file.absolute().parent.mkdir(parents=True, exist_ok=True))
    folder = Path(_told(file, lambda: tempfile.mkdtemp(prefix=f".{file.name}.saving-", dir=file.absolute().parent)))
    try:
        with _writable(file):
            yield folder / file.name
            data = folder / f"{file.name}.data"
            for part in (data, folder / file.name):  # the file last: it is whole when it is there
                if part.exists():
                    with part.open("rb+") as handle:
                        os.fsync(handle.fileno())
                    part.replace(file.absolute().parent / part.name)
            if not data.exists() and overwrite and not _named_data(file):
                file.with_name(data.name).unlink(missing_ok=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _named_data(file: Path) -> bool:
    """Whether a file speaks of external data beside it."""
    return f"{file.name}.data".encode() in file.read_bytes()


def _told(file: Path, act: Callable[[], object]) -> str:
    with _writable(file):
        return str(act())


@contextmanager
def _writable(file: Path) -> Iterator[None]:
    try:
        yield
    except CheckpointError:
        raise
    except OSError as error:
        raise unwritable(file, error) from error
