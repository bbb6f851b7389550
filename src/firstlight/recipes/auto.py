"""auto: decides for each weight by where it stands: plain chain, residual branch, attention, recurrence, output."""

from firstlight.model.tensors import TensorInfo
from firstlight.recipes import branches
from firstlight.recipes.choice import WEIGHTS, Choice, Context, constant
from firstlight.recipes.edge_of_chaos import edge_of_chaos
from firstlight.recipes.orthogonal import orthogonal
from firstlight.recipes.recipe import register
from firstlight.recipes.recurrent import lstm
from firstlight.recipes.scaled import before, embedding


@register(
    "auto",
    summary="for any network: each weight gets what its place asks for, so that the network starts near a linear map",
    formula="plain chains as edge-of-chaos; ends of residual branches 0; recurrent weights orthogonal; small output",
    paper="Balduzzi et al. 2017, arXiv 1702.08591; Schoenholz et al. 2017, arXiv 1611.01232; Zhang et al. 2019, arXiv "
    "1901.09321; Saxe et al. 2014, arXiv 1312.6120",
    use="When one does not want to choose. Give example=batch, by which it sees where each weight stands.",
)
def auto(info: TensorInfo, context: Context) -> Choice | None:
    """Choose by the place of the tensor."""
    if info.role == "embedding":
        return embedding(info)
    if info.kind == "RNN":
        return lstm(info, context, forget=1.0)
    if branches.ends(info):
        return constant(0.0, f"{before(info)}, ends a residual branch: 0, so that the network starts as its skips")
    if info.role == "bias" or info.role not in WEIGHTS:
        plain = not any(other.branch is not None or other.role == "norm-scale" for other in context.infos)
        return edge_of_chaos(info, context, output=0.1) if plain else None
    if not any(other.branch is not None for other in context.infos):
        return edge_of_chaos(info, context, output=0.1)
    if info.role == "output-weight":
        return orthogonal(info, context, gain=0.1)
    return orthogonal(info, context, gain="activation")
