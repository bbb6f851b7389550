"""Tensors that modules hold as plain attributes: refused on the meta device, or kept one with the parameter they are."""

from typing import Any

import pytest
import torch
from torch import nn

from firstlight.errors import PlanError
from firstlight.plan import initialize


class Holder(nn.Module):
    """A linear layer, and an attribute that is neither parameter nor buffer."""

    def __init__(self, make: Any) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 3)
        self.extra: Any = make(self.linear.weight)


def on_meta(make: Any) -> Holder:
    with torch.device("meta"):
        return Holder(make)


@pytest.mark.parametrize(
    "make", [lambda w: torch.zeros(2), lambda w: [torch.zeros(2)], lambda w: {"t": torch.zeros(2)}, lambda w: w.data.T]
)
def test_a_plain_tensor_on_the_meta_device_is_refused_by_name_before_memory_is_given(make: Any) -> None:
    model = on_meta(make)
    with pytest.raises(
        PlanError, match=r"1 tensors .* plain attributes.*'extra' \(.*register_buffer.*No parameter was"
    ):
        initialize(model, "he")
    assert model.linear.weight.is_meta


@pytest.mark.parametrize("make", [lambda w: torch.ones(2), lambda w: [torch.ones(2)], lambda w: "text"])
def test_a_plain_tensor_with_memory_is_no_concern(make: Any) -> None:
    initialize(Holder(make), "he")


@pytest.mark.parametrize(
    ("make", "get"),
    [
        (lambda w: [w, 1], lambda m: m.extra[0]),
        (lambda w: (w, 1), lambda m: m.extra[0]),
        (lambda w: {"w": w}, lambda m: m.extra["w"]),
    ],
)
def test_an_attribute_that_is_a_parameter_follows_it_to_its_memory(make: Any, get: Any) -> None:
    model = initialize(on_meta(make), "he")
    assert get(model) is model.linear.weight
    assert not model.linear.weight.is_meta


def test_an_attribute_that_is_a_buffer_of_another_module_follows_it() -> None:
    with torch.device("meta"):
        model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
        model[0].seen = model[1].running_mean
    initialize(model, "he")
    assert model[0].seen is model[1].running_mean


def test_what_a_hook_of_torch_computes_before_forward_may_be_on_the_meta_device() -> None:
    with torch.device("meta"):
        model = nn.utils.spectral_norm(nn.Linear(4, 3))
    assert model.weight.is_meta
    initialize(model, "he")
    assert torch.isfinite(model(torch.ones(2, 4))).all()
