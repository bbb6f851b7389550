"""What the Keras initializer promises; run by test_other_libraries.py for each backend, in a process of its own."""

import doctest
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import torch

import firstlight as fl
from firstlight.errors import FanError, OptionError
from firstlight.integrations import keras as integration
from firstlight.integrations.keras import Initializer, SharedStreamWarning
from firstlight.random import Normal, TruncatedNormal, Uniform

# Keras 3.15 has arrays without NumPy 2's copy argument.
pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
)


def numbers(value: Any) -> Any:
    return keras.ops.convert_to_numpy(keras.ops.cast(value, "float32"))


def he(name: str, *shape: int) -> Any:
    return fl.init.kaiming_normal_(torch.empty(*shape), seed=0, name=name).numpy()


@pytest.mark.parametrize(
    "law", [Normal(0.5, 0.02), Uniform(-1.0, 3.0), TruncatedNormal()], ids=lambda law: type(law).__name__
)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_a_law_gives_the_bits_of_a_torch_tensor(law: Any, dtype: str) -> None:
    wanted = fl.random.fill(torch.empty(37, 101, dtype=getattr(torch, dtype)), law, seed=3, name="fc.weight")
    made = Initializer(law, seed=3, name="fc.weight")((37, 101), dtype)
    assert keras.backend.standardize_dtype(made.dtype) == dtype
    np.testing.assert_array_equal(numbers(made), wanted.float().numpy())


def test_dtype_is_keras_default_where_none_is_given() -> None:
    assert keras.backend.standardize_dtype(Initializer(seed=0, name="w")((3, 4)).dtype) == "float32"


def test_one_initializer_gives_every_layer_numbers_of_its_own() -> None:
    init = Initializer("he-normal", seed=0)
    dense = [keras.layers.Dense(16, kernel_initializer=init, name=name) for name in "ab"]
    keras.Sequential([keras.Input((16,)), *dense], name="net")
    assert [layer.kernel.path for layer in dense] == ["net/a/kernel", "net/b/kernel"]
    np.testing.assert_array_equal(numbers(dense[0].kernel), he("net/a/kernel", 16, 16))
    np.testing.assert_array_equal(numbers(dense[1].kernel), he("net/b/kernel", 16, 16))


def test_copies_that_keras_makes_get_numbers_of_their_own() -> None:
    init = Initializer("he-normal", seed=0)
    attention = keras.layers.MultiHeadAttention(2, 8, kernel_initializer=init, name="attention")
    attention.build((None, 4, 16), (None, 4, 16))
    both = keras.layers.Bidirectional(keras.layers.LSTM(4, kernel_initializer=init), name="both")
    both.build((None, 5, 16))
    kernels = {v.path: numbers(v) for v in (*attention.variables, *both.variables) if v.path.endswith("/kernel")}
    assert len(kernels) == 6
    shared = [(a, b) for a in kernels for b in kernels if a < b and np.isin(kernels[a], kernels[b]).any()]
    assert shared == []


class Lazy(keras.Model):  # type: ignore[misc]
    """Its layers get their variables only when the model is first called."""

    def __init__(self) -> None:
        super().__init__(name="lazy")
        init = Initializer("he-normal", seed=0)
        self.first = keras.layers.Dense(8, kernel_initializer=init, name="first")
        self.second = keras.layers.Dense(8, kernel_initializer=init, name="second")

    def call(self, x: Any) -> Any:
        return self.second(self.first(x))


def test_variables_made_late_are_named_by_their_paths_too() -> None:
    model = Lazy()
    model.compile("sgd", "mse")
    model.fit(np.zeros((2, 8), np.float32), np.zeros((2, 8), np.float32), verbose=0)
    model = Lazy()
    model(np.zeros((2, 8), np.float32))
    for layer in (model.first, model.second):
        np.testing.assert_array_equal(numbers(layer.kernel), he(f"lazy/{layer.name}/kernel", 8, 8))


def test_a_name_that_two_variables_get_is_reported() -> None:
    init = Initializer("he-normal", seed=0, name="fc.weight")
    for _ in range(2):  # made again, as a model is in a notebook: nothing to report
        first = keras.layers.Dense(8, kernel_initializer=init, name="one")
        first.build((None, 8))
    np.testing.assert_array_equal(numbers(first.kernel), he("fc.weight", 8, 8))
    second = keras.layers.Dense(8, kernel_initializer=init, name="two")
    with pytest.warns(
        SharedStreamWarning, match=r"'two/kernel' and 'one/kernel' hold the same numbers.*Leave name= away"
    ):
        second.build((None, 8))
    attention = keras.layers.MultiHeadAttention(2, 8, kernel_initializer=Initializer(seed=0, name="qkv"))
    with pytest.warns(SharedStreamWarning, match="hold the same numbers"):
        attention.build((None, 4, 16), (None, 4, 16))


def test_without_name_or_path_nothing_is_made() -> None:
    with pytest.raises(OptionError, match=r"for shape \(3, 4\) outside of a Keras variable.*Give it a name"):
        Initializer("he-normal", seed=0)((3, 4))


@pytest.mark.parametrize(
    "init",
    [
        Initializer("he-normal", seed=5, name="w", a=0.2, mode="fan_out"),
        Initializer("xavier-uniform", seed=5, name="w", in_axis=0, out_axis=(1, 2), gain=2.0),
        Initializer(TruncatedNormal(0.0, 1.0, -1.0, float("inf")), seed=5, name="w"),
        Initializer("orthogonal", seed=5, name="w", gain=1.5),
        Initializer("normal", seed=5, name="w", std=0.02),
    ],
    ids=lambda init: str(init.initial.which),
)
def test_its_config_makes_it_again(init: Initializer) -> None:
    again = keras.initializers.deserialize(keras.initializers.serialize(init))
    assert type(again) is Initializer
    assert again.initial == init.initial
    shape = (4, 3, 2) if init.initial.in_axis == 0 else (4, 6)
    np.testing.assert_array_equal(numbers(init(shape)), numbers(again(shape)))


def test_a_saved_model_is_loaded_with_its_initializer(tmp_path: Path) -> None:
    init = Initializer("he-normal", seed=0, name=None)
    model = keras.Sequential(
        [keras.Input((8,)), keras.layers.Dense(8, kernel_initializer=init, name="d")], name="saved"
    )
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.layers[0].kernel_initializer.get_config() == init.get_config()
    np.testing.assert_array_equal(numbers(loaded.layers[0].kernel), he("saved/d/kernel", 8, 8))


def test_convolutions_and_projections_have_keras_fans() -> None:
    """Keras' own Initializer is the measure: 18,432 values each, so 5 standard errors of the ratio are 3.7 %."""
    shape = (3, 3, 32, 64)
    mine = numbers(Initializer("he-normal", seed=0, name="w")(shape)).std()
    theirs = numbers(keras.initializers.HeNormal(seed=0)(shape)).std()
    assert abs(mine / theirs - 1) < 5 / np.sqrt(np.prod(shape))
    wrong = numbers(Initializer("he-normal", seed=0, name="w", mode="fan_out")(shape)).std()
    assert abs(wrong / theirs - 1) > 5 / np.sqrt(np.prod(shape))


def test_what_cannot_be_made_is_refused() -> None:
    with pytest.raises(OptionError, match="'he-norml' is not known"):
        Initializer("he-norml", seed=0)
    with pytest.raises(OptionError, match="must be an integer with 0 <= seed"):
        Initializer("he-normal", seed=-1)
    with pytest.raises(FanError, match=r"shape \(3,\)"):
        Initializer("he-normal", seed=0, name="w")((3,))


def test_examples_in_the_module_are_true() -> None:
    assert doctest.testmod(integration).failed == 0
    assert doctest.testmod(integration).attempted > 2
