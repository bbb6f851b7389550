"""Tasks: real data, fixed splits that do not overlap, clear refusals."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from firstlight.errors import DataError, OptionError
from firstlight.race import task


def test_digits_are_split_apart_and_standardised() -> None:
    digits = task("digits")
    parts = [digits.train, digits.validation, digits.test]
    assert sum(len(labels) for _, labels in parts) == 1797
    assert digits.classes == 10
    flat = torch.cat([inputs.flatten(1) for inputs, _ in parts])
    assert len(torch.unique(flat, dim=0)) == 1797  # no image is in two parts
    assert float(digits.train[0].mean()) == pytest.approx(0, abs=1e-5)
    assert float(digits.train[0].std()) == pytest.approx(1, abs=1e-3)
    for _, labels in parts:
        assert len(set(labels.tolist())) == 10


def test_splits_and_batches_do_not_depend_on_global_state() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        first = task("digits").batch(32, seed=5)
        torch.manual_seed(2)
        second = task("digits").batch(32, seed=5)
    assert torch.equal(first[0], second[0])
    assert not torch.equal(first[1], task("digits").batch(32, seed=6)[1])
    assert len(task("digits").batch(10**6)[1]) == 1252


def save(path: Path, **arrays: Any) -> str:
    np.savez(path, **arrays)
    return str(path)


def test_a_file_with_x_and_y_is_a_task(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    x, y = generator.normal(5, 3, (200, 4)), generator.integers(0, 3, 200)
    found = task(save(tmp_path / "mine.npz", x=x, y=y))
    assert (found.name, found.classes, found.train[0].shape[1:]) == ("mine", 3, (4,))
    assert float(found.train[0].mean()) == pytest.approx(0, abs=1e-5)


X, Y = np.arange(120.0).reshape(40, 3), np.zeros(40, int)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": X}, "but no 'y'"),
        ({"x": X, "y": Y[:7]}, "x has 40 examples and y has shape"),
        ({"x": X, "y": Y + 0.5}, "labels must be whole numbers"),
        ({"x": X, "y": Y - 1}, "labels run from -1"),
        ({"x": X[:5], "y": Y[:5]}, "at least 20"),
        ({"x": np.full((40, 3), np.nan), "y": Y}, "120 of 120 inputs are NaN or infinite"),
        ({"x": Y, "y": Y}, "must be numbers, examples first"),
        ({"x": np.array([["a"]] * 40), "y": Y}, "must be numbers"),
        ({"x": X[:, :0], "y": Y}, r"x has shape \(40, 0\)"),
        ({"x": X * 0 + 3, "y": Y}, "every input is 3"),
        ({"x": X * 1e300, "y": Y}, r"inputs reach 1\.19e\+302"),
        ({"x": X, "y": np.arange(40)}, "no class has more than 1 examples; 4 are needed"),
    ],
)
def test_files_that_cannot_be_used_are_refused(arrays: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        task(save(tmp_path / "bad.npz", **arrays))


def test_what_is_no_task_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="Did you mean 'digits'"):
        task("digit")
    with pytest.raises(DataError, match="there is no file"):
        task("nowhere.npz")
    whole = Path(save(tmp_path / "whole.npz", x=X, y=Y)).read_bytes()
    for text in (b"hello", whole[: len(whole) // 2], b""):
        (tmp_path / "cut.npz").write_bytes(text)
        with pytest.raises(DataError, match="is not a whole"):
            task(str(tmp_path / "cut.npz"))
    with (tmp_path / "one.npz").open("wb") as file:
        np.save(file, X)
    with pytest.raises(DataError, match="holds one array, not x and y"):
        task(str(tmp_path / "one.npz"))
    np.savez(tmp_path / "objects.npz", x=np.array([{}] * 40, dtype=object), y=Y)
    with pytest.raises(DataError, match="plain arrays"):
        task(str(tmp_path / "objects.npz"))
