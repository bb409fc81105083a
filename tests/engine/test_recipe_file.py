"""Recipe files: the same classes as in Python, and errors that name line, key and the nearest valid name."""

import pytest

import secateur as sc
from secateur.engine.recipe_file import read_recipe


def write(tmp_path, text):
    file = tmp_path / "recipe.yaml"
    file.write_text(text)
    return file


def test_a_method_with_settings_is_the_same_call_as_in_python(tmp_path):
    loaded = read_recipe(write(tmp_path, "model: m\nmethod:\n  gmp: {end: 0.5, begin: 2 epochs}\nsparsity: 0.9\n"))
    assert (loaded.method, loaded.settings) == ("gmp", {"end": 0.5, "begin": "2 epochs"})


def test_a_composition_builds_the_same_objects_as_python(tmp_path):
    text = """
model: m
recipe:
  structure: {weights: {exclude: [conv1], floor: 2}}
  score: magnitude
  budget: {with-floor: {budget: {erk: {power: 0.5}}, keep: 8}}
  schedule: {cubic-gradual: {begin: 0.1, every: 20}}
  recovery: [{fine-tune: {epochs: 2}}, recalibrate-bn]
"""
    assert read_recipe(write(tmp_path, text)).method == sc.Recipe(
        structure=sc.structures.Weights(exclude=("conv1",), floor=2),
        score=sc.scores.Magnitude(),
        budget=sc.budgets.WithFloor(sc.budgets.ERK(0.5), 8),
        schedule=sc.schedules.CubicGradual(begin=0.1, every=20),
        recovery=(sc.recovery.FineTune(epochs=2), sc.recovery.RecalibrateBN()),
    )


def test_a_recipe_written_by_us_reads_back_as_itself(tmp_path):
    import yaml

    recipe = sc.Recipe(
        structure=sc.structures.NM(1, 4, exclude=("head",)),
        score=sc.scores.Taylor(),
        budget=sc.budgets.Fixed({"a*": 0.5}),
        schedule=sc.schedules.Iterative(3),
        recovery=(sc.recovery.Distill(0.3, 4.0),),
    )
    plain = {k: v for k, v in recipe.to_json().items() if k not in ("solve", "select")}
    text = yaml.safe_dump({"model": "m", "recipe": plain})
    assert read_recipe(write(tmp_path, text)).method == recipe


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("model: m\nmethod: gmp\nsparsty: 0.9\n", 3, "did you mean 'sparsity'"),
        ("model: m\nmethod: gpm\n", 2, "did you mean 'gmp'"),
        ("model: m\nmethod:\n  gmp:\n    edn: 0.5\n", 4, "did you mean 'end'"),
        ("model: m\nmethod:\n  imp:\n    share: lots\n", 4, "share='lots'"),
        ("model: m\nmethod: gmp\nsparsity: high\n", 3, "sparsity"),
        ("model: m\nrecipe:\n  structure: weights\n  scor: magnitude\n", 4, "did you mean 'score'"),
        ("model: m\nrecipe:\n  structure: weights\n  score: magnitud\n", 4, "did you mean 'magnitude'"),
        ("model: m\nrecipe:\n  structure: weights\n  score: magnitude\n  budget: {erk: {pow: 1}}\n", 5, "'power'"),
        ("model: m\nmethod: gmp\nseed: &a 1\n", 3, "anchors"),
        ("model: m\nmethod: gmp\nmethod: imp\n", 3, "stands twice"),
        ("model: m\nmethod: gmp\nsparsity: 0.5\nmacs: 0.5\n", 4, "both sparsity and macs are given"),
        ("model: m\nmethod: gmp\nkeep: 0.5\nbytes: 0.5\n", 4, "both keep and bytes are given"),
        ("model: m\nmethod: gmp\nlatency: fast\n", 3, "latency"),
        ("model: m\nmethod: gmp\nparam: 0.5\n", 3, "did you mean 'params'"),
        ("model: m\nmethod: [\n", 3, "no YAML"),
        ("model: m\nmethod: gmp\nseed: !!python/object:os.system x\n", 3, "tags"),
    ],
)
def test_an_error_names_the_line_and_the_way_to_mend_it(tmp_path, text, line, message):
    with pytest.raises(sc.RecipeError) as caught:
        read_recipe(write(tmp_path, text))
    assert message in str(caught.value)
    assert f"line {line}" in str(caught.value)


@pytest.mark.parametrize("key", ["sparsity", "keep", "macs", "params", "bytes", "latency"])
def test_a_target_of_each_kind_is_a_key(tmp_path, key):
    file = read_recipe(write(tmp_path, f"model: m\nmethod: magnitude\nstructure: channels\n{key}: 0.5\n")).file
    assert getattr(file, key) == 0.5


@pytest.mark.parametrize("text", ["model: m\n", "model: m\nmethod: gmp\nrecipe: {structure: weights, score: random}\n"])
def test_exactly_one_of_method_and_recipe_is_given(tmp_path, text):
    with pytest.raises(sc.RecipeError, match="exactly one"):
        read_recipe(write(tmp_path, text))


@pytest.mark.parametrize("text", ["", "just words", "- a\n- b\n", "method: gmp\n"])
def test_a_file_without_the_keys_is_refused(tmp_path, text):
    with pytest.raises(sc.RecipeError):
        read_recipe(write(tmp_path, text))


def test_a_file_nested_too_deep_is_refused(tmp_path):
    with pytest.raises(sc.RecipeError, match="no YAML"):
        read_recipe(write(tmp_path, "model: m\nmethod: " + "[" * 20000))


def test_a_missing_file_is_an_error_of_ours(tmp_path):
    with pytest.raises(sc.RecipeError, match="cannot be read"):
        read_recipe(tmp_path / "nowhere.yaml")
