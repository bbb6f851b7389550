"""What the JAX initializers promise; run by test_other_libraries.py, in a process with four devices."""

import contextlib
import doctest
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from jax.sharding import NamedSharding, PartitionSpec

import firstlight as fl
from firstlight.errors import DtypeError, FanError, OptionError
from firstlight.init import DISTRIBUTIONS
from firstlight.integrations import jax as integration
from firstlight.integrations.arrays import WITHOUT_STD, WORDS
from firstlight.integrations.jax import initialize, initializer
from firstlight.random import Law, Normal, TruncatedNormal, Uniform

LAWS: list[Law] = [Normal(0.5, 0.02), Uniform(-1.0, 3.0), TruncatedNormal(0.0, 1.0, -1.0, 4.0)]


def same_bits(array: jax.Array, tensor: torch.Tensor) -> bool:
    mine = np.asarray(array)
    return (
        mine.shape == tuple(tensor.shape) and mine.tobytes() == tensor.contiguous().view(torch.uint8).numpy().tobytes()
    )


NEEDED = {
    "mimetic": {"factor": "block/qk", "side": "right"},
    "log-prior": {"frequencies": "3/2/1/1"},
    "values": {"values": "3/2/1/-1"},
}


def options(word: str) -> dict[str, Any]:
    """Return the least that a word needs, also one that was added to the registry after this was written."""
    std = {"std": 0.1} if word in DISTRIBUTIONS and DISTRIBUTIONS[word].has_std and word not in WITHOUT_STD else {}
    return std | NEEDED.get(word, {})


@pytest.mark.parametrize("law", LAWS, ids=lambda law: type(law).__name__)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", "float8_e4m3fn"])
def test_a_law_gives_the_bits_of_a_torch_tensor(law: Law, dtype: str) -> None:
    wanted = fl.random.fill(torch.empty(37, 101, dtype=getattr(torch, dtype)), law, seed=3, name="fc.weight")
    assert same_bits(initializer(law, seed=3, name="fc.weight")((37, 101), getattr(jnp, dtype)), wanted)


def test_float64_needs_x64_and_then_gives_53_bit_draws() -> None:
    init = initializer(Normal(), seed=0, name="w")
    with pytest.raises(DtypeError, match="jax_enable_x64"):
        init((3, 4), jnp.float64)
    jax.config.update("jax_enable_x64", True)
    try:
        wanted = fl.random.fill(torch.empty(3, 4, dtype=torch.float64), Normal(), seed=0, name="w")
        assert same_bits(init((3, 4), jnp.float64), wanted)
    finally:
        jax.config.update("jax_enable_x64", False)


@pytest.mark.parametrize(
    ("word", "theirs"),
    [
        ("xavier-normal", fl.init.xavier_normal_),
        ("xavier-uniform", fl.init.xavier_uniform_),
        ("he-normal", fl.init.kaiming_normal_),
        ("he-uniform", fl.init.kaiming_uniform_),
        ("lecun-normal", fl.init.lecun_normal_),
        ("lecun-uniform", fl.init.lecun_uniform_),
        ("variance-scaling-truncated-normal", fl.init.variance_scaling_),
        ("orthogonal", fl.init.orthogonal_),
    ],
)
def test_a_square_kernel_is_what_firstlight_init_writes(word: str, theirs: Any) -> None:
    """Square, so that (in, out) and (out, in) have the same fans and the same law."""
    wanted = theirs(torch.empty(64, 64), seed=0, name="w")
    made = initializer(word, seed=0, name="w")((64, 64))
    assert same_bits(made, wanted.T if word == "orthogonal" else wanted)


@pytest.mark.parametrize(
    "word", ["orthogonal", "centred-orthogonal", "looks-linear", "delta-orthogonal", "identity", "dirac"]
)
def test_whole_matrix_methods_are_torchs_with_the_axes_moved(word: str) -> None:
    function = getattr(fl.init, f"{word.replace('-', '_')}_")
    stream = {} if word in ("identity", "dirac") else {"seed": 0, "name": "w"}
    wanted = function(torch.empty(8, 4, 3, 5), **stream)  # (out, in, height, width)
    made = initializer(word, seed=0, name="w")((3, 5, 4, 8))
    assert same_bits(made, wanted.permute(2, 3, 1, 0))


def test_options_reach_the_method() -> None:
    wanted = fl.init.kaiming_normal_(torch.empty(6, 6), a=0.2, mode="fan_out", seed=0, name="w")
    assert same_bits(initializer("he-normal", a=0.2, mode="fan_out", seed=0, name="w")((6, 6)), wanted)
    wanted = fl.init.orthogonal_(torch.empty(6, 6), gain=2.0, seed=0, name="w").T
    assert same_bits(initializer("orthogonal", gain=2.0, seed=0, name="w")((6, 6)), wanted)
    wanted = fl.init.truncated_normal_(torch.empty(6, 6), 0.1, 0.3, 1.5, seed=0, name="w")
    made = initializer("truncated-normal", std=0.3, mean=0.1, truncate_std=1.5, seed=0, name="w")((6, 6))
    assert same_bits(made, wanted)


@pytest.mark.parametrize("word", WORDS)
def test_every_word_is_repeatable_and_has_the_shape_and_dtype(word: str) -> None:
    """A word takes convolutions, or only matrices, or only vectors."""
    init = initializer(word, seed=0, name="w", **options(word))
    made = {}
    for shape in ((3, 3, 4, 8), (8, 8), (4,)):
        with contextlib.suppress(ValueError):  # which OptionError and FanError are
            made[shape] = init(shape, jnp.bfloat16)
    assert made
    for shape, first in made.items():
        assert first.shape == shape
        assert first.dtype == jnp.bfloat16
        assert bool((first == init(shape, dtype=jnp.bfloat16)).all())


JAX_NAMES = {
    f"{a}-{b}": (a if a != "xavier" else "glorot", b) for a in ("xavier", "he", "lecun") for b in ("normal", "uniform")
}


@pytest.mark.parametrize(
    ("word", "shape", "axes"),
    [
        *((word, (300, 200), {}) for word in JAX_NAMES),
        ("he-normal", (3, 3, 64, 128), {}),
        ("xavier-uniform", (64, 8, 40), {"in_axis": 0, "out_axis": (1, 2)}),
    ],
)
def test_the_spread_is_that_of_jaxs_own(word: str, shape: tuple[int, ...], axes: Any) -> None:
    """n >= 20,480 values: the ratio of two stds has standard error at most 1/√n = 0.7 %; 5 of them are 3.5 %.

    JAX's normal ones are cut at two stds and keep the std after the cut, so stds are comparable. Wrong fans would differ by
    22 % here, √(300/200), and by more for the others.
    """
    scheme, kind = JAX_NAMES[word]
    theirs = getattr(jax.nn.initializers, f"{scheme}_{kind}")(**axes)(jax.random.key(0), shape)
    mine = initializer(word, seed=0, name="w", **axes)(shape)
    assert abs(float(mine.std() / theirs.std()) - 1) < 5 / math.sqrt(math.prod(shape))


def test_the_spread_check_sees_swapped_axes() -> None:
    shape = (300, 200)
    theirs = jax.nn.initializers.he_normal()(jax.random.key(0), shape)
    mine = initializer("he-normal", seed=0, name="w", in_axis=-1, out_axis=-2)(shape)
    assert abs(float(mine.std() / theirs.std()) - 1) > 5 / math.sqrt(math.prod(shape))


def test_without_a_seed_the_key_is_the_seed() -> None:
    """As flax calls it: init(key, shape, dtype)."""
    keyed = initializer("he-normal", name="w")
    wanted = initializer("he-normal", seed=7, name="w")((20, 30), jnp.bfloat16)
    assert bool((keyed(jax.random.key(7), (20, 30), jnp.bfloat16) == wanted).all())
    assert bool((keyed(jax.random.PRNGKey(7), (20, 30), jnp.bfloat16) == wanted).all())
    left, right = jax.random.split(jax.random.key(7))
    assert not bool((keyed(left, (20, 30)) == keyed(right, (20, 30))).any())


def test_under_jit_and_vmap_the_values_are_the_same() -> None:
    keyed, free = initializer("he-normal"), initializer("he-normal", seed=0, name="w")
    key = jax.random.key(5)
    assert bool((jax.jit(lambda k: keyed(k, (20, 30)))(key) == keyed(key, (20, 30))).all())
    assert bool((jax.jit(lambda: free((20, 30)))() == free((20, 30))).all())
    keys = jax.random.split(key, 3)
    stacked = jax.vmap(lambda k: keyed(k, (20, 30)))(keys)
    assert all(bool((stacked[i] == keyed(keys[i], (20, 30))).all()) for i in range(3))
    assert jax.eval_shape(lambda k: keyed(k, (20, 30)), key).shape == (20, 30)


def test_other_kinds_of_keys_are_seeds_too() -> None:
    keyed = initializer("he-normal")
    key = jax.random.key(0, impl="rbg")
    assert bool((keyed(key, (4, 4)) == keyed(key, (4, 4))).all())
    assert not bool((keyed(key, (4, 4)) == keyed(jax.random.key(1, impl="rbg"), (4, 4))).any())


def test_it_is_called_as_jaxs_own_initializers_are() -> None:
    theirs, mine, key = jax.nn.initializers.he_normal(), initializer("he-normal"), jax.random.key(0)
    mesh = jax.make_mesh((4,), ("a",))
    sharding = NamedSharding(mesh, PartitionSpec("a"))
    with jax.set_mesh(mesh):
        for options in ((), (jnp.bfloat16,), (None,), (None, None), (None, sharding)):
            a, b = mine(key, (8, 12), *options), theirs(key, (8, 12), *options)
            assert (a.shape, a.dtype) == (b.shape, b.dtype)
        late = jax.jit(lambda k: mine(k, (8, 12), out_sharding=sharding))(key)
    for made in (mine(key, (8, 12), None, sharding), late):
        assert made.sharding.is_equivalent_to(sharding, 2)
        assert np.array_equal(np.asarray(made), np.asarray(mine(key, (8, 12))))
    with pytest.raises(OptionError, match=r"names no devices. Give jax.sharding.NamedSharding"):
        mine(key, (8, 12), None, PartitionSpec("a"))


@pytest.mark.parametrize("word", ["he-normal", "orthogonal"])
@pytest.mark.parametrize("spec", [("a", "b"), (None, "a"), (("a", "b"),), ()])
def test_a_sharded_array_is_the_whole_one(word: str, spec: Any) -> None:
    sharding = NamedSharding(jax.make_mesh((2, 2), ("a", "b")), PartitionSpec(*spec))
    init = initializer(word, seed=0, name="w")
    made = init((8, 12), out_sharding=sharding)
    assert made.sharding.is_equivalent_to(sharding, 2)
    assert np.array_equal(np.asarray(made), np.asarray(init((8, 12))))


def test_a_tree_is_named_by_its_places() -> None:
    shapes = {"a": {"kernel": jax.ShapeDtypeStruct((4, 4), jnp.float32)}, "b": [jnp.zeros((4, 4)), jnp.ones(3)]}
    he = initializer("he-normal")
    filled = initialize(shapes, lambda name, leaf: he if leaf.ndim > 1 else None, seed=2)
    assert same_bits(filled["a"]["kernel"], fl.init.kaiming_normal_(torch.empty(4, 4), seed=2, name="a/kernel"))
    assert same_bits(filled["b"][0], fl.init.kaiming_normal_(torch.empty(4, 4), seed=2, name="b/0"))
    assert filled["b"][1].tolist() == [1.0, 1.0, 1.0]
    with pytest.raises(OptionError, match=r"'a/kernel' was given an initializer with a seed of its own"):
        initialize(shapes, lambda name, leaf: initializer("he-normal", seed=0, name="w"), seed=2)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: initializer("he-norml"), OptionError, r"'he-norml' is not known.*Did you mean 'he-normal'"),
        (
            lambda: initializer("he-normal", mood="x"),
            OptionError,
            r"no option 'mood'. It takes: a, mode. Did you mean 'mode'",
        ),
        (lambda: initializer("he-normal", mode="fanin"), OptionError, "is not a fan mode"),
        (lambda: initializer("he-normal", a=True), OptionError, "a = True, must be a number"),
        (lambda: initializer("he-normal", std=0.1), OptionError, "takes its std from the fans"),
        (lambda: initializer("normal"), OptionError, "std = None, must be a number"),
        (lambda: initializer("variance-scaling-normal", scale=-1.0), OptionError, "scale = -1.0, must be"),
        (lambda: initializer(Normal(), std=0.1), OptionError, "has its numbers already"),
        (lambda: initializer("he-normal", seed=0), OptionError, "seed= was given without name="),
        (lambda: initializer("he-normal", seed=-1, name="w"), OptionError, "must be an integer with 0 <= seed"),
        (lambda: initializer("he-normal")((3, 4)), OptionError, "first argument must be a key"),
        (
            lambda: initializer("he-normal", seed=0, name="w")(jax.random.key(0), (3, 4)),
            OptionError,
            "was given a key too",
        ),
        (lambda: initializer("he-normal", seed=0, name="w")(), OptionError, "got 0 arguments"),
        (lambda: initializer("he-normal", seed=0, name="w")((3,)), FanError, r"shape \(3,\) with in_axis = -2"),
        (lambda: initializer("he-normal", seed=0, name="w")((3, 4), jnp.int32), DtypeError, "cannot be filled"),
        (
            lambda: initializer("orthogonal", seed=0, name="w", batch_axis=0)((2, 3, 4)),
            OptionError,
            "has no batch_axis",
        ),
    ],
)
def test_what_cannot_be_made_is_refused_in_one_line(make: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)


def test_examples_in_the_module_are_true() -> None:
    assert doctest.testmod(integration).failed == 0
    assert doctest.testmod(integration).attempted > 5
