"""Recipes that keep lengths and angles exactly: delta-orthogonal, looks-linear, identity (IDInit), zero (ZerO)."""

import math

from firstlight.init.identity import ones_a_row
from firstlight.init.patterns import hadamard_scale
from firstlight.model.spec import Option
from firstlight.model.tensors import Slice, TensorInfo
from firstlight.recipes import branches
from firstlight.recipes.choice import WEIGHTS, Choice, Context, constant
from firstlight.recipes.edge_of_chaos import can_pair, is_simple
from firstlight.recipes.orthogonal import orthogonal
from firstlight.recipes.recipe import Unfit, register
from firstlight.recipes.scaled import before, embedding

# The critical point of tanh that the paper trains at: σ_w² = 1.05, σ_b² = 2.01e-5 (χ = 1 to four digits).
_WEIGHT_VARIANCE, _BIAS_VARIANCE = 1.05, 2.01e-5


@register(
    "delta-orthogonal",
    summary="convolutions: an orthogonal matrix at the centre of the kernel, zero elsewhere; at tanh's critical point",
    formula="W[:, :, centre] = σ_w Q, QᵀQ = I; before tanh σ_w² = 1.05 and biases N(0, 2.01e-5), else gain 1 and 0",
    paper="Xiao, Bahri, Sohl-Dickstein, Schoenholz and Pennington 2018, Dynamical isometry and a mean field theory of CNNs, "
    "arXiv 1806.05393",
    use="Plain tanh convolution networks of hundreds or thousands of layers, of constant width.",
    refuses="models without convolutions; grouped, transposed or narrowing convolutions; activations without slope 1 at 0",
    fits=lambda context: None if _convolutions(context) else "it has no convolution. Use 'orthogonal'.",
)
def delta_orthogonal(info: TensorInfo, context: Context) -> Choice | None:
    """Choose after Xiao et al.; linear layers are orthogonal."""
    source = "Xiao et al. 2018"
    if info.role == "bias":
        weight = context.weight_of(info)
        if weight is None or not _is_convolution(weight) or weight.activation != "tanh":
            return None
        return Choice("normal", math.sqrt(_BIAS_VARIANCE), f"bias before tanh: Var = {_BIAS_VARIANCE:g} ({source})")
    if info.role not in WEIGHTS or not _is_convolution(info):
        return orthogonal(info, context, gain=1.0)
    if info.groups > 1 or info.transposed or info.shape[0] < info.shape[1]:
        raise Unfit(
            f"'{info.name}' {info.shape} is grouped, transposed, or has fewer outputs than inputs, so that no orthogonal "
            "centre keeps every input's length. Use 'orthogonal' for it by a rule."
        )
    if info.activation not in ("tanh", "linear", None):
        raise Unfit(
            f"'{info.name}' {info.shape} is followed by {info.activation}, which has no slope of 1 at 0 to be critical at. "
            "Use 'edge-of-chaos'."
        )
    variance = _WEIGHT_VARIANCE if info.activation == "tanh" else 1.0
    std = math.sqrt(variance / (info.shape[0] * math.prod(info.shape[2:])))
    reason = f"{before(info)}: orthogonal at the kernel's centre, σ_w² = {variance:g} ({source})"
    return Choice("delta-orthogonal", std, reason)


def _is_convolution(info: TensorInfo) -> bool:
    return info.kind == "Conv" and len(info.shape) > 2


def _convolutions(context: Context) -> bool:
    return any(_is_convolution(info) for info in context.infos)


_RECTIFIERS = ("relu", "leaky_relu", "prelu")


@register(
    "looks-linear",
    summary="mirrored blocks of an orthogonal matrix, so that a ReLU network is linear at the start",
    formula="W = [[V, -V], [-V, V]], VᵀV = I / (1 + slope)²; first layer [[V], [-V]], last layer [V, -V]",
    paper="Balduzzi, Frean, Leary, Lewis, Ma and McWilliams 2017, The shattered gradients problem, arXiv 1702.08591",
    use="Deep plain networks of ReLU or leaky ReLU whose hidden widths are even.",
    refuses="other activations, odd widths, and layers other than plain linear and convolution layers",
)
def looks_linear(info: TensorInfo, context: Context) -> Choice | None:
    """Choose after Balduzzi et al.: pairs wherever a rectifier stands between two plain layers."""
    source = "Balduzzi et al. 2017"
    if info.role == "embedding":
        return embedding(info)
    if info.role not in WEIGHTS:
        return None
    if not is_simple(info):
        raise Unfit(f"'{info.name}' {info.shape} is not the weight of a plain linear or convolution layer. Use 'he'.")
    previous = context.weight_at(info.depth - 1) if info.depth else None
    following = context.weight_at(info.depth + 1) if info.depth is not None else None
    columns = previous is not None and _pairs(previous, info)
    rows = following is not None and _pairs(info, following)
    if not rows and not columns:
        return orthogonal(info, context, gain=1.0)
    mirror = "both" if rows and columns else "rows" if rows else "columns"
    outputs, inputs = info.shape[0] // (2 if rows else 1), info.shape[1] // (2 if columns else 1)
    slope = (previous.activation_param or 0.0) if columns and previous is not None else 0.0
    slope = 0.25 if columns and previous is not None and previous.activation == "prelu" else slope
    gain = 1 / (1 + slope)  # φ(h) - φ(-h) = (1 + slope) h
    std = gain / math.sqrt(max(outputs, inputs) * math.prod(info.shape[2:]))
    reason = f"{before(info)}: orthogonal in mirrored pairs, gain {gain:g} ({source})"
    return Choice("looks-linear", std, reason, {"mirror": mirror})


def _pairs(info: TensorInfo, following: TensorInfo) -> bool:
    """Whether the outputs of a layer are pairs; raise Unfit where they cannot be."""
    if info.activation in ("linear", None) and info.activation not in _RECTIFIERS:
        return False
    if info.activation not in _RECTIFIERS:
        raise Unfit(f"'{info.name}' {info.shape} is followed by {info.activation}, not by ReLU. Use 'edge-of-chaos'.")
    if not can_pair(info, following):
        raise Unfit(
            f"'{info.name}' {info.shape} has an odd number of outputs, or outputs that '{following.name}' "
            f"{following.shape} does not take one by one. Give it an even width, or use 'he'."
        )
    return True


@register(
    "identity",
    summary="identity matrices, rows repeated where outputs outnumber inputs; ends of branches 1e-6 times differences",
    formula="W[i, j] = 1 + 1e-6 z where j = i mod in; convolutions as (out, in · kernel); ends of branches ε(x_i - x_{i+1})",
    paper="Pan, Wang, Wu, Wang, Zhang and Xu 2025, IDInit: a universal and stable initialization method, arXiv 2503.04626",
    use="Residual networks, trained with momentum, without which a weight whose goal has negative eigenvalues is not reached.",
    options=(
        Option(
            "kernel", "patch", "convolutions: over the patch, or at the centre", "word", choices=("patch", "centre")
        ),
        Option("loose", 1e-6, "noise on the ones, as a share of them; 0 leaves none", minimum=0),
        Option("epsilon", 1e-6, "size of the entries at the ends of branches", minimum=0),
    ),
)
def identity(info: TensorInfo, context: Context, *, kernel: str, loose: float, epsilon: float) -> Choice | None:
    """Choose after Pan et al.: the order of a patch, channels first, is torch's; the paper's own was not seen."""
    if info.role == "embedding":
        return embedding(info)
    if info.role not in WEIGHTS:
        return None
    end = branches.ends(info)

    def std(part: TensorInfo | Slice) -> float:
        _, columns, taps = _matrix(part, info)
        seen = columns * taps if kernel == "patch" else columns
        return (epsilon if end else 1.0) * math.sqrt(ones_a_row(seen, near_zero=end) / max(columns * taps, 1))

    parts: tuple[TensorInfo | Slice, ...] = info.slices or (info,)
    stds = tuple(std(part) for part in parts)
    words = f"{epsilon:g} times differences of inputs, at the end of a branch" if end else "identity, rows repeated"
    return Choice(
        "identity",
        stds[0] if len(set(stds)) == 1 else stds,
        f"{before(info)}: {words} (Pan et al. 2025)",
        {"kernel": kernel, "form": "near-zero" if end else "identity", "loose": loose},
        sliced=bool(info.slices),
    )


@register(
    "zero",
    summary="identity or Hadamard matrices, and 0 where a residual branch ends: no random number in any weight",
    formula="out <= in: partial identity; out > in: 2^(-(m-1)/2) · H, m = ⌈log₂ out⌉, H Hadamard of order 2^m",
    paper="Zhao, Schäfer and Anandkumar 2022, ZerO initialization, arXiv 2110.12661",
    use="Residual networks of ReLU; the start does not depend on the seed, embeddings apart.",
)
def zero(info: TensorInfo, context: Context) -> Choice | None:
    """Choose after Zhao et al.'s algorithms; their code has 2^(-m/2) for c. Embeddings, not treated there, are random."""
    source = "Zhao et al. 2022"
    if info.role == "embedding":
        return embedding(info)
    if info.role not in WEIGHTS:
        return None
    if branches.ends(info):
        return constant(0.0, f"{before(info)}, ends a residual branch: 0 ({source})")

    def std(part: TensorInfo | Slice) -> float:
        rows, columns, taps = _matrix(part, info)
        filled = columns if rows > columns else 1
        return hadamard_scale(rows, columns) * math.sqrt(filled / max(columns * taps, 1))

    parts: tuple[TensorInfo | Slice, ...] = info.slices or (info,)
    stds = tuple(std(part) for part in parts)
    widens = (info.fan_out or 0) > (info.fan_in or 0)
    words = "the first columns of a Hadamard matrix" if widens else "partial identity"
    return Choice(
        "hadamard",
        stds[0] if len(set(stds)) == 1 else stds,
        f"{before(info)}: {words} ({source})",
        sliced=bool(info.slices),
    )


def _matrix(part: TensorInfo | Slice, info: TensorInfo) -> tuple[int, int, int]:
    """Return rows, columns and kernel size of a weight, or a slice of one, as its distribution sees it."""
    letters = info.layout or ("oi" if len(info.shape) > 1 else "i")
    sizes = {"o": 1, "i": 1} | dict(zip(letters, info.shape, strict=False))
    taps = math.prod(info.shape) // max(math.prod(sizes.values()), 1)
    if info.layout:
        taps = math.prod(size for letter, size in zip(info.layout, info.shape, strict=True) if letter == "k")
    if isinstance(part, Slice):
        sizes["o"] = part.stop - part.start
    return sizes["o"], sizes["i"], taps
