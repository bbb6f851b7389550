"""mimetic: attention whose products look like those of trained vision transformers; pairs of weights share one draw."""

from itertools import takewhile

from firstlight.init.patterns import mimetic_std
from firstlight.model.spec import Option
from firstlight.model.tensors import Slice, TensorInfo
from firstlight.recipes.branches import no_parts, operators_read, parts_of
from firstlight.recipes.choice import WEIGHTS, Choice, Context, Number
from firstlight.recipes.recipe import Unfit, register
from firstlight.recipes.scaled import before
from firstlight.recipes.transformers import vit

_PAIRED = ("query", "key", "value", "attention-out")


def _fits(context: Context, *, heads: int | None, **_: object) -> str | None:
    seen = any(info.head_width for info in context.infos)
    if heads is None and not seen and no_parts(context) is None:
        give = "" if operators_read(context) else "give example=batch, or "
        words = "the number of heads is read from the operators of a forward pass, and none shows it"
        return f"{words}: {give}say it: mimetic:heads=4."
    return no_parts(context)


@register(
    "mimetic",
    summary="W_qᵀW_k near α₁Z + β₁I for each head, and W_out W_v near α₂Z - β₂I, as in trained vision transformers",
    formula="per head √S Vᵀ and U √S of the rank of the head, U S Vᵀ = α Z + β I, Z ~ N(0, 1/d)",
    paper="Trockman and Kolter 2023, Mimetic initialization of self-attention layers, arXiv 2305.09828",
    use="Vision transformers on small data. Tables of places are left to the usual choice; the paper takes sinusoids.",
    refuses="models whose parts of attention are not known (give example=), grouped-query and cross-attention",
    options=(
        Option(
            "heads", None, "attention heads of every layer; read from the operators unless given", "whole", minimum=1
        ),
        Option("qk_noise", 0.7, "α₁", minimum=0),
        Option("qk_identity", 0.7, "β₁"),
        Option("vo_noise", 0.4, "α₂", minimum=0),
        Option("vo_identity", 0.4, "β₂; the product gets its negative"),
    ),
    fits=_fits,
)
def mimetic(
    info: TensorInfo,
    context: Context,
    *,
    heads: int | None,
    qk_noise: float,
    qk_identity: float,
    vo_noise: float,
    vo_identity: float,
) -> Choice | None:
    """Choose after Trockman and Kolter; what is not attention is as in `vit`."""
    parts = parts_of(info)
    if info.role not in WEIGHTS or not any(word in _PAIRED for _, word in parts):
        return vit(info, context)
    block = _block(info, context)
    heads = heads or _heads(info, context)
    stds: list[float] = []
    options: list[dict[str, Number]] = []
    for part, word in parts:
        qk = word in ("query", "key")
        noise, identity = (qk_noise, qk_identity) if qk else (vo_noise, -vo_identity)
        rows, width = part.fan_out or 0, part.fan_in or 0
        apart = isinstance(part, Slice) and part.stop - part.start != rows
        if word not in _PAIRED or rows != width or width % heads or apart:
            raise Unfit(
                f"'{info.name}' {info.shape} does not map d numbers to the same d in {heads} heads, side by side. Grouped "
                "queries, gates, parts that interleave and cross-attention of other widths have no such pair; use 'vit' for it "
                "by a rule."
            )
        stds.append(mimetic_std(width, width // heads if qk else width, noise, identity))
        options.append(
            {
                "factor": f"{block}/{'qk' if qk else 'vo'}",
                "side": _SIDES[word],
                "heads": heads if qk else 1,
                "noise": noise,
                "identity": identity,
            }
        )
    products = ", ".join(dict.fromkeys(_PRODUCTS[word] for _, word in parts)).format(
        qk_noise, qk_identity, vo_noise, vo_identity
    )
    reason = f"{before(info)}: {products}, shared with the other factor (Trockman and Kolter 2023)"
    if not info.slices:
        return Choice("mimetic", stds[0], reason, options[0])
    return Choice("mimetic", tuple(stds), reason, sliced=True, slice_options=tuple(options))


_SIDES = {"query": "left-transposed", "key": "right", "value": "right", "attention-out": "left"}
_QK, _VO = "W_qᵀW_k = {0:g} Z + {1:g} I for each head", "W_out W_v = {2:g} Z - {3:g} I"
_PRODUCTS = {"query": _QK, "key": _QK, "value": _VO, "attention-out": _VO}


def _heads(info: TensorInfo, context: Context) -> int:
    """Return how many heads the attention has that a weight belongs to, by what the operators show of its block."""
    known = [other for other in context.infos if other.head_width]
    near = max(known, key=lambda other: _shared(other.owner, info.owner))
    assert near.head_width is not None
    return max((near.fan_in or 0) // near.head_width, 1)


def _block(info: TensorInfo, context: Context) -> str:
    """Return the name of the attention-out weight that stands nearest in the tree of modules: what pairs have in common."""
    outs = [other for other in context.infos if any(word == "attention-out" for _, word in parts_of(other))]
    near = max(outs, key=lambda other: _shared(other.owner, info.owner), default=info)
    return near.name


def _shared(left: str, right: str) -> int:
    pairs = zip(left.split("."), right.split("."), strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
