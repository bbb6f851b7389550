"""Recipes that make residual branches start small, so that depth does no harm: fixup, skipinit, rezero, resnet."""

from firstlight.model.tensors import TensorInfo
from firstlight.recipes import branches
from firstlight.recipes.choice import WEIGHTS, Choice, Context, constant
from firstlight.recipes.recipe import register
from firstlight.recipes.scaled import before, embedding, scaled


def _fixup_fits(context: Context) -> str | None:
    found = branches.norms(context)
    if found:
        return f"it has {found}; Fixup replaces normalisation. Remove it, or use 'resnet' or 'gpt2'."
    return branches.no_branches(context)


@register(
    "fixup",
    summary="He, times L^(-1/(2m-2)) inside the L residual branches of m layers; last of each branch and output layer 0",
    formula="Var = 2/fan_in · L^(-1/(m-1)) inside branches; W = 0 at their ends and in the output layer",
    paper="Zhang, Dauphin and Ma 2019, Fixup initialization, arXiv 1901.09321",
    use="Residual networks without normalisation. The paper adds a scalar bias before, and a multiplier in, each branch.",
    refuses="models with normalisation, and those whose residual branches are not known (give example=)",
    fits=_fixup_fits,
)
def fixup(info: TensorInfo, context: Context) -> Choice | None:
    """Choose after Zhang et al.; the authors' code scales He by fan_out, which is the same for square weights."""
    source = "Zhang et al. 2019"
    if info.role == "embedding":
        return embedding(info)
    if info.role == "scale":
        return constant(1.0, f"multiplier of a branch: 1 ({source})")
    if info.role == "output-weight":
        return constant(0.0, f"output weight: 0 ({source})")
    if info.role not in WEIGHTS:
        return None
    if info.branch is None:
        return scaled(info, "fan_in", 1.0, "for ReLU, outside of branches", 2.0, "normal", source)
    if branches.ends(info):
        return constant(0.0, f"{before(info)}, ends branch {info.branch.index + 1}: 0 ({source})")
    count, length = info.branch.count, info.branch.length
    factor = count ** (-1 / (2 * length - 2))
    words = f"times {count}^(-1/(2·{length}-2)) = {factor:.4g} in one of {count} branches of {length} layers"
    return scaled(info, "fan_in", factor, words, 2.0, "normal", source)


def _gates(context: Context) -> list[TensorInfo]:
    """Return the learned multipliers of residual branches: those known to stand in one, else all there are."""
    scales = [info for info in context.infos if info.role == "scale"]
    return [info for info in scales if info.branch is not None] or scales


def _no_gates(context: Context) -> str | None:
    if _gates(context):
        return None
    found = "" if branches.operators_read(context) else ", and give example=batch, by which it is found"
    return (
        "it has no learned multiplier of a residual branch. Add one to each, x + α·f(x) with α = nn.Parameter(zeros(1))"
        f"{found}; or use 'fixup'."
    )


def _gate(info: TensorInfo, context: Context, source: str) -> Choice | None:
    if info in _gates(context):
        return constant(
            0.0, f"multiplier of a branch: 0, so that the network starts as its skip connections ({source})"
        )
    return None


@register(
    "skipinit",
    summary="He, and the learned multiplier at the end of every residual branch is 0",
    formula="Var = 2/fan_in; α = 0",
    paper="De and Smith 2020, Batch normalization biases residual blocks towards the identity, arXiv 2002.10444",
    use="Residual networks without normalisation that have a learned multiplier in each branch.",
    refuses="models without a learned multiplier in a branch (found with example=)",
    fits=_no_gates,
)
def skipinit(info: TensorInfo, context: Context) -> Choice | None:
    """Choose after De and Smith."""
    source = "De and Smith 2020"
    gate = _gate(info, context, source)
    return gate or scaled(info, "fan_in", 1.0, "for ReLU", 2.0, "normal", source)


@register(
    "rezero",
    summary="Xavier, and the learned multiplier at the end of every residual branch is 0",
    formula="Var = 2/(fan_in + fan_out), uniform; α = 0",
    paper="Bachlechner, Majumder, Mao, Cottrell and McAuley 2020, ReZero is all you need, arXiv 2003.04887",
    use="Transformers and fully connected networks of x + α·f(x), with or without normalisation.",
    refuses="models without a learned multiplier in a branch (found with example=)",
    fits=_no_gates,
)
def rezero(info: TensorInfo, context: Context) -> Choice | None:
    """Choose after Bachlechner et al.; α is what the paper prescribes, the rest is Xavier."""
    source = "Bachlechner et al. 2020"
    gate = _gate(info, context, source)
    return gate or scaled(info, "fan_in+fan_out", 1.0, "gain 1", 2.0, "uniform", source)


def last_norms(context: Context) -> set[str]:
    """Return the names of the normalisation scales that come last in a branch: after its end, before the next weight."""
    found: set[str] = set()
    waiting = False
    for info in context.infos:
        if info.role in WEIGHTS:
            waiting = branches.ends(info)
        elif info.role == "norm-scale" and waiting:
            found.add(info.name)
            waiting = False
    return found


def _resnet_fits(context: Context) -> str | None:
    if branches.no_branches(context):
        return branches.no_branches(context)
    if not last_norms(context):
        return "none of its residual branches ends in a normalisation. Use 'fixup' for networks without it."
    return None


@register(
    "resnet",
    summary="He by fan_out; the last normalisation of every residual branch scales by 0; output N(0, 0.01²)",
    formula="Var = 2/fan_out; γ = 0 at the end of branches; output std 0.01",
    paper="He et al. 2016, arXiv 1512.03385; Goyal et al. 2017, ImageNet in 1 hour, arXiv 1706.02677 (γ = 0, output 0.01)",
    use="Convolutional residual networks with batch normalisation after each convolution.",
    refuses="models whose residual branches are not known (give example=) or do not end in a normalisation",
    fits=_resnet_fits,
)
def resnet(info: TensorInfo, context: Context) -> Choice | None:
    """Choose after He et al. and Goyal et al.; torchvision leaves the output layer at torch's default."""
    if info.role == "norm-scale" and info.name in last_norms(context):
        return constant(0.0, "normalisation scale: 0, so that the branch starts as nothing (Goyal et al. 2017)")
    if info.role == "output-weight":
        return Choice("normal", 0.01, "output weight: std 0.01 (Goyal et al. 2017)")
    return scaled(info, "fan_out", 1.0, "for ReLU", 2.0, "normal", "He et al. 2016")
