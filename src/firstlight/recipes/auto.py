"""auto: decides for each weight by where it stands: chain, residual branch, gate, attention, recurrence, output.

What stands where, and at which point activations are to work, is in chains.py; what is decided here is corrected on a batch by
calibrate/, which holds the outputs of layers at `targets`.
"""

import math
from dataclasses import replace

from firstlight.model.tensors import Branch, TensorInfo
from firstlight.recipes import branches
from firstlight.recipes.chains import GATE_MEAN, Chains, chains, is_gate, is_matrix
from firstlight.recipes.choice import WEIGHTS, Choice, Context, Number, constant
from firstlight.recipes.edge_of_chaos import Mirror, is_simple
from firstlight.recipes.orthogonal import orthogonal, unit_std
from firstlight.recipes.recipe import Held, Level, register
from firstlight.recipes.recurrent import lstm, open_gates
from firstlight.recipes.scaled import before, embedding
from firstlight.recipes.siren import siren

# Size of the output: of order 1, so that gradients reach all layers at once. A tiny output layer starves them (measured:
# 50 layers of tanh on digits, loss 0.06 with 1, 0.55 with 0.1; 40 blocks of residual ReLU: 0.04 with 1.5, 0.07 with 1).
_OUTPUT, _OUTPUT_OF_BRANCHES = 1.0, 1.5
_NEXT = (
    0.3  # where outputs are tokens: they start from the frequencies of tokens, which guesses at random must not drown
)
_KINDS = 4  # a table with this many times as many rows is that of tokens, the smaller one that of their kinds
_ADDED = 0.5  # gain of what is added to a memory that keeps all
# Size of vectors that a chain of plain weights alone reads, whose first layer undoes it (measured: 20 layers of ReLU over text,
# loss 2.80 against 2.94 with 1; 30 layers 2.81, 2.93; 16 of SiLU 2.73, 2.77; 6 of GELU 2.83, 2.84).
_READ = 3.0
_ROUTED = 0.1  # outputs of a router that no skip connection passes by: its experts count nearly alike
_REBUILDS = 0.1  # where the output has the size of the input: data that is rebuilt, whose error starts at its own power

_FEW = 4  # inputs at most, and units for each of them at least, of a layer whose biases are spread

# Beyond this many layers convolutions are orthogonal at the kernel's centre alone, as in edge_of_chaos.py.
_CENTRE_ONLY = 50

_NORMED_STYLES = ("centred", "odd", "plain")  # in which a norm before an activation holds it at its operating point


def _held(context: Context) -> Held:
    """Return the second moments of layers' outputs, without biases, the level of outputs, and which layers read the data."""
    found = chains(context)
    weights = [info for info in context.infos if info.role == "weight" and info.kind != "RNN"]
    hidden = {i.name: found.gate_power(i) if is_gate(i) else _size(i, found)[0] ** 2 for i in weights}
    hidden |= {info.name: 0.0 for info in weights if _is_first_sine(info, context)}
    hidden |= {info.name: _ROUTED**2 for info in found.routers}
    ends = [info for info in weights if branches.ends(info) and not found.is_normed(info)]
    hidden |= {
        info.name: size**2 for info in ends if (size := _end_size(info, context)) or not branches.is_blocked(info)
    }
    outputs = [info for info in context.infos if info.role == "output-weight"]
    tied: dict[str, Level] = {info.name: "tokens" for info in context.infos if info.tied_output}
    pooled: dict[str, Level] = {i.name: "pooled" for i in weights if i.link is not None and i.link.pooled}
    return Held(
        hidden | {info.name: _output_size(info, context)[0] ** 2 for info in outputs},
        {info.name: _level(info, context) for info in outputs} | tied | pooled,
        frozenset(info.name for info in weights if info.link is not None and info.link.data),
    )


def _level(info: TensorInfo, context: Context) -> Level:
    """Return what the best guess without an example is: how frequent tokens are, the mean of what is rebuilt, or nothing."""
    tables = [other for other in context.infos if other.role == "embedding"]
    if any(table.shape[0] == info.shape[0] for table in tables) and not info.transposed:
        return "tokens"
    return "inputs" if not tables and _rebuilds(info, context) and not _is_single(info) else "zero"


@register(
    "auto",
    summary="for any network: each weight gets what its place asks for, then a batch corrects the scales",
    formula="chains: mirrored pairs, or σ_w² = q / Var φ(μ + √q z) at a point that depth allows; ends of branches 0; gates "
    "half open and nearly constant; recurrent weights orthogonal; outputs of size 1 about the level of knowing nothing",
    paper="Balduzzi et al. 2017, arXiv 1702.08591; Schoenholz et al. 2017, arXiv 1611.01232; Xiao et al. 2018, arXiv "
    "1806.05393; Zhang et al. 2019, arXiv 1901.09321; Saxe et al. 2014, arXiv 1312.6120; Mishkin and Matas 2016, arXiv "
    "1511.06422; Komatsuzaki et al. 2023, arXiv 2212.05055; Jozefowicz et al. 2015; Lin et al. 2017, arXiv 1708.02002",
    use="When one does not want to choose. Give example=batch: it shows where each weight stands, and what the data is.",
    targets=_held,
)
def auto(info: TensorInfo, context: Context) -> Choice | None:
    """Choose by the place of the tensor."""
    found = chains(context)
    if info.role == "embedding":
        return _embedding(info, context)
    if info.role == "position" and info.link is None and not any(other.role == "embedding" for other in context.infos):
        words = "N(0, 1), as large as what a layer makes of data, which it is added to: places alone tell patches apart"
        return Choice("normal", 1.0, f"position: {words}")
    if info.kind == "RNN":
        return _recurrent(info, context)
    if info.role in ("norm-scale", "norm-shift"):
        return _norm(info, found)
    if info.role == "scale" and info.branch is not None and branches.is_blocked(info):
        words = f"0 in place of its last weight, as no gradient passes {info.branch.closed_by} at 0 (Bachlechner et al. 2020)"
        return constant(0.0, f"multiplier of a branch: {words}")
    if info.role == "bias":
        return _bias(info, context, found)
    return _weight(info, context, found) if info.role in WEIGHTS else None


def _embedding(info: TensorInfo, context: Context) -> Choice:
    if info.tied_output:
        return embedding(info)
    if info.link is not None and info.link.gates:
        std = 1 / math.sqrt(max(info.shape[-1], 1))
        return Choice(
            "normal", std, f"embedding that is multiplied with other vectors: Var = 1/{info.shape[-1]}, of length 1"
        )
    if _is_side_table(info, context):
        return constant(
            0.0, "embedding of few kinds, added to that of tokens: 0, so that it does not drown what tells tokens apart"
        )
    if info.name in chains(context).tables.values():
        words = f"embedding: N(0, {_READ:g}²), so that the weights that read it, which learn from every example, learn faster"
        return Choice("normal", _READ, words)
    return Choice("normal", 1.0, "embedding: N(0, 1), so that what the first layer reads has the size it is made for")


def _is_side_table(info: TensorInfo, context: Context) -> bool:
    """Whether what is looked up is added to what a larger table gives: a kind of token, which most examples share."""
    if info.link is None or not info.link.added:
        return False
    tables = [other for other in context.infos if other.role == "embedding" and other.shape[-1] == info.shape[-1]]
    return any(other.shape[0] > _KINDS * info.shape[0] for other in tables)


def _output_size(info: TensorInfo, context: Context) -> tuple[float, str]:
    """Return the size that outputs are to have, and words on why."""
    if _rebuilds(info, context):
        return _REBUILDS, "of the size of the input, as of data that is rebuilt"
    if _level(info, context) == "tokens":
        return _NEXT, "small beside how unlike the frequencies of tokens are, which the output starts from"
    if any(branches.ends(other) for other in context.infos):
        return _OUTPUT_OF_BRANCHES, "so that gradients reach the ends of branches, which alone learn at first"
    return _OUTPUT, "so that gradients reach all layers"


def _end_size(info: TensorInfo, context: Context) -> float:
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


def _recurrent(info: TensorInfo, context: Context) -> Choice | None:
    """Choose as the recipe lstm, but for GRU's update gate and weights of inputs.

    The update gate starts open as LSTM's forget gate does: both keep what is remembered (measured: GRU over 64 pixels, loss
    0.77 against 1.00). Weights of inputs keep the size of single numbers, however few come in: gates hold a memory against
    them. tanh without gates keeps all, and what comes in adds up over time, so that half as much is let in (measured: tanh over
    64 pixels, loss 0.53 against 0.77 from Xavier's). ReLU forgets half a step, and stays with Xavier's.
    """
    if info.role == "bias":
        return open_gates(info, context, {"forget": 1.0, "update": 1.0})
    if info.role == "weight" and info.slices:
        return _orthogonal(
            info, 1.0, f"{before(info)} of a recurrent layer: {{}}, so that gates see inputs at their own size"
        )
    if info.role == "weight" and info.activation == "tanh":
        words = f"orthogonal, gain {_ADDED:g}, as what comes in adds up over time"
        return Choice("orthogonal", _ADDED * unit_std(info, info), f"{before(info)} of a recurrent layer: {words}")
    return lstm(info, context, forget=1.0)


def _weight(info: TensorInfo, context: Context, found: Chains) -> Choice:
    if branches.ends(info) and not found.is_normed(info):
        size = _end_size(info, context)
        if size:
            return _form(
                info, found, size, "ends a residual branch where others mix places: not 0, so that places differ"
            )
    if branches.ends(info) and not found.is_normed(info) and not branches.is_blocked(info):
        words = "ends a residual branch: 0, so that the network starts as its skip connections (Zhang et al. 2019)"
        return constant(0.0, f"{before(info)}, {words}")
    if info.link is not None and info.link.shifts:
        words = (
            "makes the bias of a layer: 0, as biases start, so that what is the same for all does not bend its units"
        )
        return constant(0.0, f"{before(info)}, {words}")
    if _is_first_sine(info, context):
        return siren(info, context, omega=_slope(info)) or _form(info, found, *_size(info, found))
    if is_gate(info):
        power = found.gate_power(info)
        choice = orthogonal(info, context, gain=math.sqrt(power))
        assert choice is not None
        words = f"gate before {info.activation}: orthogonal, q = {power:.4g}, so that {found.gates} gates vary little together"
        return Choice(choice.distribution, choice.std, words, sliced=choice.sliced)
    if info.role == "output-weight":
        return _form(info, found, *_output_size(info, context))
    if info in found.routers:
        return _form(info, found, _ROUTED, "so that experts count nearly alike whatever the example")
    if not is_matrix(info):
        choice = orthogonal(info, context, gain=1.0)
        assert choice is not None
        return choice
    choice = _form(info, found, *_size(info, found))
    first = found.alike(info)
    if not first:
        return choice
    words = f"{choice.reason}; the numbers of '{first}', so that it does not matter at first which expert is chosen"
    return replace(
        choice,
        reason=f"{words} (as Komatsuzaki et al. 2023 start from copies)",
        options={**choice.options, "alike": first},
    )


def _size(info: TensorInfo, found: Chains) -> tuple[float, str]:
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
    slope = _slope(info)
    return size / slope, f"which is multiplied by {slope:.4g} before {info.activation}" if slope != 1 else ""


def _slope(info: TensorInfo) -> float:
    """Return what a weight's output is multiplied by before its activation, 1 where that is 0 or there is none."""
    acts = info.link is not None and info.activation not in (None, "linear")
    return abs(info.link.slope) or 1.0 if acts and info.link is not None else 1.0


def _is_first_sine(info: TensorInfo, context: Context) -> bool:
    """Whether a sine of a multiple of its output turns what the first weight reads into fast waves: that is why it is there."""
    first = next((other for other in context.infos if other.role in WEIGHTS), None)
    return info is first and info.activation == "sin" and _slope(info) > 1


def _form(info: TensorInfo, found: Chains, size: float, why: str) -> Choice:
    """Choose the weight that makes outputs of this size from what comes in, in the form that the pairs on both sides need."""
    incoming, point = found.point(found.previous(info)), found.point(info)
    rows, columns = point.style == "mirrored", incoming.style == "mirrored"
    power = _READ**2 if info.name in found.tables else incoming.output_variance
    shown = f"{before(info)}: {{}}, size {size:.4g} from a power of {power:.4g}" + (f", {why}" if why else "")
    if not is_simple(info) or not (rows or columns or incoming.style == "centred"):
        gain = size / math.sqrt(power)
        if _is_deep_convolution(info, found):
            taps = math.prod(info.shape[2:])
            std = gain / math.sqrt(info.shape[0] * taps)
            return Choice("delta-orthogonal", std, shown.format("orthogonal at the kernel's centre (Xiao et al. 2018)"))
        return _orthogonal(info, gain, shown)
    # a pair carries one number, φ(h) - φ(-h): half as many inputs; one without a partner is not read
    inputs = (info.fan_in or 1) // info.shape[1] * (info.shape[1] // 2) if columns else info.fan_in or 1
    std = size / math.sqrt(inputs * power)
    if rows or columns:
        mirror: Mirror = "both" if rows and columns else "rows" if rows else "columns"
        options: dict[str, Number] = {"mirror": mirror}
        words = "orthogonal in mirrored pairs, so that the network is linear at the start (Balduzzi et al. 2017)"
        if columns and info.shape[1] % 2:
            words += ", but the middle column 0, whose unit has no partner"
        return Choice("looks-linear", std, shown.format(words), options)
    if (info.fan_in or 0) < 2:
        return _orthogonal(info, size / math.sqrt(power), shown)
    words = f"orthogonal, rows sum to 0, gradients grow by χ = {incoming.growth:.4g} a layer (Schoenholz et al. 2017)"
    return Choice("centred-orthogonal", std, shown.format(words))


def _orthogonal(info: TensorInfo, gain: float, shown: str) -> Choice:
    """Choose orthogonal weights, each slice by itself; those that widen keep the size of single numbers, not of the whole."""
    parts = info.slices or (info,)
    stds = tuple(gain / math.sqrt(max(part.fan_in or 1, 1)) for part in parts)
    std = stds[0] if len(set(stds)) == 1 else stds
    return Choice("orthogonal", std, shown.format("orthogonal"), sliced=bool(info.slices))


def _is_deep_convolution(info: TensorInfo, found: Chains) -> bool:
    deep = len(info.shape) > 2 and found.length.get(info.name, 0) > _CENTRE_ONLY
    return deep and is_simple(info) and info.shape[0] >= info.shape[1]


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


def _bias(info: TensorInfo, context: Context, found: Chains) -> Choice | None:
    weight = context.weight_of(info)
    if weight is None or weight.role != "weight":
        return None
    if is_gate(weight):
        return constant(GATE_MEAN, f"bias of a gate: {GATE_MEAN:g}, so that it starts open and nearly constant")
    mean = 0.0 if weight.link is None or weight.link.normed else found.point(weight).mean / _slope(weight)
    if not mean and _spreads(weight, found):
        std = _size(weight, found)[0]
        words = f"its weight reads {weight.fan_in} numbers, which {weight.activation} is to tell apart at unlike places"
        return Choice("normal", std, f"bias: N(0, {std:.4g}²), as {words}")
    return constant(mean, f"bias: μ = {mean:g}, the operating point of {weight.activation}") if mean else None


def _spreads(weight: TensorInfo, found: Chains) -> bool:
    """Whether few numbers go to many units: without biases of their own all would bend where these are 0, and nowhere else."""
    few = 0 < (weight.fan_in or 0) <= _FEW and (weight.fan_out or 0) >= _FEW * (weight.fan_in or 0)
    bent = weight.activation not in (None, "linear") and weight.branch is None and weight.kind == "Linear"
    return few and bent and found.point(weight).style in ("plain", "linear")


def _last_norm(info: TensorInfo, branch: Branch) -> Choice | None:
    """Choose the scale of a norm that ends a residual branch: it alone sets the branch's size, whatever the weights are."""
    if info.role != "norm-scale":
        return None
    scale = 1 / math.sqrt(branch.count)
    words = f"ends one of {branch.count} residual branches: 1/√{branch.count}, so that all together are as large as the skip"
    return constant(scale, f"normalisation scale, {words}")


def _norm(info: TensorInfo, found: Chains) -> Choice | None:
    """Choose scale and shift of a norm before an activation so that it works at its operating point."""
    if info.branch is not None:
        return _last_norm(info, info.branch)
    weight = found.previous(info)
    if weight is not None and weight.branch is not None and branches.ends(weight):
        return _last_norm(info, weight.branch)
    point = found.point(weight)
    if weight is None or weight.link is None or not weight.link.normed or point.style not in _NORMED_STYLES:
        return None
    if info.role == "norm-scale":
        scale = math.sqrt(point.variance)
        return constant(scale, f"normalisation scale: √q = {scale:.4g}, the operating point of {weight.activation}")
    return constant(point.mean, f"normalisation shift: μ = {point.mean:g}, the operating point of {weight.activation}")
