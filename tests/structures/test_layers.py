"""Whole layers: offered, scored, chosen and taken out; what it costs, and what is refused."""

import copy

import pytest
import torch
from torch import nn

import secateur as sc
from secateur.core import Choice, Keep, Plan, Stats
from secateur.structures import Layers, structure


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.norm, self.up, self.down = nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, x):
        return x + self.down(torch.relu(self.up(self.norm(x))))


class Net(nn.Module):
    """Two stages of blocks, of unlike widths."""

    def __init__(self, first=4, second=4):
        super().__init__()
        self.stem, self.wider, self.head = nn.Linear(6, 8), nn.Linear(8, 16), nn.Linear(16, 3)
        self.first = nn.Sequential(*(Block(8) for _ in range(first)))
        self.second = nn.Sequential(*(Block(16) for _ in range(second)))

    def forward(self, x):
        return self.head(self.second(self.wider(self.first(self.stem(x)))))


@pytest.fixture
def model():
    torch.manual_seed(0)
    return Net()


@pytest.fixture
def rows():
    return torch.randn(5, 6, generator=torch.Generator().manual_seed(1))


def seeing(rows, **settings):
    return Layers(**settings).seeing(lambda model: model(rows))


def mask(*stays):
    return torch.tensor(stays, dtype=torch.bool)


def task(seed=0):
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(64, 6, generator=g)
    data = torch.utils.data.TensorDataset(x, (x[:, :3].argmax(1)))
    return sc.Task(train=data, test=data, batch_size=16)


def test_a_group_is_a_list_of_blocks(model, rows):
    space = Layers().find(model, rows)
    assert {g.name: (g.size, g.kind, g.floor) for g in space} == {
        "first": (4, "blocks", 1),
        "second": (4, "blocks", 1),
    }


def test_sublayers_are_groups_of_their_own():
    torch.manual_seed(0)
    model = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 12, batch_first=True), 3)
    space = Layers(kinds=("blocks", "sublayers")).find(model, torch.randn(2, 4, 8))
    assert {g.name: (g.size, g.kind) for g in space} == {
        "layers": (3, "blocks"),
        "layers/sublayers": (3, "sublayers"),
    }


def test_the_cost_of_a_unit_is_its_parameters(model, rows):
    group = Layers().find(model, rows)["second"]
    own = sum(p.numel() for p in model.second[0].parameters())
    assert group.costs == {"params": own, "bytes": 4 * own}


@pytest.mark.parametrize("name", ["macs", "params", "bytes"])
def test_the_closed_form_of_a_cost_equals_what_the_shorter_model_costs(model, rows, name):
    looking = seeing(rows)
    keep = Keep({"first": mask(1, 0, 1, 0), "second": mask(0, 1, 1, 1)})
    expected = looking.find(model).totals[name](keep.masks)
    cut, _ = looking.apply_(model, Choice(keep))
    assert Layers().find(cut, rows).totals[name]({}) == expected


def test_the_closed_form_of_macs_is_that_of_the_layers(model, rows):
    whole = Layers().find(model, rows).totals["macs"]({})
    linears = [m for m in model.modules() if isinstance(m, nn.Linear)]
    assert whole == len(rows) * sum(m.weight.numel() for m in linears)


def test_parameters_that_others_share_stay(model, rows):
    model.second[0].up.weight = model.second[1].up.weight
    looking = seeing(rows)
    keep = Keep({"second": mask(1, 0, 1, 1)})
    expected = looking.find(model).totals["params"](keep.masks)
    cut, _ = looking.apply_(model, Choice(keep))
    assert sum(p.numel() for p in cut.parameters()) == expected


def test_the_shorter_model_is_the_one_without_these_blocks(model, rows):
    dense = copy.deepcopy(model)
    seeing(rows).apply_(model, Choice(Keep({"first": mask(1, 0, 0, 1), "second": mask(1, 1, 1, 0)})))
    x = dense.first[3](dense.first[0](dense.stem(rows)))
    wanted = dense.head(dense.second[:3](dense.wider(x)))
    torch.testing.assert_close(model(rows), wanted)
    assert [len(model.first), len(model.second)] == [2, 3]


@pytest.mark.parametrize("target", [{"sparsity": 0.25}, {"macs": 0.6}, {"params": 0.6}, {"bytes": 0.6}])
def test_prune_meets_its_target(model, rows, target):
    result = sc.prune(model, "magnitude", structure="layers", example=rows, **target)
    name, share = next(iter(target.items()))
    if name == "sparsity":
        assert result.sparsity["kept"] == 6
    else:
        assert result.after[name] / result.before[name] == pytest.approx(share, abs=0.1)


def test_a_target_of_latency_is_measured_on_shorter_copies(model, rows):
    result = sc.prune(model, "magnitude", structure="layers", example=rows, latency=0.9)
    assert 0 < result.sparsity["kept"] <= 8


@pytest.mark.parametrize(
    "budget", [sc.budgets.Uniform(), sc.budgets.Global(), sc.budgets.WithCap(sc.budgets.Global(), 0.5)]
)
def test_every_budget_chooses_whole_blocks(model, rows, budget):
    recipe = sc.Recipe(structure=Layers(), score=sc.scores.Magnitude(), budget=budget)
    result = sc.prune(model, recipe, sparsity=0.25, example=rows)
    assert sum(result.keep.counts.values()) == 6 == len(model.first) + len(model.second)


def test_blocks_with_the_smallest_weights_go_first(model, rows):
    with torch.no_grad():
        for block in (model.first[2], model.second[1]):
            for parameter in block.parameters():
                parameter.mul_(0.1)
    result = sc.prune(model, "magnitude", structure="layers", sparsity=0.25, example=rows)
    assert [k.tolist() for k in result.keep.masks.values()] == [[1, 1, 0, 1], [1, 0, 1, 1]]


def test_the_mean_does_not_prefer_wide_stages(model, rows):
    groups = Layers().find(model, rows)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(0.5)
    for group in groups:
        torch.testing.assert_close(
            sc.scores.Whole(sc.scores.Magnitude())(group, Stats({})), torch.full((4,), 0.5, dtype=torch.float64)
        )


@pytest.mark.parametrize("score", [sc.scores.Taylor(), sc.scores.GradientMagnitude(), sc.scores.Random()])
def test_scores_that_read_data_or_nothing_serve(model, rows, score):
    recipe = sc.Recipe(structure=Layers(), score=score, budget=sc.budgets.Global())
    result = sc.prune(model, recipe, sparsity=0.5, task=task())
    assert sum(result.keep.counts.values()) == 4


def test_blocks_go_round_by_round_with_training_between(model):
    recipe = sc.Recipe(
        structure=Layers(),
        score=sc.scores.Magnitude(),
        budget=sc.budgets.Global(),
        schedule=sc.schedules.Iterative(rounds=3),
        recovery=[sc.recovery.FineTune(epochs=1)],
    )
    result = sc.prune(model, recipe, sparsity=0.5, task=task())
    assert sum(result.keep.counts.values()) == 4 == len(model.first) + len(model.second)
    fresh = Net()
    result.plan.replay_(fresh)
    assert {n: p.shape for n, p in fresh.named_parameters()} == {n: p.shape for n, p in model.named_parameters()}


def test_layers_and_channels_can_both_go(model, rows):
    first = sc.prune(model, "magnitude", structure="layers", sparsity=0.25, example=rows)
    second = sc.prune(model, "magnitude", structure="channels", sparsity=0.25, example=rows)
    fresh = Net()
    Plan.from_json((first.plan + second.plan).to_json()).replay_(fresh)
    fresh.load_state_dict(model.state_dict())
    torch.testing.assert_close(fresh(rows), model(rows))


@pytest.mark.parametrize("build", [torch.optim.SGD, torch.optim.AdamW])
def test_an_optimizer_drops_what_is_gone_and_goes_on_with_the_rest(model, rows, build):
    more = {"momentum": 0.9} if build is torch.optim.SGD else {}
    optimizer = build(model.parameters(), lr=0.1, **more)
    model(rows).square().sum().backward()
    optimizer.step()
    stays, goes = model.first[0].up.weight, model.first[1].up.weight
    before = {k: v.clone() for k, v in optimizer.state[stays].items() if isinstance(v, torch.Tensor)}
    seeing(rows).apply_(model, Choice(Keep({"first": mask(1, 0, 1, 1)})))
    optimizer.zero_grad()
    optimizer.step()  # without gradients nothing moves
    held = [p for group in optimizer.param_groups for p in group["params"]]
    assert {id(p) for p in held} == {id(p) for p in model.parameters()}
    assert goes not in optimizer.state
    assert all(torch.equal(optimizer.state[stays][k], v) for k, v in before.items())


def test_a_layer_that_is_trained_elsewhere_stays_in_its_optimizer(model, rows):
    taken = model.first[1]
    seeing(rows).apply_(model, Choice(Keep({"first": mask(1, 0, 1, 1)})))
    optimizer = torch.optim.SGD(taken.parameters(), lr=0.1)
    before = taken.up.weight.detach().clone()
    taken(torch.arange(16.0).reshape(2, 8).sin()).square().sum().backward()
    optimizer.step()
    assert not torch.equal(taken.up.weight, before)


def test_patterns_leave_blocks_out_and_name_them(model, rows):
    space = Layers(exclude=("first.0", "second")).find(model, rows)
    assert {g.name: g.size for g in space} == {"first": 3}
    assert space.skipped["first.0"] == "excluded" == space.skipped["second.2"]


def test_a_plain_network_is_told_why_nothing_can_go():
    model = nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 6))
    with pytest.raises(sc.SubjectError, match=r"residual block(.|\n)*Sequential(.|\n)*structure=\"channels\""):
        sc.prune(model, "magnitude", structure="layers", sparsity=0.5, example=torch.randn(2, 6))


def test_a_floor_is_kept(model, rows):
    result = sc.prune(model, "magnitude", structure="layers", sparsity=0.99, example=rows)
    assert result.keep.counts == {"first": 1, "second": 1}
    with pytest.raises(sc.BudgetError, match="must"):
        seeing(rows).apply_(Net(), Choice(Keep({"first": mask(0, 0, 0, 0)})))


def test_without_a_floor_all_blocks_of_a_list_may_go(model, rows):
    sc.prune(model, "magnitude", structure=Layers(floor=0), sparsity=0.99, example=rows)
    assert len(model.first) == len(model.second) == 0
    assert model(rows).shape == (5, 3)


def test_an_unknown_kind_a_negative_floor_and_a_missing_example_are_refused(model):
    for settings in ({"kinds": ("channels",)}, {"kinds": ()}, {"floor": -1}):
        with pytest.raises(sc.RecipeError):
            Layers(**settings)
    with pytest.raises(sc.SubjectError, match="example=inputs"):
        Layers().find(model)


def test_a_masked_model_is_refused(model, rows):
    sc.core.attach_mask_(model, "stem.weight", torch.ones_like(model.stem.weight, dtype=torch.bool))
    with pytest.raises(sc.SubjectError, match="remove_masks_"):
        Layers().find(model, rows)


def test_a_recipe_file_names_the_structure(tmp_path):
    from secateur.engine.recipe_file import read_recipe

    file = tmp_path / "run.yaml"
    text = "model: builtin:digits-mlp\nsparsity: 0.5\nrecipe:\n  score: magnitude\n  structure: {structure}\n"
    for given, wanted in (("layers", Layers()), ("{layers: {kinds: [sublayers], floor: 2}}", None)):
        file.write_text(text.format(structure=given))
        found = read_recipe(file).method.structure
        assert found == (wanted or Layers(kinds=("sublayers",), floor=2))


def test_a_text_names_the_structure():
    assert structure("layers") == Layers()
    assert structure("sublayers") == Layers(kinds=("sublayers",))


class Skipping(Net):
    """Blocks in a `ModuleDict`: they are skipped and not deleted."""

    def __init__(self):
        super().__init__()
        self.first = nn.ModuleDict({str(i): Block(8) for i in range(4)})

    def forward(self, x):
        x = self.stem(x)
        for block in self.first.values():
            x = block(x)
        return self.head(self.second(self.wider(x)))


@pytest.mark.parametrize("build", [Net, Skipping])
def test_the_shorter_model_copies_compiles_and_exports(build, rows):
    torch.manual_seed(0)
    model = build().eval()
    sc.prune(model, "magnitude", structure="layers", sparsity=0.5, example=rows)
    wanted = model(rows)
    torch.testing.assert_close(copy.deepcopy(model)(rows), wanted)
    torch.testing.assert_close(torch.compile(model, backend="eager")(rows), wanted)
    torch.testing.assert_close(torch.export.export(model, (rows,)).module()(rows), wanted)
    model.train()
    model(rows).sum().backward()
    assert all(p.grad is not None for p in model.parameters())


@pytest.mark.parametrize("build", [Net, Skipping])
def test_a_saved_result_is_loaded_into_the_dense_class(build, rows, tmp_path):
    torch.manual_seed(0)
    result = sc.prune(build(), "magnitude", structure="layers", sparsity=0.5, example=rows)
    loaded = sc.load(result.save(tmp_path / "short"), factory=build)
    torch.testing.assert_close(loaded(rows), result.subject.eval()(rows))


def test_a_pruner_takes_blocks_out_in_the_users_own_loop(model, rows):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    recipe = sc.Recipe(
        structure=Layers(),
        score=sc.scores.Magnitude(),
        budget=sc.budgets.Global(),
        schedule=sc.schedules.CubicGradual(every=2),
    )
    pruner = sc.Pruner(model, recipe, total_steps=8, sparsity=0.5, example=rows)
    for _ in range(8):
        optimizer.zero_grad()
        model(rows).square().sum().backward()
        optimizer.step()
        pruner.step()
    assert sum(pruner.finalize().counts.values()) == 4 == len(model.first) + len(model.second)
