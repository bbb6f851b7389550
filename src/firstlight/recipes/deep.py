"""Recipes for very deep transformers, scaled by their number of layers: t-fixup, deepnorm, depth-scaled."""

import math

from firstlight.model.spec import Option
from firstlight.model.tensors import TensorInfo
from firstlight.recipes import branches
from firstlight.recipes.choice import TABLES, WEIGHTS, Choice, Context
from firstlight.recipes.recipe import register
from firstlight.recipes.scaled import before, embedding, scaled

KIND = Option(
    "kind",
    "auto",
    "what a single stack is; auto takes it for an encoder, and two stacks for encoder and decoder",
    "word",
    choices=("auto", "encoder", "decoder"),
)


def _is_decoder(stack: int, context: Context, kind: str) -> bool:
    known = branches.stacks(context)
    return stack != known[0] if len(known) > 1 else kind == "decoder"


def _widths(info: TensorInfo, gains: dict[str, float], words: str, source: str) -> Choice:
    """Choose Xavier times a gain that depends on the part that the weight, or its slice, plays."""

    def std(part: object, word: str) -> float:
        fan_in, fan_out = getattr(part, "fan_in", 0) or 0, getattr(part, "fan_out", 0) or 0
        return gains.get(word, 1.0) * math.sqrt(2 / max(fan_in + fan_out, 1))

    value, sliced = branches.per_part(info, std)
    return Choice("normal", value, f"{before(info)}: Xavier {words} ({source})", sliced=sliced)


def _scaled_parts(gain: float) -> dict[str, float]:
    return dict.fromkeys((*branches.VALUES, *branches.FEED_FORWARD), gain)


def _t_fixup_fits(context: Context, **_: object) -> str | None:
    found = branches.norms(context)
    if found:
        return f"it has {found}; T-Fixup replaces normalisation. Remove it, or use 'deepnorm', 'gpt2' or 'small'."
    return branches.no_branches(context) or branches.no_parts(context)


@register(
    "t-fixup",
    summary="Xavier; values, attention outputs and MLPs times 0.67 N^-¼ in an encoder of N layers, (9N)^-¼ in a decoder",
    formula="encoder 0.67 N^(-1/4), decoder (9N)^(-1/4) on v, out and MLP weights; embeddings N(0, 1/d) · (9N)^(-1/4)",
    paper="Huang, Pérez, Ba and Volkovs 2020, Improving transformer optimization through better initialization, ICML",
    use="Transformers without layer normalisation, trained with Adam and no warm-up.",
    refuses="models with normalisation; models whose branches or parts of attention are not known (give example=)",
    options=(KIND,),
    fits=_t_fixup_fits,
)
def t_fixup(info: TensorInfo, context: Context, *, kind: str) -> Choice | None:
    """Choose after Huang et al.; their code gives query and key Xavier divided by √2, the paper Xavier, as here."""
    source = "Huang et al. 2020"
    if info.role in TABLES:
        layers = branches.layers_of(context, branches.stacks(context)[0])
        width, factor = info.shape[-1], (9 * layers) ** -0.25
        words = f"{info.role}: N(0, 1/{width}) times (9·{layers})^(-1/4) = {factor:.4g} ({source})"
        return Choice("normal", factor / math.sqrt(max(width, 1)), words)
    if info.role not in WEIGHTS:
        return None
    if info.branch is None:
        return scaled(info, "fan_in+fan_out", 1.0, "gain 1", 2.0, "normal", source)
    layers = branches.layers_of(context, info.branch.stack)
    if _is_decoder(info.branch.stack, context, kind):
        factor, form = (9 * layers) ** -0.25, f"(9·{layers})^(-1/4)"
    else:
        factor, form = 0.67 * layers**-0.25, f"0.67·{layers}^(-1/4)"
    return _widths(info, _scaled_parts(factor), f"times {form} = {factor:.4g} for v, out and MLP", source)


def _deepnorm_fits(context: Context, **_: object) -> str | None:
    if branches.norms(context) is None:
        return "it has no normalisation; DeepNorm normalises after each branch, norm(α·x + f(x)). Use 't-fixup'."
    return branches.no_branches(context) or branches.no_parts(context)


@register(
    "deepnorm",
    summary="Xavier, times β for values, attention outputs and MLPs; the model multiplies its skip connections by α",
    formula="one stack: β = (8N)^(-1/4), α = (2N)^(1/4); encoder of N with decoder of M: β = 0.87 (N⁴M)^(-1/16), "
    "α = 0.81 (N⁴M)^(1/16), decoder β = (12M)^(-1/4), α = (3M)^(1/4)",
    paper="Wang et al. 2022, DeepNet: scaling transformers to 1,000 layers, arXiv 2203.00555",
    use="Very deep transformers that normalise after each branch, norm(α·x + f(x)). The reason of each row says α.",
    refuses="models without normalisation; models whose branches or parts of attention are not known (give example=)",
    fits=_deepnorm_fits,
)
def deepnorm(info: TensorInfo, context: Context) -> Choice | None:
    """Choose after Wang et al., and say which α the model's code must have."""
    source = "Wang et al. 2022"
    if info.role == "embedding":
        return embedding(info)
    if info.role not in WEIGHTS:
        return None
    if info.branch is None:
        return scaled(info, "fan_in+fan_out", 1.0, "gain 1", 2.0, "normal", source)
    alpha, beta = depth_constants([branches.layers_of(context, stack) for stack in branches.stacks(context)])[
        branches.stacks(context).index(info.branch.stack)
    ]
    words = f"times β = {beta:.4g} for v, out and MLP; the skip connection times α = {alpha:.4g}"
    return _widths(info, _scaled_parts(beta), words, source)


def depth_constants(layers: list[int]) -> list[tuple[float, float]]:
    """Return (α, β) for each stack of so many layers: one stack, or encoder and decoder.

    Example:
        >>> [(round(a, 4), round(b, 4)) for a, b in depth_constants([18])]
        [(2.4495, 0.2887)]
    """
    if len(layers) != 2:
        return [((2 * n) ** 0.25, (8 * n) ** -0.25) for n in layers]
    n, m = layers
    both = (n**4 * m) ** (1 / 16)
    return [(0.81 * both, 0.87 / both), ((3 * m) ** 0.25, (12 * m) ** -0.25)]


@register(
    "depth-scaled",
    summary="Xavier; every weight in layer l of a stack, counted from 1, is divided by √l",
    formula="W ~ U(-γ/√l, γ/√l), γ = √(6/(fan_in + fan_out))",
    paper="Zhang, Titov and Sennrich 2019, Improving deep transformer with depth-scaled initialization, arXiv 1908.11365",
    use="Deep transformers that normalise after each branch. For torchtitan's rule, 1/√(2l), see 'llama'.",
    refuses="models whose residual branches are not known (give example=)",
    fits=branches.no_branches,
)
def depth_scaled(info: TensorInfo, context: Context) -> Choice | None:
    """Choose after Zhang et al., α = 1; the authors' code scales the variance by 1/√l, so that its weights fall as l^(-1/4)."""
    source = "Zhang et al. 2019"
    if info.branch is None or info.role not in WEIGHTS:
        return scaled(info, "fan_in+fan_out", 1.0, "gain 1", 2.0, "uniform", source)
    layer = branches.layer_of(info, context) + 1
    return scaled(info, "fan_in+fan_out", layer**-0.5, f"divided by √{layer} in layer {layer}", 2.0, "uniform", source)
