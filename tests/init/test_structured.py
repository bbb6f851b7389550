"""Initializers with structure do what their structure promises."""

import math
from typing import Any

import pytest
import torch
from scipy import stats
from torch import Tensor, nn

import firstlight.init as init
from firstlight.errors import FanError, OptionError

WHERE: dict[str, Any] = {"seed": 0, "name": "w"}


def gram_error(matrix: Tensor) -> float:
    small = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    return float((small @ small.T - torch.eye(small.shape[0], dtype=matrix.dtype)).abs().max())


@pytest.mark.parametrize("shape", [(5, 5), (3, 7), (7, 3), (20, 2, 3, 4), (2, 3, 4, 5)])
def test_orthogonal_is_orthogonal(shape: tuple[int, ...]) -> None:
    assert gram_error(init.orthogonal_(torch.empty(shape), **WHERE).flatten(1)) < 1e-6
    assert gram_error(init.orthogonal_(torch.empty(shape, dtype=torch.float64), **WHERE).flatten(1)) < 1e-14


def test_orthogonal_is_uniform_and_the_check_sees_raw_qr() -> None:
    """For Haar matrices entries of the diagonal have mean 0; QR with LAPACK's signs makes them mostly negative."""
    draws = [init.orthogonal_(torch.empty(4, 4), seed=seed, name="w") for seed in range(600)]
    raw = [torch.linalg.qr(init.normal_(torch.empty(4, 4), seed=seed, name="w"))[0] for seed in range(600)]
    bound = 5 * 0.5 / math.sqrt(600 * 4)  # an entry of a 4 x 4 Haar matrix has variance 1/4
    assert abs(float(torch.stack(draws).diagonal(dim1=1, dim2=2).mean())) < bound
    assert abs(float(torch.stack(raw).diagonal(dim1=1, dim2=2).mean())) > bound
    assert float(torch.stack(draws).square().mean()) == pytest.approx(0.25, rel=1e-5)


@pytest.mark.parametrize("shape", [(600, 520), (300, 600), (257, 257)])
def test_orthogonal_is_the_product_of_its_reflections_across_panels(shape: tuple[int, int]) -> None:
    """LAPACK multiplies the same reflections one by one; torch's signs of R's diagonal are undone."""
    made = init.orthogonal_(torch.empty(shape, dtype=torch.float64), **WHERE)
    rows, columns = max(shape), min(shape)
    drawn = init.normal_(torch.empty(rows, columns, dtype=torch.float64), **WHERE).tril()
    heads, norms = drawn.diagonal(), drawn.norm(dim=0)
    signs = torch.where(heads < 0, -1.0, 1.0)
    wanted = -signs * torch.linalg.householder_product(drawn / (heads + signs * norms), 1 + heads.abs() / norms)
    torch.testing.assert_close(made if shape[0] >= shape[1] else made.T, wanted, atol=1e-13, rtol=0)


def test_threads_do_not_change_a_bit_of_an_orthogonal_matrix() -> None:
    before, drawn = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            drawn.append(init.orthogonal_(torch.empty(700, 600), **WHERE))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(drawn[0], drawn[1])
    assert torch.equal(drawn[0], drawn[2])


@pytest.mark.parametrize("shape", [(6, 9), (9, 6), (4, 3, 3, 3)])
def test_centred_rows_sum_to_zero(shape: tuple[int, ...]) -> None:
    matrix = init.centred_orthogonal_(torch.empty(shape), **WHERE).flatten(1)
    assert float(matrix.sum(1).abs().max()) < 1e-6
    rows, n = matrix.shape
    if rows < n:
        assert gram_error(matrix) < 1e-6
    else:
        torch.testing.assert_close(matrix.T @ matrix, torch.eye(n) - 1 / n, atol=1e-6, rtol=0)


def test_delta_orthogonal_keeps_the_norm_of_every_pixel() -> None:
    conv = nn.Conv2d(6, 10, 3, padding=1, padding_mode="circular", bias=False)
    init.delta_orthogonal_(conv.weight, **WHERE)
    x = init.normal_(torch.empty(2, 6, 5, 5), seed=0, name="x")
    torch.testing.assert_close(conv(x).norm(dim=1), x.norm(dim=1))


def test_looks_linear_relu_networks_are_linear_and_keep_the_norm_at_depth_thirty() -> None:
    weights = [
        init.looks_linear_(
            torch.empty(32, 32 if layer else 16),
            1.0,
            "both" if layer else "rows",
            seed=0,
            name=f"{layer}",
        )
        for layer in range(30)
    ]
    last = init.looks_linear_(torch.empty(16, 32), 1.0, "columns", **WHERE)

    def network(x: Tensor) -> Tensor:
        for weight in weights:
            x = torch.relu(x @ weight.T)
        return x @ last.T

    x, y = (init.normal_(torch.empty(4, 16), seed=0, name=name) for name in "xy")
    torch.testing.assert_close(network(x) + network(y), network(x + y), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(network(x).norm(dim=1), x.norm(dim=1), atol=1e-3, rtol=1e-3)


def test_the_middle_of_an_odd_number_of_mirrored_units_has_no_partner() -> None:
    weight = init.looks_linear_(torch.empty(7, 9), **WHERE)
    torch.testing.assert_close(weight[:3], -weight[4:])
    torch.testing.assert_close(weight[:, :4], -weight[:, 5:])
    assert torch.equal(weight[:, 4], torch.zeros(7))
    torch.testing.assert_close(weight[:4, :4] @ weight[:4, :4].T, torch.eye(4))


def test_looks_linear_convolutions_have_the_matrix_at_the_centre() -> None:
    weight = init.looks_linear_(torch.empty(8, 6, 3, 3), **WHERE)
    assert float(weight[:, :, 1, 1].abs().sum()) == pytest.approx(float(weight.abs().sum()))
    torch.testing.assert_close(weight[:4, :3], -weight[4:, :3])


def test_dirac_passes_channels_through_in_each_group() -> None:
    conv = nn.Conv1d(4, 4, 3, padding=1, groups=2, bias=False)
    init.dirac_(conv.weight, groups=2)
    x = torch.randn(2, 4, 9, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(conv(x), x)


def test_sparse_columns_have_the_stated_zeros() -> None:
    matrix = init.sparse_(torch.empty(25, 40), 0.3, std=0.5, **WHERE)
    assert (matrix == 0).sum(0).tolist() == [8] * 40
    places = (matrix == 0).float().mean(1)
    assert float(places.std()) < 0.15
    assert float(matrix[matrix != 0].std()) == pytest.approx(0.5, rel=5 / math.sqrt(2 * 680))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: init.orthogonal_(torch.empty(3)), OptionError, "2 or more dimensions"),
        (lambda: init.eye_(torch.empty(3)), OptionError, "Only tensors with 2 dimensions"),
        (lambda: init.dirac_(torch.empty(3, 3)), OptionError, "3, 4, or 5 dimensions"),
        (lambda: init.dirac_(torch.empty(3, 3, 3), groups=2), OptionError, "divisible by groups"),
        (lambda: init.delta_orthogonal_(torch.empty(3, 4, 3)), OptionError, "at least as many outputs"),
        (lambda: init.delta_orthogonal_(torch.empty(3, 4)), OptionError, "3, 4 or 5 axes"),
        (lambda: init.looks_linear_(torch.empty(1, 4)), OptionError, "rows, which must be 2 or more"),
        (lambda: init.looks_linear_(torch.empty(4, 4), 1.0, "row"), OptionError, "Did you mean 'rows'"),  # type: ignore[arg-type]
        (lambda: init.centred_orthogonal_(torch.empty(4, 1)), OptionError, "cannot sum to zero"),
        (lambda: init.sparse_(torch.empty(4, 4), 1.5), OptionError, "a share from 0 to 1"),
        (lambda: init.sparse_(torch.empty(4), 0.5), OptionError, "Only tensors with 2 dimensions"),
        (lambda: init.xavier_normal_(torch.empty(4)), FanError, "shape \\(4,\\) has 1 axis"),
        (lambda: init.kaiming_normal_(torch.empty(4, 4), mode="fan"), OptionError, "Mode fan not supported"),
        (lambda: init.kaiming_normal_(torch.empty(4, 4), nonlinearity="x"), OptionError, "Unsupported nonlinearity x"),
        (lambda: init.variance_scaling_(torch.empty(4, 4), mode="fanin"), OptionError, "Did you mean 'fan_in'"),
        (lambda: init.variance_scaling_(torch.empty(4, 4), distribution="norml"), OptionError, "Did you mean 'normal'"),
        (
            lambda: init.truncated_normal_(torch.empty(4), truncate_std=-1.0),
            OptionError,
            "must be a number > 0, in stds",
        ),
    ],
)
def test_what_cannot_be_done_is_refused(call: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()  # type: ignore[operator]


def test_fans_count_groups_and_transposition() -> None:
    assert init.fans((64, 32, 3, 3)) == (288, 576)
    assert init.fans((64, 1, 3, 3), groups=64) == (9, 9)
    assert init.fans((16, 8, 5), transposed=True) == (80, 40)
    assert init._calculate_fan_in_and_fan_out(torch.empty(4, 6)) == (6, 4)  # type: ignore[attr-defined]
    assert init._calculate_correct_fan(torch.empty(4, 6), "FAN_OUT") == 4  # type: ignore[attr-defined]


def test_entries_of_three_by_three_matrices_are_uniform() -> None:
    """A row of a Haar matrix is uniform on the sphere, and in three dimensions its coordinates are uniform (Archimedes)."""
    draws = torch.stack(
        [init.orthogonal_(torch.empty(3, 3, dtype=torch.float64), seed=seed, name="w") for seed in range(1500)]
    )
    for row, column in ((0, 0), (1, 2), (2, 1), (2, 2)):
        assert stats.kstest(draws[:, row, column].numpy(), stats.uniform(-1, 2).cdf).pvalue > 1e-3
    tilted = torch.stack([torch.linalg.qr(draw + torch.eye(3))[0] for draw in draws])  # not uniform, and seen to be so
    assert stats.kstest(tilted[:, 0, 0].numpy(), stats.uniform(-1, 2).cdf).pvalue < 1e-6
