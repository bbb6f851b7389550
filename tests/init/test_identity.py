"""The padded identity of IDInit: repeated rows, patches of convolutions, differences at the ends of branches, noise."""

import pytest
import torch
from torch import Tensor, nn

import firstlight.init as init
from firstlight.errors import OptionError
from firstlight.init.identity import near_zero_
from firstlight.init.registry import DISTRIBUTIONS


def drawn(shape: tuple[int, ...], std: float, **options: object) -> Tensor:
    return DISTRIBUTIONS["identity"](torch.empty(shape), std=std, seed=0, name="w", **options)


def test_rows_repeat_where_outputs_outnumber_inputs() -> None:
    assert init.identity_(torch.empty(4, 2)).tolist() == [[1, 0], [0, 1], [1, 0], [0, 1]]
    assert init.identity_(torch.empty(2, 3), gain=2.0).tolist() == [[2, 0, 0], [0, 2, 0]]


def test_a_patch_convolution_gives_shifted_copies_of_the_first_channels() -> None:
    """9 of 18 outputs are channel 0, each moved by one place of the 3×3 kernel; the next 9 are channel 1."""
    conv = nn.Conv2d(4, 18, 3, padding=1, padding_mode="circular", bias=False)
    init.identity_(conv.weight)
    x = torch.randn(2, 4, 5, 5)
    with torch.no_grad():
        out = conv(x)
    for i in range(18):
        row, column = divmod(i % 9, 3)
        assert torch.equal(out[:, i], x[:, i // 9].roll((1 - row, 1 - column), (1, 2)))


def test_the_centre_form_keeps_every_channel_in_place() -> None:
    conv = nn.Conv2d(4, 4, 3, padding=1, bias=False)
    init.identity_(conv.weight, kernel="centre")
    x = torch.randn(2, 4, 5, 5)
    with torch.no_grad():
        assert torch.equal(conv(x), x)


@pytest.mark.parametrize(("rows", "columns"), [(3, 3), (5, 3), (2, 5), (4, 6)])
def test_near_zero_rows_cancel_a_constant_input_and_use_every_input(rows: int, columns: int) -> None:
    made = near_zero_(torch.empty(rows, columns), 1.0)
    assert made.sum(1).tolist() == [0.0] * rows
    assert bool((made != 0).any(0)[: 2 * rows].all())


@pytest.mark.parametrize("shape", [(8, 6), (6, 8), (8, 2, 3, 3), (40, 2, 3, 3), (3, 1)])
@pytest.mark.parametrize("kernel", ["patch", "centre"])
@pytest.mark.parametrize("form", ["identity", "near-zero"])
def test_the_std_of_a_plan_is_that_of_the_values(shape: tuple[int, ...], kernel: str, form: str) -> None:
    made = drawn(shape, 0.02, kernel=kernel, form=form)
    assert float(made.double().square().mean().sqrt()) == pytest.approx(0.02, rel=1e-5)


def test_noise_parts_repeated_rows_and_touches_no_zero() -> None:
    made = drawn((400, 20), 20**-0.5, loose=0.01)
    ones = made[made != 0]
    assert len(ones) == 400
    assert len(set(made[::20, 0].tolist())) == 20
    assert abs(float(ones.std()) / 0.01 - 1) < 5 / (2 * 399) ** 0.5
    assert len(set(drawn((400, 20), 20**-0.5)[::20, 0].tolist())) == 1


def test_unknown_forms_are_refused_and_nothing_is_written() -> None:
    kept = torch.ones(2, 2)
    with pytest.raises(OptionError, match="must be 'patch' or 'centre'"):
        init.identity_(kept, kernel="patches")  # type: ignore[arg-type]  # the point of the test
    with pytest.raises(OptionError, match="two axes or more"):
        near_zero_(torch.ones(2))
    assert torch.equal(kept, torch.ones(2, 2))
