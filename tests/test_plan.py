"""Plans: made, kept, compared, shown, saved, and read back with errors that name the line."""

import io
import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from torch import nn

from firstlight.errors import DtypeError, FileError, OptionError, PlanError, UnclaimedParameterError
from firstlight.model.targets import load
from firstlight.plan import Plan, initialize, keep, plan
from firstlight.recipes import PlanRow, RowSlice, parse
from firstlight.recipes.planfile import dump, read


class Gated(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 3)
        self.alpha = nn.Parameter(torch.ones(3))


class Blocks(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Gated() for _ in range(4))


def mlp() -> nn.Module:
    return load("mlp:depth=3,width=8,act=tanh,in=6,classes=2").build()


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    return plan(mlp(), "xavier").save(tmp_path / "plan.yaml")


def test_a_row_is_found_by_name_and_says_what_and_why() -> None:
    row = plan(mlp(), "xavier")["layers.2.weight"]
    assert (row.shape, row.dtype, row.role, row.fan_in, row.fan_out) == ((8, 8), "float32", "weight", 8, 8)
    assert (row.distribution, row.std, row.found_by) == ("normal", math.sqrt(2 / 16), "module")
    assert row.reason == (
        "hidden weight before tanh: Var = 2/(fan_in+fan_out) = 2/(8+8), gain 1 (Glorot and Bengio 2010)"
    )


def test_a_name_that_is_not_in_the_plan_is_named_with_the_nearest() -> None:
    with pytest.raises(PlanError, match=r"no row 'layers\.2\.wieght'\. Did you mean 'layers\.2\.weight'\?"):
        plan(mlp(), "he")["layers.2.wieght"]


def test_a_tied_tensor_has_one_row_under_both_names() -> None:
    made = plan(load("gpt:tie=yes").build(), "he")
    assert made["head.weight"] is made["embedding.tokens.weight"]
    assert "head.weight" in made


def test_a_parameter_without_a_rule_is_an_error_before_anything_is_written() -> None:
    model = Blocks()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    message = (
        r"4 of 12 parameters match no rule of recipe 'he': 'blocks\.0\.alpha' \(3,\), .*, …\. "
        r"Give example=batch, by which operators tell what they are; use a recipe with a rule for them; or "
        r"keep\('\*\.alpha'\) to leave them as they are\. No parameter was changed\."
    )
    with pytest.raises(UnclaimedParameterError, match=message):
        initialize(model, "he")
    assert all(torch.equal(before[name], p) for name, p in model.named_parameters())


def test_what_is_kept_is_left_as_it_is() -> None:
    model = initialize(Blocks(), "zeros", keep=keep("*.alpha", "blocks.1.fc.weight"))
    values = dict(model.named_parameters())
    assert bool((values["blocks.2.alpha"] == 1).all())
    assert bool((values["blocks.1.fc.weight"] != 0).any())
    assert bool((values["blocks.2.fc.weight"] == 0).all())


def test_a_pattern_that_matches_nothing_is_an_error() -> None:
    message = r"keep\('block\.0\.alpha'\) matches none of 12 .* Did you mean 'blocks\.\d\.alpha'\?"
    with pytest.raises(OptionError, match=message):
        plan(Blocks(), "he", keep="block.0.alpha")


def test_integer_parameters_are_refused_unless_kept() -> None:
    model = nn.Linear(4, 3)
    model.scale = nn.Parameter(torch.zeros(2, 2, dtype=torch.int64), requires_grad=False)
    with pytest.raises(DtypeError, match=r"'scale' \(2, 2\) has dtype int64; .* keep\('scale'\)"):
        plan(model, "he")
    assert plan(model, "he", keep="scale")["scale"].kept


def test_complex_parameters_are_refused_unless_kept() -> None:
    model = nn.Linear(4, 3, dtype=torch.complex64)
    with pytest.raises(DtypeError, match=r"'weight' .* has dtype complex64"):
        plan(model, "he")


def test_a_recipe_a_spec_a_plan_and_a_file_make_the_same_plan(saved: Path) -> None:
    model = mlp()
    made = plan(model, "xavier")
    assert plan(model, parse("xavier")) == plan(model, made) == plan(model, saved) == plan(model, str(saved)) == made


def test_an_unknown_recipe_is_named_with_the_nearest() -> None:
    with pytest.raises(OptionError, match=r"'xaver' is not a recipe\. Choose one of .* Did you mean 'xavier'\?"):
        plan(mlp(), "xaver")
    with pytest.raises(OptionError, match=r"recipe 'normal': std = -1, must be a finite number >= 0"):
        plan(mlp(), "normal:std=-1")
    with pytest.raises(OptionError, match=r"recipe 'uniform': low = 1\.0, high = -1\.0"):
        plan(mlp(), "uniform:low=1,high=-1")


def test_plans_are_compared_field_by_field() -> None:
    xavier, he = plan(mlp(), "xavier"), plan(mlp(), "he")
    differences = xavier.diff(he)
    assert {(d.name, d.field) for d in differences} == {(f"layers.{i}.weight", "std") for i in (0, 2, 4)}
    assert "layers.0.weight': std = 0.37" in str(differences[0])
    assert xavier.diff(plan(mlp(), "xavier")) == []


def test_rows_that_only_one_plan_has_are_told() -> None:
    short = Plan("he", plan(mlp(), "he").rows[1:])
    full = plan(mlp(), "he")
    assert [str(d) for d in full.diff(short)] == ["'layers.0.weight' is only in the first plan"]
    assert [str(d) for d in short.diff(full)] == ["'layers.0.weight' is only in the second plan"]


def test_a_plan_with_two_rows_for_a_tensor_is_refused() -> None:
    rows = plan(mlp(), "he").rows
    with pytest.raises(PlanError, match=r"'layers\.0\.weight' \(8, 6\) is claimed by two rows"):
        Plan("he", [*rows, rows[0]])


def test_a_plan_shows_every_row_plain_and_rich() -> None:
    made = plan(mlp(), "he")
    console = Console(file=io.StringIO(), width=250)
    console.print(made)
    assert isinstance(console.file, io.StringIO)
    for text in (str(made), console.file.getvalue()):
        for row in made:
            assert row.name in text
            assert row.reason in text
    assert repr(made) == "<Plan 'he': 6 tensors>"


def test_json_has_every_field_of_every_row() -> None:
    data = json.loads(json.dumps(plan(mlp(), "he").to_json()))
    assert (data["schema"], data["stream"], data["recipe"], len(data["rows"])) == (1, 1, "he", 6)
    wanted = {"name", "shape", "dtype", "role", "fan_in", "fan_out", "distribution", "std", "reason", "found_by"}
    assert wanted <= set(data["rows"][0])


def test_saving_does_not_replace_a_file_unless_told(saved: Path) -> None:
    before = saved.read_bytes()
    with pytest.raises(FileError, match=r"plan\.yaml' exists\. .* with force"):
        plan(mlp(), "he").save(saved)
    assert saved.read_bytes() == before
    plan(mlp(), "he").save(saved, force=True)
    assert Plan.load(saved).recipe == "he"
    assert [path.name for path in saved.parent.iterdir()] == ["plan.yaml"]


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="cannot be written: there is no folder"):
        plan(mlp(), "he").save(tmp_path / "none" / "plan.yaml")
    with pytest.raises(FileError, match=r"none\.yaml' cannot be read: No such file"):
        Plan.load(tmp_path / "none.yaml")


numbers = st.floats(0, allow_infinity=False, allow_nan=False)
names = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12)


@st.composite
def rows(draw: st.DrawFn) -> PlanRow:
    parts = draw(st.lists(st.tuples(names, numbers), max_size=3))
    own = bool(parts) and draw(st.booleans())
    slices = tuple(RowSlice(name, i, i + 1, 4, 1, std if own else None) for i, (name, std) in enumerate(parts))
    return PlanRow(
        name=draw(names),
        shape=tuple(draw(st.lists(st.integers(0, 9), max_size=4))),
        dtype=draw(st.sampled_from(["float32", "bfloat16"])),
        role=draw(st.sampled_from(["weight", "bias"])),
        fan_in=draw(st.none() | st.integers(0, 10**9)),
        fan_out=draw(st.none() | st.integers(0, 10**9)),
        distribution="normal",
        std=None if own else draw(numbers),
        reason=draw(st.text(st.characters(exclude_categories=["Cs", "Cc"]))),
        found_by=draw(st.sampled_from(["graph", "module", "guess"])),
        options=draw(st.dictionaries(names, st.booleans() | st.integers() | numbers | names, max_size=2)),
        is_buffer=draw(st.booleans()),
        padding_idx=draw(st.none() | st.integers(-3, 3)),
        slices=slices,
    )


@settings(deadline=None)  # other work on the machine must not fail it
@given(st.lists(rows(), max_size=4))
def test_any_plan_survives_yaml_to_the_last_bit(made: list[PlanRow]) -> None:
    assert read(dump("he", 1, made), "plan.yaml") == ("he", 1, tuple(made))


def line_of(path: Path, text: str) -> int:
    return next(i for i, line in enumerate(path.read_text().splitlines(), 1) if text in line)


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_an_edited_std_is_read_and_drawn(saved: Path) -> None:
    std = plan(mlp(), "xavier")["layers.2.weight"].std
    change(saved, f"std: {std}", "std: 0.0")
    model = plan(mlp(), saved).apply(mlp())
    assert [float(p.abs().sum().detach()) == 0 for p in model.parameters() if p.ndim == 2].count(True) == 1


@pytest.mark.parametrize(
    ("old", "new", "at", "message"),
    [
        ("std: 0.3", "std: -0.3", "std: -0.3", r"row 'layers\.0\.weight': std = -0\.3\d*, must be >= 0\. Nothing"),
        ("std: 0.3", "std: .nan #", "std: .nan", r"std = nan, must be a finite number"),
        ("std: 0.3", "std: wide #", "std: wide", r"std = 'wide', must be a valid number"),
        ("std: 0.3", "sdt: 0.3", "sdt: 0.3", r"weight': 'sdt' is not a field\. Did you mean 'std'\? Nothing"),
        ("  role: weight\n", "", "name: layers.0.weight", r"row 'layers\.0\.weight': 'role' is missing\. Nothing"),
        ("found_by: module", "found_by: magic", "found_by: magic", r"found_by = 'magic', must be 'graph', 'module' or"),
        ("schema: 1", "schema: 9", "schema: 9", r"schema = 9, must be 1"),
        ("recipe: xavier", "recipe: xavier\nrecipe: he", "recipe: he", r"'recipe' is given twice"),
        ("recipe: xavier", "recipe: &a xavier\nother: *a", "other:", r"'\*a' is an alias; write the value out"),
        ("recipe: xavier", "recipe: !!python/name:os.system", "recipe: !!", r"cannot be read as YAML"),
        ("rows:", "rows: [", "", r"cannot be read as YAML"),
        ("stream: 1", "stream: 7", "", r"draws from stream version 7; this firstlight has version 1"),
    ],
)
def test_a_wrong_plan_file_names_file_line_row_and_field(
    saved: Path, old: str, new: str, at: str, message: str
) -> None:
    change(saved, old, new)
    with pytest.raises(PlanError, match=message) as caught:
        Plan.load(saved)
    assert str(caught.value).startswith(f"{saved}:{line_of(saved, at)}: " if at else f"{saved}:")
    assert "\n" not in str(caught.value)
    assert "Nothing was written." in str(caught.value)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_a_file_that_is_cut_off_is_refused_wherever_it_is_cut(saved: Path, share: float) -> None:
    text = saved.read_text()
    saved.write_text(text[: int(len(text) * share)])
    with pytest.raises(PlanError, match=r"plan\.yaml:\d+: .*Nothing was written\."):
        Plan.load(saved)


def test_every_cut_of_a_plan_is_refused() -> None:
    text = plan(nn.Linear(2, 1), "he").to_yaml()
    for length in range(len(text) - 1):
        with pytest.raises(PlanError, match="plan"):
            read(text[:length], "plan.yaml")


def test_a_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "plan.yaml"
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(PlanError, match="not a text file in UTF-8"):
        Plan.load(file)
    file.write_bytes(b"schema: \x00")
    with pytest.raises(PlanError, match="cannot be read as YAML"):
        Plan.load(file)
    file.write_text("- 1\n")
    with pytest.raises(PlanError, match="not a plan: needs schema, stream, recipe and rows"):
        Plan.load(file)


def test_a_plan_for_another_model_is_refused(saved: Path) -> None:
    wider = load("mlp:depth=3,width=9,act=tanh,in=6,classes=2").build()
    deeper = load("mlp:depth=4,width=8,act=tanh,in=6,classes=2").build()
    shallower = load("mlp:depth=2,width=8,act=tanh,in=6,classes=2").build()
    with pytest.raises(
        PlanError, match=r"row 'layers\.0\.weight' \(8, 6\) float32 does not fit: the model has \(9, 6\)"
    ):
        plan(wider, saved)
    with pytest.raises(
        PlanError, match=r"row 'layers\.4\.weight' \(2, 8\) float32 does not fit: the model has \(8, 8\)"
    ):
        plan(deeper, saved)
    with pytest.raises(PlanError, match=r"does not fit: the model has"):
        plan(shallower, saved)
    with pytest.raises(PlanError, match=r"1 of 6 tensors have no row in the plan: 'layers\.4\.bias' \(2,\)"):
        plan(mlp(), Plan("he", plan(mlp(), "he").rows[:-1]))


def test_keeping_more_of_a_plan_keeps_it(saved: Path) -> None:
    made = plan(mlp(), saved, keep="layers.0.*")
    assert [row.kept for row in made] == [True, True, False, False, False, False]
    assert made.rows[2:] == Plan.load(saved).rows[2:]


def test_a_kept_row_takes_no_std_and_a_drawn_row_needs_one() -> None:
    row = plan(mlp(), "he").rows[0]
    for changed, message in (
        (replace(row, distribution="keep"), "a kept tensor has no std"),
        (replace(row, std=None), "std is missing"),
        (replace(row, slices=(RowSlice("a", 0, 8, 6, 8, 0.1),)), "std is given for the row and for a slice"),
    ):
        with pytest.raises(PlanError, match=message):
            read(dump("he", 1, [changed]), "plan.yaml")
