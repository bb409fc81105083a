"""What every registered method must pass: it gets in by being registered, nothing is listed here."""

import copy

import pytest
import torch
from torch import nn

import secateur as sc
from secateur.core import registry
from secateur.tasks.digits import Images

METHODS = sorted(registry.entries())
CUTS = [m for m in METHODS if registry.get(m).recipe().structure.cuts]
LAYERS = [m for m in CUTS if isinstance(registry.get(m).recipe().structure, sc.structures.Layers)]
SUBLAYERS = [m for m in LAYERS if registry.get(m).recipe().structure.kinds == ("sublayers",)]
STREAMS = [m for m in CUTS if isinstance(registry.get(m).recipe().structure, sc.structures.Directions)]
CHANNELS = [m for m in CUTS if m not in LAYERS and m not in STREAMS]
MASKS = [m for m in METHODS if m not in CUTS]
BY_ROWS = {"wanda", "owl"}
SPARSITY = 0.6


class Net(nn.Module):
    """A convolution, batch norm, and a classifier: small, but every kind of state is there."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.hidden = nn.Linear(8 * 4, 16)
        self.out = nn.Linear(16, 4)

    def forward(self, x):
        x = torch.nn.functional.max_pool2d(torch.relu(self.norm(self.conv(x))), 2)
        return self.out(torch.relu(self.hidden(x.flatten(1))))


class Block(nn.Module):
    """A residual block with a batch norm."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8)

    def forward(self, x):
        return torch.relu(x + self.norm(self.conv(x)))


class Deep(Net):
    """The same with blocks in its middle, for methods that take out whole layers."""

    def __init__(self):
        super().__init__()
        self.blocks = nn.Sequential(*(Block() for _ in range(5)))

    def forward(self, x):
        x = self.blocks(torch.relu(self.norm(self.conv(x))))
        return self.out(torch.relu(self.hidden(torch.nn.functional.max_pool2d(x, 2).flatten(1))))


class Branch(nn.Module):
    """A block with one branch, a sublayer."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(8, 8, 3, padding=1)

    def forward(self, x):
        return x + torch.relu(self.conv(x))


class Branched(Deep):
    """The same with such blocks, for methods that take out sublayers."""

    def __init__(self):
        super().__init__()
        self.blocks = nn.Sequential(*(Branch() for _ in range(5)))


class Read(nn.Module):
    """A block that reads its stream through a norm."""

    def __init__(self, width):
        super().__init__()
        self.norm, self.up, self.act, self.down = (
            nn.LayerNorm(width),
            nn.Linear(width, 12),
            nn.ReLU(),
            nn.Linear(12, width),
        )

    def forward(self, x):
        return x + self.down(self.act(self.up(self.norm(x))))


class Stream(nn.Module):
    """Rows of pictures as tokens of a stream that only norms read, for methods that narrow it."""

    def __init__(self):
        super().__init__()
        self.hidden = nn.Linear(4, 40)
        self.blocks = nn.ModuleList(Read(40) for _ in range(2))
        self.norm, self.out = nn.LayerNorm(40), nn.Linear(40, 4)

    def forward(self, x):
        x = self.hidden(x.flatten(1, 2))
        for block in self.blocks:
            x = block(x)
        return self.out(self.norm(x)).mean(1)


def kind(method):
    return Stream if method in STREAMS else Branched if method in SUBLAYERS else Deep if method in LAYERS else Net


def task(method="", seed=0):
    g = torch.Generator().manual_seed(0)
    x, y = torch.randn(48, 1, 4, 4, generator=g), torch.randint(4, (48,), generator=g)
    training = sc.Training(epochs=1, lr=1e-3)
    return sc.Task(
        train=Images(x[:32], y[:32]),
        test=Images(x[32:], y[32:]),
        batch_size=8,
        training=training,
        model=kind(method),
        seed=seed,
    )


def net(method, dtype=torch.float32, seed=0):
    torch.manual_seed(seed)
    return kind(method)().to(dtype)


def run(method, model=None, **options):
    return sc.prune(net(method) if model is None else model, method, sparsity=SPARSITY, task=task(method), **options)


@pytest.fixture(params=METHODS)
def method(request):
    return request.param


masking = pytest.mark.parametrize("method", MASKS, indirect=True)
cutting = pytest.mark.parametrize("method", CUTS, indirect=True)
costing = pytest.mark.parametrize("method", [m for m in CUTS if m not in STREAMS], indirect=True)
rotating = pytest.mark.parametrize("method", STREAMS, indirect=True)
narrowing = pytest.mark.parametrize("method", CHANNELS, indirect=True)
shortening = pytest.mark.parametrize("method", [m for m in LAYERS if m not in SUBLAYERS], indirect=True)
thinning = pytest.mark.parametrize("method", SUBLAYERS, indirect=True)


def rounding(method, result):
    """How far a whole count may be from the share asked for: methods by rows round in each row, half a unit at most."""
    return sum(len(mask) for mask in result.keep.masks.values()) / 2 if method in BY_ROWS else 0


def test_the_sparsity_is_exactly_what_was_asked(method):
    result = run(method)
    sizes = {n: m.numel() for n, m in result.keep.masks.items()}
    per_group = sum(sc.core.kept_count(SPARSITY, n) for n in sizes.values())
    whole = sc.core.kept_count(SPARSITY, sum(sizes.values()))
    kept = sum(result.keep.counts.values())
    assert kept in {per_group, whole} or abs(kept - whole) <= rounding(method, result)
    assert result.sparsity["kept"] == sum(result.keep.counts.values())


@masking
def test_what_went_is_exactly_zero_in_the_model(method):
    result = run(method)
    parameters = dict(result.subject.named_parameters())
    assert all(bool((parameters[n][~mask] == 0).all()) for n, mask in result.masks.items())
    assert any(bool((parameters[n][mask] != 0).all()) for n, mask in result.masks.items())


@narrowing
def test_what_went_is_cut_out_of_every_tensor_and_nothing_else_is(method):
    result = run(method)
    conv, hidden = result.keep.counts["conv"], result.keep.counts["hidden"]
    shapes = {n: tuple(p.shape) for n, p in result.subject.named_parameters()}
    assert shapes == {
        "conv.weight": (conv, 1, 3, 3),
        "conv.bias": (conv,),
        "norm.weight": (conv,),
        "norm.bias": (conv,),
        "hidden.weight": (hidden, 4 * conv),
        "hidden.bias": (hidden,),
        "out.weight": (4, hidden),
        "out.bias": (4,),
    }
    assert not result.masks and result.after["macs"] < result.before["macs"]


@shortening
def test_what_went_is_deleted_and_nothing_else_is(method):
    model = net(method)
    names = {n for n, _ in model.named_parameters() if not n.startswith("blocks")}
    result = run(method, model)
    stay = result.keep.counts["blocks"]
    assert [n for n, _ in result.subject.blocks.named_children()] == [str(i) for i in range(stay)]
    assert {n for n, _ in result.subject.named_parameters() if not n.startswith("blocks")} == names
    assert not result.masks and result.after["macs"] < result.before["macs"]


@thinning
def test_what_went_of_the_blocks_is_gone_and_nothing_else_is(method):
    model = net(method)
    names = [n for n, _ in model.named_parameters()]
    result = run(method, model)
    gone = [i for i, stays in enumerate(result.keep["blocks/sublayers"]) if not stays]
    stay = [n for n in names if not any(n.startswith(f"blocks.{i}.") for i in gone)]
    assert gone and [n for n, _ in result.subject.named_parameters()] == stay
    assert not result.masks and result.after["macs"] < result.before["macs"]


@rotating
def test_what_went_of_the_stream_is_cut_out_of_all_that_touches_it(method):
    result = run(method)
    first, second = result.keep.counts.values()
    shapes = {n: tuple(p.shape) for n, p in result.subject.named_parameters()}
    assert shapes == {
        "hidden.weight": (first, 4),
        "hidden.bias": (first,),
        "blocks.0.up.weight": (12, first),
        "blocks.0.up.bias": (12,),
        "blocks.0.down.weight": (second, 12),
        "blocks.0.down.bias": (second,),
        "blocks.0.shortcuts.0.weight": (second, first),
        "blocks.1.up.weight": (12, second),
        "blocks.1.up.bias": (12,),
        "blocks.1.down.weight": (40, 12),
        "blocks.1.down.bias": (40,),
        "blocks.1.shortcuts.0.weight": (40, second),
        "out.weight": (4, 40),
        "out.bias": (4,),
    }
    assert not result.masks and first < 40 and second < 40


@rotating
def test_a_share_of_the_multiplications_is_refused_before_anything_changes(method):
    model = net(method)
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(sc.RecipeError, match="give a sparsity"):
        sc.prune(model, method, macs=0.5, task=task(method))
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


@costing
def test_a_share_of_the_multiplications_is_met_as_nearly_as_whole_units_allow(method):
    result = sc.prune(net(method), method, macs=0.5, task=task(method))
    one = result.before["macs"] * max(1 / n for n in ((5,) if method in LAYERS else (8, 16)))
    assert abs(result.after["macs"] - 0.5 * result.before["macs"]) <= one


@masking
def test_biases_and_norms_are_not_pruned(method):
    assert all(len(mask.shape) >= 2 for mask in run(method).masks.values())


def test_a_floor_of_the_structure_holds(method):
    structure, floor = (sc.structures.Channels(floor=4), 4) if method in CUTS else (sc.structures.Weights(floor=40), 40)
    if method in LAYERS:
        structure, floor = sc.structures.Layers(floor=2), 2
    if method in STREAMS:
        structure, floor = sc.structures.Directions(floor=4), 4
    result = run(method, structure=structure)
    assert min(result.keep.counts.values()) >= floor


def test_the_same_seed_gives_the_same_keep_and_the_same_weights(method):
    first, second = run(method, seed=3), run(method, seed=3)
    assert first.keep == second.keep
    state = second.subject.state_dict()
    assert all(torch.equal(v, state[k]) for k, v in first.subject.state_dict().items())


def test_the_callers_random_state_is_left_alone(method):
    model = net(method)
    torch.manual_seed(11)
    expected = torch.rand(3)
    torch.manual_seed(11)
    run(method, model)
    assert torch.equal(torch.rand(3), expected)


def test_saving_and_loading_gives_the_same_model(method, tmp_path):
    result = run(method)
    result.save(tmp_path / "saved")
    loaded = sc.load(tmp_path / "saved", factory=kind(method))
    state = loaded.state_dict()
    assert state.keys() == result.subject.state_dict().keys()
    assert all(torch.equal(v, state[k]) for k, v in result.subject.state_dict().items())
    kept = sc.load_keep(tmp_path / "saved")
    assert kept == result.keep if method in CUTS else all(torch.equal(kept[n], m) for n, m in result.masks.items())


@masking
def test_the_plain_class_loads_the_state_dict(method):
    fits = Net().load_state_dict(run(method).subject.state_dict(), strict=True)
    assert not fits.missing_keys and not fits.unexpected_keys


def test_bfloat16_models_stay_bfloat16(method):
    def cast(model, batch):
        return model(batch[0].bfloat16()).float()

    goal = task(method)
    goal = sc.Task(**{**vars(goal), "call": cast, "model": lambda: kind(method)().bfloat16()})
    result = sc.prune(net(method, torch.bfloat16), method, sparsity=SPARSITY, task=goal)
    assert {p.dtype for p in result.subject.parameters()} == {torch.bfloat16}
    unit = max(1, rounding(method, result)) / sum(m.numel() for m in result.keep.masks.values())
    assert result.sparsity["sparsity"] == pytest.approx(SPARSITY, abs=max(0.01, unit))


def test_scores_leave_the_model_untouched(method):
    recipe = registry.get(method).recipe()
    model = net(method).train()
    before = copy.deepcopy(model.state_dict())
    x, _ = next(iter(task().batches()))
    space = recipe.structure.seeing(lambda seen: seen(x)).find(model)
    judge = recipe.score or recipe.solve
    values = sc.calibration.collect(model, space.leaves(), judge.needs, task(), task().batches())
    for group in space:
        if recipe.score is None:
            judge(group, sc.core.Stats(values), group.size // 2)
        else:
            sc.scores.of_units(judge)(group, sc.core.Stats(values))
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert model.training and all(p.grad is None for p in model.parameters())


def test_a_subject_of_the_wrong_kind_is_refused(method):
    with pytest.raises(sc.SubjectError):
        sc.prune([1, 2, 3], method, sparsity=SPARSITY, task=task())


def test_a_sparsity_outside_its_range_is_refused_before_anything_changes(method):
    model = net(method)
    before = copy.deepcopy(model.state_dict())
    for wrong in (-0.1, 1.0, 1.5, float("nan")):
        with pytest.raises(sc.RecipeError, match=r"\[0, 1\)"):
            sc.prune(model, method, sparsity=wrong, task=task())
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_nan_weights_are_named(method):
    model = net(method)
    with torch.no_grad():
        model.hidden.weight[0, 0] = float("nan")
    with pytest.raises(sc.NumericsError, match=r"hidden\.weight|loss is nan"):
        run(method, model)


def test_tied_parameters_are_pruned_and_reported_once(method):
    model = net(method)
    model.twin = model.hidden
    result = run(method, model)
    assert sorted(result.masks) == ([] if method in CUTS else ["conv.weight", "hidden.weight", "out.weight"])
    assert result.keep == run(method).keep
    assert result.subject.twin is result.subject.hidden


def test_its_recipe_is_plain_data(method):
    import json

    plain = registry.get(method).recipe().to_json()
    assert json.loads(json.dumps(plain)) == plain
