"""Keras 3: an `Initializer` for any layer and backend, with the bits of a torch tensor, that saves and loads with the model.

Keras hands an initializer a shape and a dtype, and copies it freely: attention gives copies of one to its projections, a
bidirectional layer to both directions. Under one name all of them would get the same numbers. So where no name is given,
the name is the path of the variable that is being made ('encoder/attention/query/kernel'), and where one is given, a second
variable that gets it is reported. Import this module by its full name; firstlight itself never imports Keras.
"""

import sys
import warnings
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from types import FrameType
from typing import Any

import keras
import numpy as np

from firstlight.errors import OptionError
from firstlight.integrations.arrays import Axis, Initial
from firstlight.random import Law, Normal, TruncatedNormal, Uniform, key

LAWS: Mapping[str, type[Law]] = {kind.__name__: kind for kind in (Normal, TruncatedNormal, Uniform)}

_holders: weakref.WeakValueDictionary[tuple[int, str], Any] = weakref.WeakValueDictionary()  # who got a given name last


class SharedStreamWarning(UserWarning):
    """Two variables were given the same seed and name, so they hold the same numbers."""


@keras.saving.register_keras_serializable(package="firstlight")
class Initializer(keras.Initializer):  # type: ignore[misc]  # Keras has no types
    """Gives a variable, bit for bit, what a torch tensor of the same shape, law, seed and name gets.

    Fans follow Keras' axes, (*kernel, in, out); layers with other ones, such as `EinsumDense` inside attention, whose kernel is
    (in, heads, depth), need `in_axis` and `out_axis`. Methods that need the whole matrix are torch's with the axes moved.

    Args:
        which: as in `integrations.jax.initializer`: a law, or a word such as 'he-normal', 'orthogonal', 'normal'.
        seed: 0 <= seed < 2**64.
        name: full name of the variable. None: its path in Keras, so that one initializer serves a whole model. Name the
            layers then: Keras numbers unnamed ones in the order in which a process makes them.
        std: of the values, for a plan's word.
        in_axis: axis or axes of the inputs.
        out_axis: axis or axes of the outputs.
        batch_axis: axes that count for neither fan.
        options: `gain`, `a`, `mode`, `scale`, `mean` ... as the word takes them.

    Raises:
        OptionError: if a word or option is not known, or, when called, if there is neither a name nor a path.

    Warns:
        SharedStreamWarning: if a second variable with another path is given the same seed and name.

    Example:
        >>> he = Initializer("he-normal", seed=0, name="fc.weight")
        >>> tuple(he((784, 256)).shape)
        (784, 256)
        >>> layer = keras.layers.Dense(10, kernel_initializer=Initializer("orthogonal", seed=0), name="head")
    """

    def __init__(
        self,
        which: str | Law | Mapping[str, Any] = "he-normal",
        *,
        seed: int,
        name: str | None = None,
        std: float | None = None,
        in_axis: Axis = -2,
        out_axis: Axis = -1,
        batch_axis: Axis = (),
        **options: Any,
    ) -> None:
        key(seed, name or "")  # refuses a seed out of range
        if isinstance(which, Mapping):
            numbers = dict(which)
            which = LAWS[numbers.pop("law")](**numbers)
        axes = (axis if isinstance(axis, int) else tuple(axis) for axis in (in_axis, out_axis, batch_axis))
        self.initial = Initial(which, std, options, *axes)
        self.seed, self.name = seed, name

    def __call__(self, shape: Sequence[int], dtype: Any = None) -> Any:
        """Return a tensor of the backend."""
        dtype = keras.backend.standardize_dtype(dtype)
        name = self._stream_name(shape)
        made = self.initial.array(tuple(shape), dtype, seed=self.seed, name=name)
        if made.dtype not in (np.float16, np.float32, np.float64):
            made = made.astype(np.float32)  # exact, and every backend takes it
        return keras.ops.convert_to_tensor(made, dtype=dtype)

    def get_config(self) -> dict[str, Any]:
        """Return plain data from which `from_config` makes this initializer again."""
        initial = self.initial
        which = initial.which
        return {
            "which": which if isinstance(which, str) else {"law": type(which).__name__} | asdict(which),
            "seed": self.seed,
            "name": self.name,
            "std": initial.std,
            "in_axis": initial.in_axis,
            "out_axis": initial.out_axis,
            "batch_axis": initial.batch_axis,
            **initial.options,
        }

    def _stream_name(self, shape: Sequence[int]) -> str:
        variable = _variable_in_the_making()
        if self.name is None:
            if variable is None:
                raise OptionError(
                    f"an initializer without a name was called for shape {tuple(shape)} outside of a Keras variable, whose "
                    "path would be its name. Give it a name, such as name='fc.weight'. Nothing was made."
                )
            return str(variable.path)
        if variable is not None:
            self._report_sharing(variable, self.name)
        return self.name

    def _report_sharing(self, variable: Any, name: str) -> None:
        other = _holders.get((self.seed, name))
        if other is not None and other.path != variable.path:
            warnings.warn(
                f"'{variable.path}' and '{other.path}' hold the same numbers: both were given seed {self.seed} and name "
                f"'{name}'. Leave name= away, and each gets numbers of its own, by its path.",
                SharedStreamWarning,
                stacklevel=2,
            )
        _holders[self.seed, name] = variable


def _variable_in_the_making() -> Any:
    """Return the Keras variable whose first value is asked for, or None; Keras does not tell, so the callers are looked at."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        caller = frame.f_locals.get("self")
        if isinstance(caller, keras.Variable):
            return caller
        frame = frame.f_back
    return None
