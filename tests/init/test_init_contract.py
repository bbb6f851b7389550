"""What every initializer keeps: shape, dtype, seed, the generators, memory layout, and bytes when it refuses."""

import inspect
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import firstlight.init as init
from firstlight.errors import DtypeError, OptionError

Filler = Callable[..., Tensor]
SHAPES: dict[str, tuple[int, ...]] = {"delta_orthogonal_": (8, 6, 3, 3), "dirac_": (8, 6, 3)}
DISTRIBUTION_SHAPES: dict[str, tuple[int, ...]] = {"delta-orthogonal": (8, 6, 3, 3), "dirac": (8, 6, 3)}
RANDOM: dict[str, Filler] = {
    "uniform_": init.uniform_,
    "normal_": init.normal_,
    "trunc_normal_": init.trunc_normal_,
    "truncated_normal_": init.truncated_normal_,
    "xavier_uniform_": init.xavier_uniform_,
    "xavier_normal_": init.xavier_normal_,
    "kaiming_uniform_": init.kaiming_uniform_,
    "kaiming_normal_": init.kaiming_normal_,
    "lecun_uniform_": init.lecun_uniform_,
    "lecun_normal_": init.lecun_normal_,
    "variance_scaling_": init.variance_scaling_,
    "orthogonal_": init.orthogonal_,
    "centred_orthogonal_": init.centred_orthogonal_,
    "delta_orthogonal_": init.delta_orthogonal_,
    "looks_linear_": init.looks_linear_,
    "sparse_": lambda tensor, **where: init.sparse_(tensor, 0.3, **where),
}
FIXED: dict[str, Filler] = {
    "constant_": lambda tensor: init.constant_(tensor, 0.5),
    "ones_": init.ones_,
    "zeros_": init.zeros_,
    "eye_": init.eye_,
    "dirac_": init.dirac_,
    "identity_": init.identity_,
}
random_ones = pytest.mark.parametrize("name", RANDOM)
every_one = pytest.mark.parametrize("name", RANDOM | FIXED)


def shape(name: str) -> tuple[int, ...]:
    return SHAPES.get(name, (8, 6))


def fill(name: str, tensor: Tensor, /, **where: Any) -> Tensor:
    if name in FIXED:
        return FIXED[name](tensor)
    return RANDOM[name](tensor, **(where or {"seed": 0, "name": "w"}))


def test_every_public_initializer_is_in_this_suite() -> None:
    public = {name for name in init.__all__ if name.endswith("_")}
    assert public == set(RANDOM | FIXED)


@every_one
def test_the_tensor_itself_is_returned_filled(name: str) -> None:
    tensor = torch.full(shape(name), float("nan"))
    assert fill(name, tensor) is tensor
    assert bool(torch.isfinite(tensor).all())


@every_one
def test_applying_twice_is_applying_once(name: str) -> None:
    once = fill(name, torch.empty(shape(name)))
    assert torch.equal(once, fill(name, fill(name, torch.randn(shape(name)))))


@random_ones
def test_seed_and_name_decide_the_values(name: str) -> None:
    def draw(**where: Any) -> Tensor:
        return fill(name, torch.empty(shape(name)), **where)

    assert torch.equal(draw(seed=1, name="a"), draw(seed=1, name="a"))
    assert not torch.equal(draw(seed=1, name="a"), draw(seed=2, name="a"))
    assert not torch.equal(draw(seed=1, name="a"), draw(seed=1, name="b"))


@random_ones
def test_without_a_seed_torchs_generator_governs(name: str) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(7)
        first = RANDOM[name](torch.empty(shape(name)))
        second = RANDOM[name](torch.empty(shape(name)))
        torch.manual_seed(7)
        assert torch.equal(first, RANDOM[name](torch.empty(shape(name))))
    assert not torch.equal(first, second)
    generator = torch.Generator().manual_seed(7)
    assert torch.equal(first, RANDOM[name](torch.empty(shape(name)), generator=generator))


@random_ones
def test_with_a_seed_torchs_generator_is_not_touched(name: str) -> None:
    before = torch.get_rng_state()
    fill(name, torch.empty(shape(name)))
    assert torch.equal(before, torch.get_rng_state())


@random_ones
def test_a_seed_without_a_name_or_with_a_generator_is_refused(name: str) -> None:
    tensor = torch.full(shape(name), 7.0)
    with pytest.raises(OptionError, match="the same seed and no name would get the same numbers"):
        RANDOM[name](tensor, seed=0)
    with pytest.raises(OptionError, match="seed= and generator= were both given"):
        RANDOM[name](tensor, seed=0, name="w", generator=torch.Generator())
    assert bool((tensor == 7).all())


@every_one
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_other_dtypes_hold_the_same_values_up_to_rounding(name: str, dtype: torch.dtype) -> None:
    tensor = fill(name, torch.empty(shape(name), dtype=dtype))
    assert tensor.dtype == dtype
    assert bool(torch.isfinite(tensor).all())
    if dtype != torch.float64:  # float64 has draws of its own
        torch.testing.assert_close(tensor.float(), fill(name, torch.empty(shape(name))), rtol=1e-2, atol=1e-2)


@every_one
def test_memory_layout_does_not_matter(name: str) -> None:
    straight = fill(name, torch.empty(shape(name)))
    spaced = fill(name, torch.empty([2 * n for n in shape(name)])[tuple(slice(None, None, 2) for _ in shape(name))])
    assert torch.equal(straight, spaced)


@every_one
def test_parameters_are_filled_without_gradients(name: str) -> None:
    parameter = torch.nn.Parameter(torch.empty(shape(name)))
    assert fill(name, parameter).requires_grad
    assert parameter.grad_fn is None


@every_one
def test_meta_tensors_come_back_unchanged(name: str) -> None:
    assert fill(name, torch.empty(shape(name), device="meta")).is_meta


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
@random_ones
def test_tensors_without_elements_come_back_unchanged(name: str) -> None:
    assert (
        fill(name, torch.empty((0, *shape(name)[1:])) if name != "delta_orthogonal_" else torch.empty(8, 0, 3)).numel()
        == 0
    )


@random_ones
def test_integers_are_refused_and_keep_every_byte(name: str) -> None:
    tensor = torch.full(shape(name), 7, dtype=torch.int64)
    with pytest.raises(DtypeError, match="a floating dtype"):
        fill(name, tensor)
    assert bool((tensor == 7).all())


@random_ones
def test_sparse_tensors_are_refused_and_keep_every_byte(name: str) -> None:
    tensor = torch.ones(shape(name)).to_sparse()
    with pytest.raises(DtypeError, match=r"is sparse \(sparse_coo\); only dense tensors can be filled"):
        fill(name, tensor)
    assert bool((tensor.to_dense() == 1).all())


@pytest.mark.parametrize("name", ["uniform_", "normal_", "xavier_uniform_", "xavier_normal_", "kaiming_uniform_"])
def test_complex_tensors_get_the_stds_that_torch_gives_them(name: str) -> None:
    """Of n = 40,000 values in each part the std is off by less than 5 standard errors, 5/√(2n) = 1.8 %."""
    ours = getattr(init, name)(torch.empty(200, 200, dtype=torch.complex64), seed=0, name="w")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        theirs = getattr(torch.nn.init, name)(torch.empty(200, 200, dtype=torch.complex64))
    for part, other in ((ours.real, theirs.real), (ours.imag, theirs.imag)):
        assert float(part.std()) == pytest.approx(float(other.std()), rel=0.036)
        assert float(part.mean()) == pytest.approx(float(other.mean()), abs=0.05 * float(other.std()))
    assert not torch.equal(ours.real, ours.imag)


@pytest.mark.parametrize("call", ["xavier_normal_", "xavier_uniform_", "kaiming_normal_", "kaiming_uniform_"])
def test_an_empty_tensor_is_warned_of_where_torch_warns(call: str) -> None:
    def warned(home: Any) -> list[str]:
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            getattr(home, call)(torch.empty(0, 3))
        return [str(warning.message) for warning in seen]

    assert warned(init) == warned(torch.nn.init)


@pytest.mark.parametrize(
    ("call", "arguments", "message"),
    [
        ("calculate_gain", (["relu"],), "Unsupported nonlinearity"),
        ("calculate_gain", (None,), "Unsupported nonlinearity"),
        ("calculate_gain", ("leaky_relu", "0.2"), "not a valid number"),
        ("dirac_", (torch.empty(3, 3, 3), 0), "divisible by groups"),
        ("dirac_", (torch.empty(3, 3, 3), 2), "divisible by groups"),
        ("kaiming_normal_", (torch.empty(3, 3), 0, "fan"), "Mode fan not supported"),
        ("kaiming_normal_", (torch.empty(3, 3), 0, "fan_in", "gelu"), "Unsupported nonlinearity gelu"),
        ("eye_", (torch.empty(3),), "Only tensors with 2 dimensions"),
        ("sparse_", (torch.empty(3), 0.1), "Only tensors with 2 dimensions"),
        ("orthogonal_", (torch.empty(3),), "Only tensors with 2 or more dimensions"),
        ("xavier_normal_", (torch.empty(3),), "fewer than 2 dimensions"),
    ],
)
def test_what_torch_refuses_with_a_value_error_is_refused_with_one(call: str, arguments: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        getattr(init, call)(*arguments)


DISTRIBUTION_OPTIONS: dict[str, dict[str, Any]] = {
    "sparse": {"sparsity": 0.25},
    "mimetic": {"factor": "block/qk", "side": "right"},
    "constant": {"value": 2.5},
    "log-prior": {"frequencies": "3/1"},
    "values": {"values": "3/-0.5"},
}
STATED = {"constant": [2.5, 2.5], "log-prior": [-0.2876821, -1.3862944], "values": [3.0, -0.5]}


@pytest.mark.parametrize("name", sorted(name for name, found in init.DISTRIBUTIONS.items() if found.alone))
def test_the_registry_keeps_the_stated_std(name: str) -> None:
    """Structured distributions have it exactly; random ones of n = 4,800 values within 5 standard errors."""
    size = DISTRIBUTION_SHAPES.get(name, (60, 80))
    options = DISTRIBUTION_OPTIONS.get(name, {})
    if not init.DISTRIBUTIONS[name].has_std:
        values = init.DISTRIBUTIONS[name](torch.empty(2), std=None, seed=0, name="w", **options)
        assert values.tolist() == pytest.approx(STATED[name])
        return
    tensor = init.DISTRIBUTIONS[name](torch.empty(size), std=0.3, seed=0, name="w", **options)
    exact = name not in ("normal", "uniform", "truncated-normal", "sparse", "connected", "mimetic")
    drawn = 60 * 15 if name == "connected" else tensor.numel()  # the others are 0
    error = 1e-5 if exact else 5 / (2 * drawn) ** 0.5
    assert float(tensor.square().mean().sqrt()) == pytest.approx(0.3, rel=error)


@pytest.mark.parametrize(
    ("distribution", "std", "options", "message"),
    [
        ("norml", 1.0, {}, "Did you mean 'normal'"),
        ("normal", -1.0, {}, "std = -1.0, must be a number >= 0"),
        ("normal", None, {}, "std = None"),
        ("constant", 1.0, {}, "a constant has none"),
        ("normal", 1.0, {"meen": 0.0}, "no option 'meen'. It takes: mean. Did you mean 'mean'"),
        ("truncated-normal", 1.0, {"truncate_std": 0}, "must be > 0"),
        ("looks-linear", 1.0, {"mirror": "row"}, "Choose 'both', 'rows' or 'columns'"),
        ("sparse", 1.0, {"sparsity": 1.0}, "must be a share"),
        ("dirac", 1.0, {"groups": 0}, "whole number >= 1"),
        ("mimetic", 1.0, {"side": "right"}, "needs the option 'factor'"),
        ("mimetic", 1.0, {"factor": "a", "side": "top"}, "must be one of left, left-transposed, right"),
        ("log-prior", None, {"frequencies": "1/0"}, "must be numbers above 0"),
        ("values", None, {"values": "1/nan"}, "must be finite numbers"),
        ("values", None, {}, "needs the option 'values'"),
        ("orthogonal", 1.0, {"alike": ""}, "must be a word"),
        ("orthogonal", 1.0, {"columns": "1/0"}, "columns = '1/0', must be numbers above 0"),
        ("normal", 1.0, {"columns": "1/2"}, "no option 'columns'"),
    ],
)
def test_the_registry_checks_before_anything_is_drawn(distribution: str, std: Any, options: Any, message: str) -> None:
    from firstlight.init.registry import check

    with pytest.raises(OptionError, match=message.replace(".", r"\.")):
        check(distribution, std, options)


@pytest.mark.parametrize("name", [n for n in dir(torch.nn.init) if n.endswith("_") and not n.startswith("_")])
def test_signatures_begin_as_torchs(name: str) -> None:
    theirs = inspect.signature(getattr(torch.nn.init, name)).parameters.values()
    ours = list(inspect.signature(getattr(init, name)).parameters.values())
    assert [(p.name, p.default) for p in theirs] == [(p.name, p.default) for p in ours[: len(theirs)]]
    assert all(p.kind is p.KEYWORD_ONLY for p in ours[len(theirs) :])


@pytest.mark.parametrize(
    "name", ["normal", "uniform", "constant", "eye", "xavier_normal", "kaiming_uniform", "orthogonal"]
)
def test_names_without_the_underscore_are_deprecated(name: str) -> None:
    arguments = (0.5,) if name == "constant" else ()
    with pytest.warns(FutureWarning, match=f"`firstlight.init.{name}` is deprecated, use `{name}_`"):
        getattr(init, name)(torch.empty(3, 3), *arguments)
