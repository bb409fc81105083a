"""The sample data that claims are measured on: a folder outside the package, named by SECATEUR_DATA."""

import io
import lzma
import os
import zipfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from secateur.core import RecipeError, require

VARIABLE = "SECATEUR_DATA"
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # as the published CIFAR ResNets were trained
_SHOWN = {  # COCO's name, ImageNet's numbers
    "dog": range(151, 269),
    "cat": range(281, 286),
    "bear": range(294, 298),
    "zebra": (340,),
    "elephant": (385, 386),
    "horse": (339,),
    "bird": range(7, 25),
    "sheep": (348,),
    "aeroplane": (404,),
    "umbrella": (879,),
    "bus": (779, 874),
    "banana": (954,),
    "broccoli": (937,),
    "pizza": (963,),
    "train": (466, 547, 820),
}


def data_folder() -> Path:
    """The folder of the sample data: SECATEUR_DATA, or `shared/data` beside the repository.

    Raises:
        RecipeError: it is not there.
    """
    named = os.environ.get(VARIABLE)
    folder = Path(named) if named else Path(__file__).parents[4] / "shared" / "data"
    if not folder.is_dir():
        raise RecipeError(
            f"the sample data is not there: {folder} is no folder",
            where=f"{VARIABLE}={named}" if named else f"{VARIABLE} is not set",
            mend=f"set {VARIABLE} to the folder that holds cifar10/, mnist/, text/ and lm/",
        )
    return folder


def _file(name: str) -> Path:
    path = data_folder() / name
    if not path.exists():
        raise RecipeError(f"{name} is missing", where=str(data_folder()), mend=f"fetch it, or set {VARIABLE} anew")
    return path


def _tiles(name: str, side: int, channels: int) -> np.ndarray:
    """A lossless mosaic cut into `[images, side, side, channels]`, row by row."""
    require("PIL", extra="claims", where=name)
    from PIL import Image

    with Image.open(_file(name)) as picture:
        mosaic = np.asarray(picture.convert("RGB"))[:, :, :channels]
    rows, cols = mosaic.shape[0] // side, mosaic.shape[1] // side
    tiles = mosaic.reshape(rows, side, cols, side, channels).transpose(0, 2, 1, 3, 4)
    return np.ascontiguousarray(tiles).reshape(-1, side, side, channels)


def _labels(name: str) -> Tensor:
    return torch.from_numpy(np.load(_file(name), allow_pickle=False).astype(np.int64))


def _normalised(images: np.ndarray, mean: tuple[float, ...], deviation: tuple[float, ...]) -> Tensor:
    x = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    return (x - torch.tensor(mean).view(1, -1, 1, 1)) / torch.tensor(deviation).view(1, -1, 1, 1)


@cache
def cifar10(split: str) -> tuple[Tensor, Tensor]:
    """CIFAR-10 as `[n, 3, 32, 32]`, normalised for the ResNets: 10,000 "test" or 20,000 "train" images, and labels."""
    names = ["test_images"] if split == "test" else ["train_images_0", "train_images_1"]
    images = np.concatenate([_tiles(f"cifar10/{name}.webp", 32, 3) for name in names])
    return _normalised(images, _MEAN, _DEVIATION), _labels(f"cifar10/{split}_labels.npy")


@cache
def mnist(split: str) -> tuple[Tensor, Tensor]:
    """MNIST as `[n, 1, 28, 28]`, normalised: 60,000 "train" or 10,000 "test" images, and labels."""
    images = _tiles(f"mnist/{split}_images.webp", 28, 1)
    return _normalised(images, (0.1307,), (0.3081,)), _labels(f"mnist/{split}_labels.npy")


@cache
def single_objects() -> tuple[Tensor, Tensor]:
    """160 ImageNet pictures that each show one of 15 COCO categories, `[n, 3, 352, 352]` BGR in [0, 1], and its number.

    The categories are those of the data folder's own probe of its detector; a picture is number i for ImageNet class i.
    """
    require("PIL", extra="claims", where="imagenet/images.zip")
    from PIL import Image

    names = _file("detection/coco_names.txt").read_text(encoding="utf-8").splitlines()
    pictures, classes = [], []
    with zipfile.ZipFile(_file("imagenet/images.zip")) as archive:
        files = sorted(archive.namelist())
        for category, numbers in _SHOWN.items():
            for number in numbers:
                with Image.open(io.BytesIO(archive.read(files[number]))) as picture:
                    pictures.append(np.asarray(picture.convert("RGB"))[..., ::-1])
                classes.append(names.index(category))
    x = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 255
    x = nn.functional.interpolate(x, (352, 352), mode="bilinear", align_corners=False)
    return x, torch.tensor(classes)


def text(name: str) -> str:
    """One of the texts, such as "ptb_train" or "wikitext2_test", byte for byte."""
    return lzma.decompress(_file(f"text/{name}.txt.xz").read_bytes()).decode("utf-8")


def load_weights_(model: nn.Module, name: str) -> nn.Module:
    """Load a safetensors file of the data folder strictly, in place, in float32; gives the model in eval mode."""
    from safetensors.torch import load_file

    state = {k: v.float() if v.is_floating_point() else v for k, v in load_file(_file(name)).items()}
    model.load_state_dict(state)
    return model.eval()


def causal_lm(name: str) -> tuple[nn.Module, Any]:
    """A small language model in float32, such as "llama7m", and its tokenizer."""
    require("transformers", extra="claims", where=f"lm/{name}")
    import transformers

    folder = _file(f"lm/{name}")
    cls: Any = transformers.AutoModelForCausalLM
    model: nn.Module = cls.from_pretrained(folder, dtype=torch.float32, local_files_only=True)
    return model.eval(), transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
