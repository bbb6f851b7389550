"""How a model is run to be read: which inputs, what is left as it was, and what cannot be followed."""

import random
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from firstlight.errors import PlanError
from firstlight.model.roles import read
from firstlight.model.targets import load
from firstlight.plan import initialize, plan
from graph_models import Forward, X, seen


def test_a_module_called_many_times_is_one_weight() -> None:
    def forward(m: Any, x: Tensor) -> Any:
        for _ in range(3):
            x = torch.tanh(m.fc(x))
        return m.head(x)

    infos = seen(Forward(forward, fc=nn.Linear(8, 8), head=nn.Linear(8, 2)), X)
    assert (infos["fc.weight"].role, infos["fc.weight"].fan_in, infos["fc.weight"].activation) == ("weight", 8, "tanh")
    assert infos["head.weight"].role == "output-weight"


def test_what_no_operator_reads_is_unused_and_kept() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.spare = nn.Linear(8, 4), nn.Linear(8, 4)

        def forward(self, x: Tensor) -> Any:
            self.spare(x)  # computed, but nothing comes of it
            return torch.as_tensor(self.used(x))

    rows = plan(Net(), "he", example=X)
    assert {row.name: row.role for row in rows if row.name.startswith("spare")} == {
        "spare.weight": "unused",
        "spare.bias": "unused",
    }
    assert "no operator reads it" in rows["spare.weight"].reason


def test_heads_for_training_alone_are_read_too() -> None:
    def forward(m: Any, x: Tensor) -> Any:
        y = torch.relu(m.body(x))
        return (m.head(y), m.extra(y)) if m.training else m.head(y)

    infos = seen(Forward(forward, body=nn.Linear(8, 8), head=nn.Linear(8, 2), extra=nn.Linear(8, 2)), X)
    assert infos["extra.weight"].role == "output-weight"


def test_what_only_evaluation_shows_to_be_unused_says_so() -> None:
    def forward(m: Any, x: Tensor) -> Any:
        if m.training:
            raise ValueError("labels are missing")
        return m.head(x)

    row = plan(Forward(forward, head=nn.Linear(8, 2), extra=nn.Linear(8, 2)), "he", example=X)["extra.weight"]
    assert row.role == "unused"
    assert "in evaluation; in training mode forward raised: labels are missing" in row.reason


def test_inputs_are_tensors_tuples_or_dicts_on_any_device() -> None:
    model = nn.Bilinear(8, 8, 3)
    wanted = [(i.role, i.fan_in, i.found_by) for i in read(model, (X, X))]
    assert [(i.role, i.fan_in, i.found_by) for i in read(model, {"input1": X, "input2": X})] == wanted
    bare = torch.empty(X.shape, device="meta")
    assert [(i.role, i.fan_in, i.found_by) for i in read(model, (bare, bare))] == wanted
    with torch.device("meta"):
        empty = nn.Bilinear(8, 8, 3)
        assert [(i.role, i.fan_in, i.found_by) for i in read(empty, (X, X))] == wanted


def test_control_flow_that_depends_on_values_takes_the_way_of_the_example() -> None:
    model = Forward(
        lambda m, x: m.head(m.a(x) if x.sum() > 0 else m.b(x)),
        a=nn.Linear(8, 4),
        b=nn.Linear(8, 4),
        head=nn.Linear(4, 2),
    )
    assert seen(model, torch.ones(2, 8))["b.weight"].role == "unused"
    assert seen(model, -torch.ones(2, 8))["a.weight"].role == "unused"


def test_control_flow_without_values_falls_back_and_says_why() -> None:
    with torch.device("meta"):
        model = Forward(lambda m, x: m.a(x) if m.a(x).sum() > 0 else x, a=nn.Linear(8, 4))
    with pytest.warns(
        UserWarning, match=r"Forward cannot be followed without values .*looks at a value.* roles are from module types"
    ):
        infos = read(model, torch.ones(2, 8))
    assert {info.found_by for info in infos} == {"module"}


@pytest.mark.parametrize(
    "look",
    [
        lambda m, x: torch.ones(2, 5, device=x.device).bool().all(),
        lambda m, x: (x.new_zeros(3) + 1).cumsum(0)[-1].item() == 3,
        lambda m, x: x.sum() > 0,
        lambda m, x: m.mask.tril().sum() == 36,
        lambda m, x: torch.nonzero(x[0, 0]).shape == (8, 1),
    ],
)
def test_values_that_no_weight_enters_may_be_looked_at_though_weights_have_none(look: Any) -> None:
    model = Forward(lambda m, x: m.a(x) if look(m, x) else m.b(x), a=nn.Linear(8, 4), b=nn.Linear(8, 4))
    model.register_buffer("mask", torch.ones(8, 8))
    bare = Forward(model._call, a=nn.Linear(8, 4, device="meta"), b=nn.Linear(8, 4, device="meta"))
    bare.register_buffer("mask", torch.ones(8, 8))
    for one in (model, bare):
        infos = seen(one, torch.ones(2, 5, 8))
        assert (infos["a.weight"].fan_in, infos["b.weight"].role) == (8, "unused")


def test_a_constant_that_a_weight_was_written_into_is_no_longer_known() -> None:
    def forward(m: Any, x: Tensor) -> Any:
        kept = torch.zeros(4, device=x.device)
        kept[:2] += m.a(x)[0, :2]
        return m.a(x) if kept.sum() > 0 else x

    with torch.device("meta"):
        model = Forward(forward, a=nn.Linear(8, 4))
    with pytest.warns(UserWarning, match="looks at a value"):
        read(model, torch.ones(2, 8))


def test_an_example_that_does_not_fit_is_refused_in_one_line() -> None:
    with pytest.raises(
        PlanError, match=r"Linear does not run on the example \(\(2, 3\) float32\): .* No parameter was changed"
    ):
        read(nn.Linear(8, 4), torch.ones(2, 3))
    with pytest.raises(PlanError, match=r"does not run on the example .* missing 1 required positional argument"):
        read(nn.Bilinear(8, 8, 3), X)


def test_reading_leaves_the_model_and_all_generators_as_they_were() -> None:
    model = nn.Sequential(
        nn.Conv1d(5, 6, 3), nn.BatchNorm1d(6), nn.Dropout(0.5), nn.Flatten(), nn.Linear(36, 2)
    ).train()
    model[2].eval()
    calls: list[int] = []
    model[0].register_forward_hook(lambda *_: calls.append(1))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    torch_state, python_state = torch.get_rng_state(), random.getstate()
    numpy_state: Any = np.random.get_state()
    read(model, X)
    after = model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert [module.training for module in model] == [True, True, False, True, True]
    assert calls == []
    now: Any = np.random.get_state()
    assert torch.equal(torch_state, torch.get_rng_state())
    assert python_state == random.getstate()
    assert numpy_state[1].tolist() == now[1].tolist()


@pytest.mark.parametrize("model", ["mlp", "cnn", "resnet", "lstm", "gpt", "bert"])
def test_built_in_models_bring_their_own_example(model: str) -> None:
    target = load(model)
    rows = plan(target.build(), "he", example=target.example)
    assert {row.found_by for row in rows if not row.is_buffer} == {"graph"}
    assert sum(row.role == "output-weight" for row in rows) == 1


def test_a_plan_with_an_example_sees_functions_in_forward() -> None:
    model = Forward(lambda m, x: m.b(torch.relu(m.a(x))), a=nn.Linear(8, 8), b=nn.Linear(8, 2))
    assert "before relu" in plan(model, "xavier:gain=activation", example=X)["a.weight"].reason
    assert initialize(model, "he", example=X) is model
