"""JAX: initializers that flax, haiku, equinox and plain functions take, with the bits of a torch tensor.

An initializer with seed and name is a function of (shape, dtype) and needs no key. Without a seed it is a function of
(key, shape, dtype), as `jax.nn.initializers` are, and the key is the seed: `jax.random.key(7)` stands for seed 7. Import
this module by its full name; firstlight itself never imports JAX.
"""

import hashlib
from collections.abc import Callable, Sequence
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np

from firstlight.errors import DtypeError, OptionError
from firstlight.integrations.arrays import Axis, Initial
from firstlight.random import Law, key

Shape = Sequence[int]


class Initializer:
    """An initializer by name or law. Make it with `initializer`."""

    def __init__(self, initial: Initial, seed: int | None, name: str | None) -> None:
        if seed is not None and name is None:
            raise OptionError(
                "seed= was given without name=: two arrays with the same seed and no name would get the same numbers. Give "
                "the array's full name, such as name='fc.weight'; or leave seed= away, and the key is the seed."
            )
        if seed is not None:
            key(seed, "")  # refuses a seed out of range
        self.initial, self.seed, self.name = initial, seed, name

    def __call__(self, *call: Any, dtype: Any = None, out_sharding: jax.sharding.Sharding | None = None) -> jax.Array:
        """Return the array for (shape, dtype, out_sharding), or, without a seed, for (key, shape, dtype, out_sharding).

        dtype None is JAX's default. With `out_sharding`, every device's part is made alone; no device, and not the host, ever
        holds the whole, where elements are independent.
        """
        given = None
        if self.seed is None:
            given, *call = self._key_first(call)  # type: ignore[assignment]
        elif call and _is_key(call[0]):
            raise OptionError(
                f"this initializer has seed = {self.seed} and name = '{self.name}' of its own, and was given a key too. "
                "Leave seed= away, and the key is the seed; or, for one array only, pass "
                "`lambda key, shape, dtype: init(shape, dtype)`. Nothing was made."
            )
        if not 1 <= len(call) <= 3:
            raise OptionError(
                f"an initializer takes a shape, a dtype and a sharding, got {len(call)} arguments. Nothing was made."
            )
        asked = [*call, *(dtype, out_sharding)[len(call) - 1 :]]
        _check_sharding(asked[2])
        return self._array(given, tuple(int(n) for n in asked[0]), _dtype(asked[1]), asked[2])

    def _array(self, given: Any, shape: Shape, dtype: Any, sharding: jax.sharding.Sharding | None) -> jax.Array:
        name = self.name or ""
        if self.seed is not None:
            return self._make(shape, dtype, self.seed, name, sharding)
        if not isinstance(given, jax.core.Tracer):
            return self._make(shape, dtype, _seed_of(np.asarray(given)), name, sharding)
        made = self._make_later(given, shape, dtype, name)
        return made if sharding is None else jax.device_put(made, sharding)

    def _key_first(self, call: Sequence[Any]) -> tuple[Any, ...]:
        if not call or not _is_key(call[0]):
            raise OptionError(
                "this initializer has no seed, so its first argument must be a key: init(jax.random.key(0), shape, dtype). "
                "Or make it with seed= and name=, and call it as init(shape, dtype). Nothing was made."
            )
        first = call[0]
        words = jax.random.key_data(first) if jnp.issubdtype(first.dtype, jax.dtypes.prng_key) else first
        return (words, *call[1:])

    def _make(
        self, shape: Shape, dtype: Any, seed: int, name: str, sharding: jax.sharding.Sharding | None
    ) -> jax.Array:
        if sharding is None:
            return jnp.asarray(self.initial.array(shape, dtype, seed=seed, name=name))
        return jax.make_array_from_callback(
            tuple(shape), sharding, lambda index: self.initial.region(shape, index or (), dtype, seed=seed, name=name)
        )

    def _make_later(self, words: jax.Array, shape: Shape, dtype: Any, name: str) -> jax.Array:
        """Return the array inside `jit`, where the key has no value yet: the host makes it when the function runs."""

        def make(found: Any) -> Any:
            return self.initial.array(shape, dtype, seed=_seed_of(np.asarray(found)), name=name)

        self.initial.law(shape)  # what is refused is refused now
        made = jax.pure_callback(make, jax.ShapeDtypeStruct(shape, dtype), words, vmap_method="sequential")
        return cast(jax.Array, made)


def initializer(
    which: str | Law,
    *,
    std: float | None = None,
    seed: int | None = None,
    name: str | None = None,
    in_axis: Axis = -2,
    out_axis: Axis = -1,
    batch_axis: Axis = (),
    **options: Any,
) -> Initializer:
    """Return an initializer whose values are, bit for bit, those of a torch tensor of the same shape, law, seed and name.

    Fans follow JAX's axes, (*kernel, in, out). Methods that need the whole matrix are torch's with the axes moved, so that a
    kernel (in, out) is the transpose of torch's weight (out, in).

    One initializer with a seed belongs to one array: whoever asks twice gets the same numbers twice. Without a seed it can
    serve any number of arrays, because flax and others hand every one another key. `initialize` names the arrays of a whole
    tree by their places.

    Args:
        which: a law of `firstlight.random`, a distribution of plans, or 'xavier-normal', 'he-uniform',
            'lecun-truncated-normal', 'variance-scaling-normal' and so on; see `arrays.Initial`.
        std: of the values, for a plan's word.
        seed: 0 <= seed < 2**64; None: the key is the seed.
        name: full name of the array; part of the stream.
        in_axis: axis or axes of the inputs.
        out_axis: axis or axes of the outputs.
        batch_axis: axes that count for neither fan.
        options: `gain`, `a`, `mode`, `scale`, `mean` ... as the word takes them.

    Raises:
        OptionError: if a word or option is not known, or seed comes without name.

    Example:
        >>> init = initializer("he-normal", seed=0, name="fc.weight")
        >>> init((784, 256), jnp.bfloat16).dtype.name
        'bfloat16'
        >>> keyed = initializer("he-normal", name="fc.weight")
        >>> bool((keyed(jax.random.key(0), (784, 256)) == init((784, 256))).all())
        True
    """
    return Initializer(Initial(which, std, options, in_axis, out_axis, batch_axis), seed, name)


def initialize(tree: Any, choose: Callable[[str, Any], Initializer | None], *, seed: int) -> Any:
    """Return the tree with new arrays, each named by its place, so that no two share numbers.

    Args:
        tree: of arrays, or of `jax.ShapeDtypeStruct` as `jax.eval_shape` gives them.
        choose: for the name of a leaf, such as 'params/Dense_0/kernel', and the leaf: an `initializer` without a seed, or None
            to leave the leaf as it is. Its own name, if it has one, comes before the leaf's.
        seed: 0 <= seed < 2**64.

    Example:
        >>> shapes = {"a": jnp.zeros((2, 3)), "b": jnp.zeros((2, 3)), "bias": jnp.zeros(3)}
        >>> he = initializer("he-normal")
        >>> filled = initialize(shapes, lambda name, leaf: he if leaf.ndim > 1 else None, seed=0)
        >>> bool((filled["a"] == filled["b"]).any()), filled["bias"].tolist()
        (False, [0.0, 0.0, 0.0])
    """

    def one(path: Any, leaf: Any) -> Any:
        place = jax.tree_util.keystr(path, simple=True, separator="/")
        chosen = choose(place, leaf)
        if chosen is None:
            return leaf
        if chosen.seed is not None:
            raise OptionError(f"'{place}' was given an initializer with a seed of its own. Leave its seed= away.")
        return Initializer(chosen.initial, seed, f"{chosen.name or ''}{place}")(leaf.shape, leaf.dtype)

    return jax.tree_util.tree_map_with_path(one, tree)


def _is_key(value: Any) -> bool:
    """Tell a key of `jax.random`, new or old, from a shape."""
    if not isinstance(value, jax.Array):
        return False
    return bool(jnp.issubdtype(value.dtype, jax.dtypes.prng_key) or value.dtype == jnp.uint32)


def _seed_of(words: Any) -> int:
    """Return the seed that a key's words stand for: two are one number of 64 bits, others are hashed."""
    if words.size == 2:
        return int(words[0]) << 32 | int(words[1])
    return int.from_bytes(hashlib.blake2b(words.astype("<u4").tobytes(), digest_size=8).digest(), "little")


def _check_sharding(sharding: Any) -> None:
    if sharding is not None and not isinstance(sharding, jax.sharding.Sharding):
        raise OptionError(
            f"out_sharding = {sharding} names no devices. Give jax.sharding.NamedSharding(mesh, spec). Nothing was made."
        )


def _dtype(dtype: Any) -> "np.dtype[Any]":
    wanted: np.dtype[Any] = np.dtype(jnp.result_type(float) if dtype is None else dtype)
    if wanted == np.float64 and jax.dtypes.canonicalize_dtype(wanted) != wanted:
        raise DtypeError(
            "float64 was asked for, but JAX makes float32 of it. Run jax.config.update('jax_enable_x64', True) first, or ask "
            "for float32. Nothing was made."
        )
    return wanted
