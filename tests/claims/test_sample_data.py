"""Sample data: what is there reads rightly, and what is absent says how to mend it."""

import os
from pathlib import Path

import pytest
import torch

from secateur.claims import data
from secateur.claims.subjects import cifar_task, draw, trained_resnet20, words
from secateur.core import MissingExtra, RecipeError

try:
    data.data_folder()
    absent = ""
except RecipeError as error:
    absent = str(error)

needs_data = pytest.mark.skipif(bool(absent), reason=f"no sample data: {absent}")


def test_a_folder_that_is_not_there_says_how_to_mend_it(monkeypatch):
    monkeypatch.setenv(data.VARIABLE, "/nowhere")
    with pytest.raises(RecipeError, match=r"(?s)/nowhere.*SECATEUR_DATA=/nowhere.*set SECATEUR_DATA"):
        data.data_folder()


def test_a_missing_file_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv(data.VARIABLE, str(tmp_path))
    with pytest.raises(RecipeError, match=r"text/ptb_train\.txt\.xz is missing"):
        data.text("ptb_train")


def test_pictures_without_pillow_name_the_extra(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"secateur\[claims\]"):
        data._tiles("mnist/test_images.webp", 28, 1)


def test_a_draw_has_no_repetition_and_depends_on_the_seed():
    images, labels = torch.arange(50.0).view(50, 1, 1, 1), torch.arange(50)
    drawn = draw(images, labels, 20, seed=1)
    assert len(set(drawn.targets.tolist())) == 20
    assert torch.equal(drawn.images.flatten().long(), drawn.targets)
    assert torch.equal(draw(images, labels, 20, seed=1).targets, drawn.targets)
    assert not torch.equal(draw(images, labels, 20, seed=2).targets, drawn.targets)


@pytest.mark.data
@needs_data
def test_the_published_weights_load_strictly_and_classify():
    assert cifar_task(0, train=10, test=500).evaluate(trained_resnet20())["accuracy"] > 0.88


@pytest.mark.data
@needs_data
def test_mnist_and_the_texts_are_whole():
    images, labels = data.mnist("test")
    assert images.shape == (10_000, 1, 28, 28) and labels.bincount().min() > 800
    assert abs(float(images.mean())) < 0.05
    train, test = words(100)
    assert len(train) == 913_285 and int(train.max()) == int(test.max()) == 99
    assert int((train[:1000] == 0).sum()) > 0


@pytest.mark.data
@needs_data
def test_the_language_model_loads_with_its_tokenizer():
    pytest.importorskip("transformers")
    model, tokenizer = data.causal_lm("llama7m")
    ids = tokenizer("the market fell", return_tensors="pt").input_ids
    assert model(input_ids=ids).logits.shape[:2] == ids.shape


def test_the_default_folder_lies_beside_the_repository(monkeypatch):
    monkeypatch.delenv(data.VARIABLE, raising=False)
    expected = Path(data.__file__).parents[4] / "shared" / "data"
    if expected.is_dir():
        assert data.data_folder() == expected
    else:
        with pytest.raises(RecipeError, match="SECATEUR_DATA is not set"):
            data.data_folder()
    assert data.VARIABLE not in os.environ
