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
    "scale",  # learned multiplier of a signal or a branch: LayerScale, ReZero's gate, a temperature
    "position",  # table of vectors added by place: positional embeddings, relative biases
    "token",  # learned vectors that stand in a sequence or ask about it: class, mask and query tokens
    "state",  # parameters of a recurrence in time that its module computes: A, dt and D of state-space layers
    "unused",  # a parameter that no operator reads
    "buffer",  # any other buffer, and a table of positions that does not train: computed by its module
    "unknown",
)

PARTS = (  # what a weight does within attention or a feed-forward layer; slices use the same words as names
    "query",
    "key",
    "value",
    "attention-out",
    "gate",
    "up",
    "down",
    "router",
    "low-rank-in",  # A of LoRA: the first factor that the input meets
    "low-rank-out",  # B of LoRA: the one that is added to the output, zero at the start
)


@dataclass(frozen=True, slots=True)
class Slice:
    """A part of a packed tensor along one axis that acts as a weight of its own (a gate; q, k or v of attention).

    start and stop are indices along `axis`. fan_in and fan_out are those of the part, which may lie in several slices: where
    heads interleave, 'query', 'query2' and so on are one part.
    """

    name: str
    start: int
    stop: int
    fan_in: int
    fan_out: int
    axis: int = 0

    @property
    def part(self) -> str:
        """The name without its number, where that is one of PARTS."""
        word = self.name.rstrip("0123456789")
        return word if word in PARTS else self.name


@dataclass(frozen=True, slots=True)
class Branch:
    """Where a weight stands in the residual branches of a model.

    index: of the branch, from 0 in order of execution; count: branches in the same stack (encoder and decoder are two).
    position: of the weight within its branch, from 0; length: weights one after another in the branch. The last one,
    whose output meets the skip connection, has position = length - 1, as have a scale or a norm's between it and the sum.
    stack: which stack, from 0. closed_by: canonical name of the activation between the last weight and the sum, '' without one.
    """

    index: int
    count: int
    position: int
    length: int
    stack: int = 0
    closed_by: str = ""

    @property
    def ends(self) -> bool:
        """Whether the weight's output is what is added to the skip connection."""
        return self.position == self.length - 1


@dataclass(frozen=True, slots=True)
class Link:
    """Who reads a weight's output, and whose output it reads, past biases, activations, pooling and norms.

    previous: name of the weight whose output is all that this one reads, '' where there is none or a sum stands between.
    chained: whether other weights alone read its output. normed: whether a normalisation follows it before any activation.
    turned: whether its output's axes are exchanged before it is read. gates: whether its output multiplies another signal,
    of a table what is looked up. added: of a table, whether what is looked up there is added to another signal. slope: what its
    output is multiplied by before the activation, as 30 in sin(30 W x). makes: where its output is the matrix of a product with
    another signal, how many inputs that sums over, else 0. shifts: whether its output is the bias of a layer whose matrix is
    made so. pooled: whether its output is added up over places as it is.
    data: whether it reads the model's input itself, past views, pooling and arithmetic with constants.
    """

    previous: str
    chained: bool
    normed: bool
    turned: bool
    gates: bool = False
    added: bool = False
    data: bool = False
    slope: float = 1.0
    makes: int = 0
    shifts: bool = False
    pooled: bool = False


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

    layout: a letter an axis when the weight is not stored as (out, in, *kernel): o output, i input, k kernel, b one of
    several weights side by side (experts); 'io' is Hugging Face's Conv1D, 'bio' batched experts; '' is the default.
    part: one of PARTS, or ''. before: canonical name of the activation whose output the weight reads ('linear' when
    none does, None when unknown). branch: its place in a residual branch, None outside of any. tied_output: an embedding
    that is used as the output layer too. scale_of: the name of the weight whose rows have this parameter as their norms
    (weight norm). note: words on how the weight is computed from it, for the reason in a plan; '' where it is the weight.
    head_width: numbers of a head, of a weight that makes queries, keys or values, where the operators show it.
    redrawn_by: type of a module around the owner that by default draws the matrices of its parts anew. link: its neighbours
    by the operators, None where they were not followed.
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
    layout: str = ""
    part: str = ""
    before: str | None = None
    branch: Branch | None = None
    tied_output: bool = False
    scale_of: str = ""
    redrawn_by: str = ""
    note: str = ""
    head_width: int | None = None
    link: Link | None = None

    @property
    def local_name(self) -> str:
        """The name within its owner: 'weight' of 'layers.0.weight'."""
        return self.name[len(self.owner) + 1 :] if self.owner else self.name
