"""auto: decides for each weight by where it stands: chain, residual branch, gate, attention, recurrence, output.

What stands where, and at which point activations are to work, is in chains.py, how large outputs are to be in sizes.py; what is
decided here is corrected on a batch by calibrate/, which holds the outputs of layers at `targets`.
"""

import math
from dataclasses import replace

from firstlight.model.tensors import Branch, TensorInfo
from firstlight.recipes import branches
from firstlight.recipes.chains import GATE_MEAN, Chains, chains, is_gate, is_matrix
from firstlight.recipes.choice import WEIGHTS, Choice, Context, Number, constant
from firstlight.recipes.edge_of_chaos import Mirror, is_simple
from firstlight.recipes.orthogonal import orthogonal, unit_std
from firstlight.recipes.recipe import register
from firstlight.recipes.recurrent import lstm, open_gates
from firstlight.recipes.scaled import before, embedding
from firstlight.recipes.siren import siren
from firstlight.recipes.sizes import READ, ROUTED, end_size, hidden_size, is_first_sine, output_size, slope_of, targets

_KINDS = 4  # a table with this many times as many rows is that of tokens, the smaller one that of their kinds
_ADDED = 0.5  # gain of what is added to a memory that keeps all
_FEW = 4  # inputs at most, and units for each of them at least, of a layer whose biases are spread

# Beyond this many layers convolutions are orthogonal at the kernel's centre alone, as in edge_of_chaos.py.
_CENTRE_ONLY = 50

_NORMED_STYLES = ("centred", "odd", "plain")  # in which a norm before an activation holds it at its operating point


@register(
    "auto",
    summary="for any network: each weight gets what its place asks for, then a batch corrects the scales",
    formula="chains: mirrored pairs, or σ_w² = q / Var φ(μ + √q z) at a point that depth allows; ends of branches 0; gates "
    "half open and nearly constant; recurrent weights orthogonal; outputs of size 1 about the level of knowing nothing",
    paper="Balduzzi et al. 2017, arXiv 1702.08591; Schoenholz et al. 2017, arXiv 1611.01232; Xiao et al. 2018, arXiv "
    "1806.05393; Zhang et al. 2019, arXiv 1901.09321; Saxe et al. 2014, arXiv 1312.6120; Mishkin and Matas 2016, arXiv "
    "1511.06422; Komatsuzaki et al. 2023, arXiv 2212.05055; Jozefowicz et al. 2015; Lin et al. 2017, arXiv 1708.02002",
    use="When one does not want to choose. Give example=batch: it shows where each weight stands, and what the data is.",
    targets=targets,
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
        words = f"embedding: N(0, {READ:g}²), so that the weights that read it, which learn from every example, learn faster"
        return Choice("normal", READ, words)
    return Choice("normal", 1.0, "embedding: N(0, 1), so that what the first layer reads has the size it is made for")


def _is_side_table(info: TensorInfo, context: Context) -> bool:
    """Whether what is looked up is added to what a larger table gives: a kind of token, which most examples share."""
    if info.link is None or not info.link.added:
        return False
    tables = [other for other in context.infos if other.role == "embedding" and other.shape[-1] == info.shape[-1]]
    return any(other.shape[0] > _KINDS * info.shape[0] for other in tables)


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
    ends = branches.ends(info) and not found.is_normed(info)
    if ends and (size := end_size(info, context)):
        return _form(info, found, size, "ends a residual branch where others mix places: not 0, so that places differ")
    if ends and not branches.is_blocked(info):
        words = "ends a residual branch: 0, so that the network starts as its skip connections (Zhang et al. 2019)"
        return constant(0.0, f"{before(info)}, {words}")
    if info.link is not None and info.link.shifts:
        words = (
            "makes the bias of a layer: 0, as biases start, so that what is the same for all does not bend its units"
        )
        return constant(0.0, f"{before(info)}, {words}")
    if is_first_sine(info, context):
        return siren(info, context, omega=slope_of(info)) or _form(info, found, *hidden_size(info, found))
    if is_gate(info):
        power = found.gate_power(info)
        choice = orthogonal(info, context, gain=math.sqrt(power))
        assert choice is not None
        words = f"gate before {info.activation}: orthogonal, q = {power:.4g}, so that {found.gates} gates vary little together"
        return Choice(choice.distribution, choice.std, words, sliced=choice.sliced)
    if info.role == "output-weight":
        return _form(info, found, *output_size(info, context))
    if info in found.routers:
        return _form(info, found, ROUTED, "so that experts count nearly alike whatever the example")
    if not is_matrix(info):
        choice = orthogonal(info, context, gain=1.0)
        assert choice is not None
        return choice
    choice = _form(info, found, *hidden_size(info, found))
    first = found.alike(info)
    if not first:
        return choice
    words = f"{choice.reason}; the numbers of '{first}', so that it does not matter at first which expert is chosen"
    return replace(
        choice,
        reason=f"{words} (as Komatsuzaki et al. 2023 start from copies)",
        options={**choice.options, "alike": first},
    )


def _form(info: TensorInfo, found: Chains, size: float, why: str) -> Choice:
    """Choose the weight that makes outputs of this size from what comes in, in the form that the pairs on both sides need."""
    incoming, point = found.point(found.previous(info)), found.point(info)
    rows, columns = point.style == "mirrored", incoming.style == "mirrored"
    power = READ**2 if info.name in found.tables else incoming.output_variance
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


def _bias(info: TensorInfo, context: Context, found: Chains) -> Choice | None:
    weight = context.weight_of(info)
    if weight is None or weight.role != "weight":
        return None
    if is_gate(weight):
        return constant(GATE_MEAN, f"bias of a gate: {GATE_MEAN:g}, so that it starts open and nearly constant")
    mean = 0.0 if weight.link is None or weight.link.normed else found.point(weight).mean / slope_of(weight)
    if not mean and _spreads(weight, found):
        std = hidden_size(weight, found)[0]
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
