"""Recipes of published transformers that give weights one std, whatever their fans: gpt2, bert, vit, llama, small."""

import math

from firstlight.init.basic import cut_std
from firstlight.model.spec import Option
from firstlight.model.tensors import TensorInfo
from firstlight.recipes import branches
from firstlight.recipes.choice import TABLES, WEIGHTS, Choice, Context, constant
from firstlight.recipes.recipe import register
from firstlight.recipes.scaled import before, embedding, scaled

_STD = Option("std", 0.02, "standard deviation of every weight", minimum=0)


def _needs_branches(context: Context, **options: object) -> str | None:
    return branches.no_branches(context)


@register(
    "gpt2",
    summary="N(0, 0.02²); weights that end one of n residual branches are divided by √n",
    formula="std = 0.02; ends of branches 0.02/√(2·layers)",
    paper="Radford et al. 2019, Language models are unsupervised multitask learners (section 2.3)",
    use="Decoder-only transformers with normalisation before each branch, of a width near GPT-2's (768 to 1600).",
    refuses="models whose residual branches are not known (give example=)",
    options=(_STD,),
    fits=_needs_branches,
)
def gpt2(info: TensorInfo, context: Context, *, std: float) -> Choice | None:
    """Choose as GPT-2; the released code of Hugging Face gives tables of positions 0.02 too."""
    if info.role in TABLES:
        return Choice("normal", std, f"{info.role}: std = {std:g} (GPT-2)")
    if info.role not in WEIGHTS:
        return None
    if branches.ends(info) and info.branch is not None:
        count = info.branch.count
        reason = f"{before(info)}, ends branch {info.branch.index + 1} of {count}: std = {std:g}/√{count} (GPT-2)"
        return Choice("normal", std / math.sqrt(count), reason)
    return Choice("normal", std, f"{before(info)}: std = {std:g} (GPT-2)")


@register(
    "bert",
    summary="0.02 cut at two stds, as Google's code (std 0.0176 after the cut), or N(0, 0.02²), as Hugging Face's",
    formula="form=google: std = 0.02 · 0.8796 after the cut at ±0.04; form=normal: std = 0.02",
    paper="Devlin, Chang, Lee and Toutanova 2019, BERT, arXiv 1810.04805; modeling.py, create_initializer",
    use="Transformers with normalisation, of a width near BERT's (768 to 1024).",
    options=(
        _STD,
        Option("form", "google", "which code's distribution", "word", choices=("google", "normal")),
    ),
)
def bert(info: TensorInfo, context: Context, *, std: float, form: str) -> Choice | None:
    """Choose 0.02 for weights, embeddings and tables of places; 0 for biases and 1 for norms are the usual choices."""
    if info.role not in (*WEIGHTS, *TABLES):
        return None
    if form == "normal":
        return Choice("normal", std, f"{before(info)}: std = {std:g} (BERT, as in transformers)")
    after = std * cut_std(2.0)
    words = f"N(0, {std:g}²) cut at ±{2 * std:g}: std {after:.4g} after the cut"
    return Choice("truncated-normal", after, f"{before(info)}: {words} (BERT)")


@register(
    "vit",
    summary="Xavier for attention and MLP, 1/fan_in for patches, places 0.02, class token and head 0, MLP biases 1e-6",
    formula="Var = 2/(fan_in + fan_out), uniform; patches Var = 1/fan_in, cut at two stds; head W = 0",
    paper="Dosovitskiy et al. 2021, An image is worth 16×16 words, arXiv 2010.11929; google-research/vision_transformer",
    use="Vision transformers trained from scratch.",
)
def vit(info: TensorInfo, context: Context) -> Choice | None:
    """Choose as the authors' JAX code, vit_jax/models_vit.py, has it."""
    source = "ViT"
    if info.role == "token":
        return constant(0.0, f"token: 0 ({source})")
    if info.role == "position":
        return Choice("normal", 0.02, f"position: std 0.02 ({source})")
    if info.role == "output-weight":
        return constant(0.0, f"output weight: 0, so that no class is preferred at the start ({source})")
    if info.role == "bias":
        weight = context.weight_of(info)
        if weight is not None and weight.part in ("up", "down"):
            return Choice("normal", 1e-6, f"bias of an MLP: std 1e-6 ({source})")
        return None
    if info.role == "weight" and info.kind == "Conv":
        return scaled(info, "fan_in", 1.0, "for patches", 1.0, "truncated-normal", source)
    return scaled(info, "fan_in+fan_out", 1.0, "gain 1", 2.0, "uniform", source)


@register(
    "llama",
    summary="std 0.02; up, down and attention-out of layer l divided by √(2·l), or by √(2·layers); output 1/√d",
    formula="std = 0.02; up, down, attention-out 0.02/√(2(l+1)), l from 0; embedding N(0, 1); output std 1/√d cut at ±3",
    paper="pytorch/torchtitan, the Llama 3 model's parameters; depth=own is its depth_init=True",
    use="Llama-like decoders with normalisation before each branch.",
    refuses="models whose residual branches or parts of attention are not known (give example=)",
    options=(
        _STD,
        Option("depth", "own", "divide by the layer's own depth or by all layers", "word", choices=("own", "total")),
    ),
    fits=lambda context, **_: branches.no_branches(context) or branches.no_parts(context),
)
def llama(info: TensorInfo, context: Context, *, std: float, depth: str) -> Choice | None:
    """Choose as torchtitan does; its cut at ±2 in weight units cuts nothing at std 0.02, so the law is normal here."""
    source = "torchtitan"
    if info.role == "embedding" and not info.tied_output:
        return Choice("normal", 1.0, f"embedding: std 1 ({source})")
    if info.role == "output-weight" or info.tied_output:
        size = info.fan_in if info.role == "output-weight" else info.shape[-1]
        after = cut_std(3.0) / math.sqrt(max(size or 1, 1))
        words = f"{before(info)}: N(0, 1/{size}) cut at ±3 stds: std {after:.4g} after the cut ({source})"
        return Choice("truncated-normal", after, words, {"truncate_std": 3.0})
    if info.role not in WEIGHTS:
        return None
    if info.branch is None:
        return Choice("normal", std, f"{before(info)}: std = {std:g} ({source})")
    layers = branches.layer_of(info, context) + 1 if depth == "own" else branches.layers_of(context, info.branch.stack)
    lower = ("up", "down", "attention-out")
    value, sliced = branches.per_part(info, lambda _, word: std / math.sqrt(2 * layers) if word in lower else std)
    words = f"std = {std:g}, for up, down and attention-out {std:g}/√(2·{layers})"
    return Choice("normal", value, f"{before(info)}: {words} ({source})", sliced=sliced)


@register(
    "small",
    summary="every weight gets the std that Xavier gives a feed-forward layer: √(2/(5d)) for width d",
    formula="std = √(2/(d + 4d))",
    paper="Nguyen and Salazar 2019, Transformers without tears, arXiv 1910.05895 (SmallInit)",
    use="Transformers with normalisation before each branch, trained without warm-up.",
    refuses="models whose width is not known: no embedding and no output layer",
    fits=lambda context: (
        None if branches.model_width(context) is not None else "it has neither embedding nor output layer."
    ),
)
def small(info: TensorInfo, context: Context) -> Choice | None:
    """Choose √(2/(5d)) for every weight, 1/√d for embeddings; the authors' code has 2/(d + d_ff) in feed-forward layers."""
    if info.role == "embedding":
        return embedding(info)
    width = branches.model_width(context)
    if info.role not in WEIGHTS or width is None:
        return None
    return Choice(
        "normal", math.sqrt(2 / (5 * max(width, 1))), f"{before(info)}: Var = 2/(5·{width}), d = {width} (SmallInit)"
    )
