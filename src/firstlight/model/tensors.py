"""What is known of one tensor of a model before anything is decided about it. Pure data."""

from dataclasses import dataclass
from typing import Literal

FoundBy = Literal["graph", "module", "guess"]

ROLES = (
    "weight",  # of a hidden linear or convolution layer
    "output-weight",  # of the layer that makes the model's output
    "recurrent-weight",  # hidden-to-hidden, of an RNN, LSTM or GRU
    "embedding",
    "bias",
    "norm-scale",
    "norm-shift",
    "norm-statistic",  # buffers of a normalisation: running mean and variance, counters
    "slope",  # learned slope of an activation (PReLU)
    "buffer",  # any other buffer: computed by its module
    "unknown",
)


@dataclass(frozen=True, slots=True)
class Slice:
    """A part of a packed tensor along its first axis that acts as a weight of its own (a gate; q, k or v of attention).

    start and stop are row numbers. fan_in and fan_out are those of the part.
    """

    name: str
    start: int
    stop: int
    fan_in: int
    fan_out: int


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """One parameter or buffer: its identity, what it is for, and how that was found.

    name: first full name; aliases: the others, when tied. is_buffer: parameter or buffer. module_type: class name of
    the owner, and owner its full name ('' is the model itself). fan_in and fan_out are None where the notion does not
    apply (biases, scales, buffers); a packed tensor has those of its slices when they agree. activation: canonical name
    of the activation that follows the weight ('linear' when none does, None when unknown), with activation_param its
    parameter (a slope). depth: index of the layer in order of definition, counting layers with weights from 0. kind:
    the known module type that the owner is or derives from ('Linear', 'Conv', 'RNN', …), '' when it is none. groups,
    transposed and padding_idx are the owner's, where it has them.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    role: str
    is_buffer: bool
    module_type: str
    fan_in: int | None
    fan_out: int | None
    activation: str | None
    activation_param: float | None
    depth: int | None
    slices: tuple[Slice, ...]
    aliases: tuple[str, ...]
    found_by: FoundBy
    owner: str = ""
    kind: str = ""
    groups: int = 1
    transposed: bool = False
    padding_idx: int | None = None

    @property
    def local_name(self) -> str:
        """The name within its owner: 'weight' of 'layers.0.weight'."""
        return self.name[len(self.owner) + 1 :] if self.owner else self.name
