"""How large the outputs of layers are to be under `auto`, and about which level the model's own outputs are to lie."""

import math

from firstlight.model.tensors import TensorInfo
from firstlight.recipes import branches
from firstlight.recipes.chains import Chains, chains, is_gate
from firstlight.recipes.choice import WEIGHTS, Context
from firstlight.recipes.recipe import Held, Level

# Size of the output: of order 1, so that gradients reach all layers at once. A tiny output layer starves them (measured:
# 50 layers of tanh on digits, loss 0.06 with 1, 0.55 with 0.1; 40 blocks of residual ReLU: 0.04 with 1.5, 0.07 with 1).
_OUTPUT, _OUTPUT_OF_BRANCHES = 1.0, 1.5
_NEXT = (
    0.3  # where outputs are tokens: they start from the frequencies of tokens, which guesses at random must not drown
)
# Size of vectors that a chain of plain weights alone reads, whose first layer undoes it (measured: 20 layers of ReLU over text,
# loss 2.80 against 2.94 with 1; 30 layers 2.81, 2.93; 16 of SiLU 2.73, 2.77; 6 of GELU 2.83, 2.84).
READ = 3.0
ROUTED = 0.1  # outputs of a router that no skip connection passes by: its experts count nearly alike
_REBUILDS = 0.1  # where the output has the size of the input: data that is rebuilt, whose error starts at its own power


def targets(context: Context) -> Held:
    """Return the second moments of layers' outputs, without biases, the level of outputs, and which layers read the data."""
    found = chains(context)
    weights = [info for info in context.infos if info.role == "weight" and info.kind != "RNN"]
    hidden = {i.name: found.gate_power(i) if is_gate(i) else hidden_size(i, found)[0] ** 2 for i in weights}
    hidden |= {info.name: 0.0 for info in weights if is_first_sine(info, context)}
    hidden |= {info.name: ROUTED**2 for info in found.routers}
    ends = [info for info in weights if branches.ends(info) and not found.is_normed(info)]
    hidden |= {
        info.name: size**2 for info in ends if (size := end_size(info, context)) or not branches.is_blocked(info)
    }
    outputs = [info for info in context.infos if info.role == "output-weight"]
    tied: dict[str, Level] = {info.name: "tokens" for info in context.infos if info.tied_output}
    pooled: dict[str, Level] = {i.name: "pooled" for i in weights if i.link is not None and i.link.pooled}
    return Held(
        hidden | {info.name: output_size(info, context)[0] ** 2 for info in outputs},
        {info.name: _level(info, context) for info in outputs} | tied | pooled,
        frozenset(info.name for info in weights if info.link is not None and info.link.data),
    )


def _level(info: TensorInfo, context: Context) -> Level:
    """Return what the best guess without an example is: how frequent tokens are, the mean of what is rebuilt, or nothing."""
    tables = [other for other in context.infos if other.role == "embedding"]
    if any(table.shape[0] == info.shape[0] for table in tables) and not info.transposed:
        return "tokens"
    return "inputs" if not tables and _rebuilds(info, context) and not _is_single(info) else "zero"


def hidden_size(info: TensorInfo, found: Chains) -> tuple[float, str]:
    """Return the size that outputs of a hidden weight are to have, and words on why where it is not that of its chain."""
    size, link = math.sqrt(found.point(info).variance), info.link
    if link is not None and link.makes:
        return size / math.sqrt(link.makes), f"as it makes the matrix of a product over {link.makes} inputs"
    if (
        branches.ends(info)
        and info.branch is not None
        and not found.is_normed(info)
        and not found.is_closed(info, "scale")
    ):
        words = f"as no gradient passes {info.branch.closed_by} at 0 and all {info.branch.count} branches add up"
        return size / math.sqrt(info.branch.count), words
    slope = slope_of(info)
    return size / slope, f"which is multiplied by {slope:.4g} before {info.activation}" if slope != 1 else ""


def slope_of(info: TensorInfo) -> float:
    """Return what a weight's output is multiplied by before its activation, 1 where that is 0 or there is none."""
    acts = info.link is not None and info.activation not in (None, "linear")
    return abs(info.link.slope) or 1.0 if acts and info.link is not None else 1.0


def is_first_sine(info: TensorInfo, context: Context) -> bool:
    """Whether a sine of a multiple of its output turns what the first weight reads into fast waves: that is why it is there."""
    first = next((other for other in context.infos if other.role in WEIGHTS), None)
    return info is first and info.activation == "sin" and slope_of(info) > 1


def output_size(info: TensorInfo, context: Context) -> tuple[float, str]:
    """Return the size that outputs are to have, and words on why."""
    if _rebuilds(info, context):
        return _REBUILDS, "of the size of the input, as of data that is rebuilt"
    if _level(info, context) == "tokens":
        return _NEXT, "small beside how unlike the frequencies of tokens are, which the output starts from"
    if any(branches.ends(other) for other in context.infos):
        return _OUTPUT_OF_BRANCHES, "so that gradients reach the ends of branches, which alone learn at first"
    return _OUTPUT, "so that gradients reach all layers"


def end_size(info: TensorInfo, context: Context) -> float:
    """Return the size that the output of a branch's end is to have: 0, but 1 where branches mix places by weights of their own.

    There zeros would leave places alike: a mean over places gives each of them one gradient, so weights that mix places would
    learn to add the same to all (measured: mixers of 6 and 8 blocks, loss 0.067 and 0.069 against 0.151 and 0.164, medians of
    three seeds).
    """
    return 1.0 if _mixes_places(context) and info.part != "attention-out" else 0.0


def _mixes_places(context: Context) -> bool:
    """Whether ends of branches act along places: turned back, and of another count than the channels of the others."""
    ends = [
        (_outputs(info), info.link.turned) for info in context.infos if branches.ends(info) and info.link is not None
    ]
    channels = {count for count, turned in ends if not turned}
    return bool(channels) and any(turned and count not in channels for count, turned in ends)


def _outputs(info: TensorInfo) -> int:
    return info.shape[info.layout.index("o")] if info.layout else info.shape[1 if info.transposed else 0]


def _rebuilds(info: TensorInfo, context: Context) -> bool:
    """Whether the output has as many channels as the input, or one number: its loss is then in units of the data."""
    first = next((other for other in context.infos if other.role in ("weight", "embedding")), None)
    if first is None or first.role == "embedding" or len(info.shape) < 2 or len(first.shape) < 2:
        return False
    outputs = info.shape[1] if info.transposed else info.shape[0]
    inputs = first.shape[0] if first.transposed else first.shape[1]
    return outputs == inputs or _is_single(info)


def _is_single(info: TensorInfo) -> bool:
    return len(info.shape) == 2 and info.shape[0] == 1
