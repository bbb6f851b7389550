"""Writing a plan: absolute, repeatable, in any order, and not at all when anything does not fit."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from firstlight.apply import write
from firstlight.errors import DtypeError, FirstlightError, OptionError, PlanError
from firstlight.init.registry import DISTRIBUTIONS
from firstlight.model.targets import load
from firstlight.plan import initialize, plan, verify
from firstlight.random import Normal, fill
from firstlight.recipes import PlanRow, RowSlice


def model() -> nn.Sequential:
    return nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))


def bits(made: nn.Module) -> list[bytes]:
    return [tensor.detach().clone().numpy().tobytes() for tensor in made.state_dict().values()]


def test_values_are_those_of_the_stream_under_the_rows_name() -> None:
    made = initialize(model(), "he", seed=7)
    expected = fill(torch.empty(8, 6), Normal(std=(2 / 6) ** 0.5), seed=7, name="0.weight")
    assert torch.equal(made.get_parameter("0.weight"), expected)


def test_slices_are_drawn_as_tensors_of_their_own() -> None:
    made = initialize(nn.MultiheadAttention(8, 2), "lecun", seed=7)
    weight = made.in_proj_weight
    assert weight is not None
    for number, name in enumerate(("query", "key", "value")):
        expected = fill(torch.empty(8, 8), Normal(std=8**-0.5), seed=7, name=f"in_proj_weight/{name}")
        assert torch.equal(weight[8 * number : 8 * number + 8], expected)


def test_the_seed_matters_and_the_order_of_rows_does_not() -> None:
    rows = plan(model(), "he").rows
    first, turned, other = model(), model(), model()
    write(rows, first, 1)
    write(rows[::-1], turned, 1)
    write(rows, other, 2)
    assert bits(first) == bits(turned)
    assert bits(first) != bits(other)


def test_what_a_tensor_gets_does_not_depend_on_the_others() -> None:
    small = initialize(nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)), "he")
    large = initialize(nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3), nn.ReLU(), nn.Linear(3, 9)), "he")
    assert torch.equal(small.get_parameter("0.weight"), large.get_parameter("0.weight"))


def test_a_tied_weight_is_written_once_and_stays_tied() -> None:
    made = initialize(load("gpt:tie=yes").build(), "xavier")
    names = dict(made.named_parameters(remove_duplicate=False))
    assert names["head.weight"] is names["embedding.tokens.weight"]
    assert torch.equal(
        names["head.weight"], initialize(load("gpt:tie=yes").build(), "xavier").get_parameter("head.weight")
    )


def test_writing_keeps_the_parameters_and_their_gradients_flags() -> None:
    made = model()
    made[0].requires_grad_(False)
    parameters = list(made.parameters())
    initialize(made, "he")
    assert all(a is b for a, b in zip(parameters, made.parameters(), strict=True))
    assert [p.requires_grad for p in parameters] == [False, False, True, True, True, True]


Edit = Callable[[list[PlanRow]], list[PlanRow]]


def edit(index: int, **fields: object) -> Edit:
    return lambda rows: [*rows[:index], replace(rows[index], **fields), *rows[index + 1 :]]  # type: ignore[arg-type]


LAST = 8  # rows: 0.weight 0.bias 1.weight 1.bias 1.running_mean 1.running_var 1.num_batches_tracked 3.weight 3.bias


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda rows: rows[:-1], PlanError, r"1 of 9 tensors have no row in the plan: '3\.bias' \(3,\)"),
        (lambda rows: [*rows, rows[0]], PlanError, r"'0\.weight' \(8, 6\) is claimed by two rows"),
        (edit(LAST, name="3.bais"), PlanError, r"row '3\.bais' \(3,\) names none of .* Did you mean '3\.bias'\?"),
        (edit(LAST, shape=(4,)), PlanError, r"'3\.bias' has shape \(3,\) in the model and \(4,\) in the plan"),
        (edit(LAST, dtype="float64"), PlanError, r"has dtype float32 in the model and float64 in the plan"),
        (edit(LAST, distribution="norml", std=1.0), OptionError, r"'norml' is not known\. .* Did you mean 'normal'\?"),
        (edit(LAST, distribution="normal", std=-1.0, options={}), OptionError, r"std = -1\.0, must be a number >= 0"),
        (
            edit(LAST, distribution="normal", std=1e38, options={}),
            OptionError,
            r"'3\.bias' \(3,\): std = 1e\+38 makes values too large for float32",
        ),
        (edit(LAST, distribution="normal", std=1.0), OptionError, r"'3\.bias' \(3,\): .* has no option 'value'"),
        (edit(LAST, distribution="normal", std=None, options={}), OptionError, r"std = None, must be a number"),
        (
            edit(LAST, distribution="orthogonal", std=1.0, options={}),
            OptionError,
            r"'3\.bias' \(3,\): Only tensors with",
        ),
        (edit(7, distribution="looks-linear", options={"mirror": "row"}), OptionError, r"mirror=.row. is not known"),
        (edit(7, padding_idx=3), PlanError, r"padding_idx = 3 is not one of its 3 rows"),
        (edit(7, slices=(RowSlice("a", 0, 2, 8, 2),)), PlanError, r"slices must follow each other from row 0 to row 3"),
        (
            edit(6, distribution="normal", std=1.0, options={}),
            DtypeError,
            r"'1\.num_batches_tracked' .* has dtype int64",
        ),
    ],
)
def test_refused_rows_leave_every_byte_of_the_model(change: Edit, error: type[FirstlightError], message: str) -> None:
    made = model()
    before = bits(made)
    with pytest.raises(error, match=message) as caught:
        write(change(list(plan(made, "he").rows)), made, 0)
    assert bits(made) == before
    assert "No parameter was changed." in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_std_that_a_small_dtype_cannot_hold_is_refused_before_it_becomes_infinite() -> None:
    made = nn.Linear(4, 4).half()
    before = bits(made)
    with pytest.raises(OptionError, match=r"std = 1e\+06 makes values too large for float16"):
        initialize(made, "normal:std=1e6")
    assert bits(made) == before
    assert bool(initialize(made, "normal:std=1e3").weight.isfinite().all())


def test_a_sparse_parameter_is_refused_unless_it_is_kept() -> None:
    made = nn.Linear(3, 3)
    made.register_parameter("adjacency", nn.Parameter(torch.eye(3).to_sparse()))
    before = made.weight.detach().clone()
    with pytest.raises(DtypeError, match=r"'adjacency' \(3, 3\) is sparse.*keep\('adjacency'\)"):
        initialize(made, "normal")
    assert torch.equal(made.weight, before)
    assert not torch.equal(initialize(made, "normal", keep="adjacency").weight, before)


def test_a_seed_out_of_range_leaves_every_byte_of_the_model() -> None:
    made = model()
    before = bits(made)
    with pytest.raises(OptionError, match=r"seed = -1, must be an integer"):
        initialize(made, "he", seed=-1)
    assert bits(made) == before


class Rich(nn.Module):
    """Norms, a recurrent layer, an embedding tied to the output, a frozen weight, attention."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(11, 8, padding_idx=0)
        self.lstm, self.norm = nn.LSTM(8, 8), nn.BatchNorm1d(8)
        self.attend, self.out = nn.MultiheadAttention(8, 2), nn.Linear(8, 11, bias=False)
        self.out.weight = self.embed.weight
        self.frozen = nn.Linear(8, 8).requires_grad_(False)


def test_a_model_on_the_meta_device_gets_memory_and_the_same_bits() -> None:
    with torch.device("meta"):
        empty = Rich()
    made, wanted = initialize(empty, "xavier", seed=4), initialize(Rich(), "xavier", seed=4)
    assert made.state_dict().keys() == wanted.state_dict().keys()
    for name, tensor in wanted.state_dict().items():
        assert torch.equal(made.state_dict()[name], tensor), name
    assert made.out.weight is made.embed.weight
    assert [p.requires_grad for p in made.parameters()] == [p.requires_grad for p in wanted.parameters()]
    assert verify(made, plan(made, "xavier"), 4) == ()
    hidden = torch.zeros(3, 2, dtype=torch.long)
    assert torch.equal(made.lstm(made.embed(hidden))[0], wanted.lstm(wanted.embed(hidden))[0])


def test_what_nobody_would_fill_on_the_meta_device_is_refused_before_anything_is_made() -> None:
    with torch.device("meta"):
        made = Rich()
    with pytest.raises(PlanError, match=r"2 of \d+ tensors are on the meta device and kept .* 'lstm\.weight_hh_l0'"):
        initialize(made, "he", keep=("lstm.weight_*",))
    assert all(tensor.is_meta for tensor in (*made.parameters(), *made.buffers()))
    assert len(verify(made, plan(made, "he"))) == len(plan(made, "he"))


def row_of(name: str, shape: tuple[int, ...], distribution: str, **fields: Any) -> PlanRow:
    return PlanRow(name, shape, "float32", "weight", 4, 4, distribution, 0.5, "by hand", "module", **fields)


def holder(*shape: int) -> nn.Module:
    module = nn.Module()
    module.weight = nn.Parameter(torch.empty(shape))
    return module


def test_slices_along_another_axis_are_cut_there() -> None:
    slices = tuple(RowSlice(name, 5 * i, 5 * i + 5, 4, 5, axis=1) for i, name in enumerate(("query", "key")))
    model = holder(4, 10)
    write([row_of("weight", (4, 10), "normal", slices=slices, layout="io")], model, 3)
    for number, name in enumerate(("query", "key")):
        expected = fill(torch.empty(4, 5), Normal(std=0.5), seed=3, name=f"weight/{name}")
        assert torch.equal(model.get_parameter("weight")[:, 5 * number : 5 * number + 5], expected)


def test_a_matrix_stored_the_other_way_round_is_made_as_out_by_in() -> None:
    model = holder(4, 7)
    write([row_of("weight", (4, 7), "centred-orthogonal", layout="io")], model, 3)
    expected = DISTRIBUTIONS["centred-orthogonal"](torch.empty(7, 4), std=0.5, seed=3, name="weight")
    assert torch.equal(model.get_parameter("weight"), expected.T)
    assert bool((model.get_parameter("weight").sum(0).abs() < 1e-5).all())
    assert bool((model.get_parameter("weight").sum(1).abs() > 1e-3).any())


def test_experts_side_by_side_get_a_matrix_each() -> None:
    slices = tuple(RowSlice(name, 6 * i, 6 * i + 6, 4, 6, axis=2) for i, name in enumerate(("gate", "up")))
    model = holder(3, 4, 12)
    write([row_of("weight", (3, 4, 12), "orthogonal", layout="bio", slices=slices)], model, 3)
    for expert in range(3):
        for number, name in enumerate(("gate", "up")):
            expected = DISTRIBUTIONS["orthogonal"](torch.empty(6, 4), std=0.5, seed=3, name=f"weight/{name}/{expert}")
            got = model.get_parameter("weight")[expert, :, 6 * number : 6 * number + 6]
            assert torch.equal(got, expected.T)


def test_the_layout_does_not_change_values_that_stand_alone() -> None:
    one, other = holder(3, 4, 6), holder(3, 4, 6)
    write([row_of("weight", (3, 4, 6), "normal", layout="bio")], one, 3)
    write([row_of("weight", (3, 4, 6), "normal")], other, 3)
    assert bits(one) == bits(other)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"layout": "bi"}, r"'weight' \(3, 4, 6\): its layout 'bi' does not say which axes 'orthogonal'"),
        ({"layout": "bii"}, r"Give a letter an axis: one o, one i"),
        (
            {"slices": (RowSlice("a", 0, 3, 4, 3), RowSlice("b", 3, 6, 4, 3, axis=2))},
            r"its slices must all lie along one of its axes, got axis 0, 2",
        ),
        ({"slices": (RowSlice("a", 0, 3, 4, 3, axis=3),)}, r"along one of its axes, got axis 3"),
        ({"slices": (RowSlice("a", 0, 3, 4, 3, axis=2),)}, r"follow each other from row 0 to row 6 of axis 2"),
    ],
)
def test_layouts_and_slices_that_do_not_fit_are_refused(fields: dict[str, Any], message: str) -> None:
    model = holder(3, 4, 6)
    before = bits(model)
    with pytest.raises(PlanError, match=message):
        write([row_of("weight", (3, 4, 6), "orthogonal", **fields)], model, 3)
    assert bits(model) == before


def test_the_tensors_of_a_parametrization_are_written_like_any_other() -> None:
    def build() -> nn.Module:
        layer = nn.Linear(4, 6)
        nn.utils.parametrizations.weight_norm(layer)
        return layer

    with torch.device("meta"):
        empty = build()
    shapes = {name: tuple(tensor.shape) for name, tensor in empty.named_parameters()}
    assert "parametrizations.weight.original1" in shapes
    rows = [row_of(name, shape, "normal") for name, shape in shapes.items()]
    built = build()
    write(rows, empty, 3)
    write(rows, built, 3)
    assert bits(empty) == bits(built)
    direction, length = built.get_parameter("parametrizations.weight.original1"), torch.linalg.vector_norm
    expected = (
        direction / length(direction, dim=1, keepdim=True) * built.get_parameter("parametrizations.weight.original0")
    )
    assert isinstance(built.weight, torch.Tensor)
    assert torch.allclose(built.weight, expected)


def test_tensors_that_share_part_of_their_memory_are_refused() -> None:
    made = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
    with torch.no_grad():
        made[1].weight = nn.Parameter(made.get_parameter("0.weight").data[:2])
    before = bits(made)
    with pytest.raises(PlanError, match=r"'0\.weight' and '1\.weight' share memory.*keep\('1\.weight'\)"):
        initialize(made, "he")
    assert bits(made) == before
    initialize(made, "he", keep="1.weight")


def test_verify_names_exactly_the_tensors_that_differ() -> None:
    model = nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.Linear(5, 4), nn.MultiheadAttention(4, 2))
    made = plan(model, "xavier")
    made.apply(model, seed=9)
    assert verify(model, made, 9) == ()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with torch.no_grad():
        model.get_parameter("3.in_proj_weight")[0, 0] += 1e-6
        model.get_buffer("1.running_mean")[2] = float("nan")
    assert set(verify(model, made, 9)) == {"3.in_proj_weight", "1.running_mean"}
    drawn = {"0.weight", "2.weight", "3.in_proj_weight", "3.out_proj.weight"}
    assert set(verify(made.apply(model, 9), made, 10)) == drawn
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    kept = plan(model, "he", keep="*")
    assert verify(model, kept, 9) == ()


@pytest.mark.parametrize(
    ("distribution", "options"), [("hadamard", {}), ("mimetic", {"factor": "f", "side": "left", "heads": 1})]
)
def test_a_distribution_of_matrices_refuses_a_vector_in_one_line(distribution: str, options: dict[str, Any]) -> None:
    layer = nn.Linear(6, 4)
    before = bits(layer)
    weight, bias = plan(layer, "he").rows
    edited = (weight, replace(bias, distribution=distribution, std=0.1, options=options))
    with pytest.raises(OptionError, match=r"'bias' \(4,\): .* No parameter was changed"):
        write(edited, layer, 0)
    assert bits(layer) == before
