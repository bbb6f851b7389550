"""The scripts under examples/races run from end to end and draw their figures; on noise where they need fetched pictures."""

import json
import runpy
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

RACES = Path(__file__).parent.parent / "examples" / "races"
FIGURES = {
    "cats_dogs_plain_cnn": {"cats_dogs_3"},
    "depth_against_loss": {"depth_digits_sigmoid", "depth_mnist_sigmoid"},
    "he_2015": {"he_2015_3"},
    "optimizer_forgiveness": {"optimizer_forgiveness"},
    "pictures": {"cnn_mnist", "resnet_mnist", "resnet_cats_dogs", "vit_digits"},
    "small_language_models": {"small_gpt", "small_bert"},
}


def made_up(home: Path) -> None:
    """Write pictures of noise in the form in which `firstlight data fetch` leaves MNIST and CIFAR-10."""
    numbers = np.random.default_rng(0)
    mnist, cifar = home / "mnist", home / "cifar10"
    for folder in (mnist, cifar):
        folder.mkdir()
    for part, count in (("train", 200), ("t10k", 40)):
        pixels, labels = numbers.integers(0, 256, (count, 28, 28), np.uint8), np.arange(count, dtype=np.uint8) % 10
        head = struct.pack(">IIII", 0x803, count, 28, 28)
        (mnist / f"{part}-images-idx3-ubyte").write_bytes(head + pixels.tobytes())
        (mnist / f"{part}-labels-idx1-ubyte").write_bytes(struct.pack(">II", 0x801, count) + labels.tobytes())
    for name in [*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"]:
        Image.fromarray(numbers.integers(0, 256, (100, 1024, 3), np.uint8)).save(cifar / f"{name}.png")
    for part, count in (("train", 500), ("test", 100)):
        (cifar / f"{part}_lables.json").write_text(json.dumps([n % 10 for n in range(count)]))
    for folder in (mnist, cifar):
        sizes = {path.name: path.stat().st_size for path in folder.iterdir()}
        (folder / "fetched.json").write_text(json.dumps({"files": sizes}))


def test_every_script_is_covered() -> None:
    assert set(FIGURES) == {path.stem for path in RACES.glob("*.py")} - {"figures"}


@pytest.mark.slow
@pytest.mark.parametrize("name", FIGURES)
def test_a_script_prints_a_row_for_every_start_and_draws_its_figures(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    home, out = tmp_path / "data", tmp_path / "figures"
    home.mkdir()
    made_up(home)
    monkeypatch.setenv("FIRSTLIGHT_DATA", str(home))
    monkeypatch.setattr(sys, "argv", [name, "--quick", "--out", str(out)])
    monkeypatch.syspath_prepend(str(RACES))
    before = set(sys.modules)
    try:
        runpy.run_path(str(RACES / f"{name}.py"), run_name="__main__")
    finally:
        for module in set(sys.modules) - before:
            if Path(getattr(sys.modules[module], "__file__", None) or "/").is_relative_to(RACES.parent):
                del sys.modules[module]
    assert {path.stem for path in out.iterdir()} == FIGURES[name]
    assert all("<polyline" in path.read_text() for path in out.iterdir())
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| `")]
    assert len(rows) >= 2 * len(FIGURES[name])
    starts = {"he", "xavier"} if name == "he_2015" else {"xavier", "auto"}
    assert starts <= {row.split("`")[1] for row in rows}
