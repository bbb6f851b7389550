"""lstm: orthogonal recurrent weights, Xavier inputs, and a forget gate that starts open."""

from collections.abc import Mapping

from firstlight.model.spec import Option
from firstlight.model.tensors import Slice, TensorInfo
from firstlight.recipes.choice import Choice, Context
from firstlight.recipes.orthogonal import orthogonal
from firstlight.recipes.recipe import register
from firstlight.recipes.scaled import scaled


def _fits(context: Context, **_: object) -> str | None:
    if any(info.role == "recurrent-weight" for info in context.infos):
        return None
    return "it has no recurrent weight. Use 'xavier' or 'orthogonal'."


@register(
    "lstm",
    summary="recurrent weights orthogonal gate by gate, input weights Xavier, the forget gates' bias 1 in sum",
    formula="W_hh orthogonal, W_ih Var = 2/(fan_in + fan_out), b_ih + b_hh = 1 for forget gates, 0 for the others",
    paper="Saxe et al. 2014, arXiv 1312.6120 (orthogonal); Jozefowicz, Zaremba and Sutskever 2015, An empirical exploration "
    "of recurrent network architectures (forget bias 1)",
    use="LSTM, GRU and plain RNN. torch adds two biases a gate, so b_ih has the 1 and b_hh a 0.",
    refuses="models without recurrent weights",
    options=(Option("forget", 1.0, "bias of the forget gates"),),
    fits=_fits,
)
def lstm(info: TensorInfo, context: Context, *, forget: float) -> Choice | None:
    """Choose for recurrent weights and their biases; other weights are Xavier."""
    if info.role == "recurrent-weight":
        return orthogonal(info, context, gain=1.0)
    if info.role == "bias":
        return open_gates(info, context, {"forget": forget})
    return scaled(info, "fan_in+fan_out", 1.0, "gain 1", 2.0, "uniform", "Glorot and Bengio 2010")


def open_gates(info: TensorInfo, context: Context, values: Mapping[str, float]) -> Choice | None:
    """Choose 0 for the biases of a recurrent layer but those of the gates named; None where it has no such gate."""
    weight = context.weight_of(info)
    gates = weight.slices if weight is not None and weight.kind == "RNN" else ()
    opened = [gate.name for gate in gates if gate.name in values]
    if not opened or "bias_ih" not in info.local_name:
        return None
    slices = tuple(Slice(gate.name, gate.start, gate.stop, gate.fan_in, gate.fan_out) for gate in gates)
    options = tuple({"value": values[gate.name]} if gate.name in values else {} for gate in gates)
    value = values[opened[0]]
    reason = f"bias: {value:g} for the {opened[0]} gate, which starts open; 0 for the others (Jozefowicz et al. 2015)"
    return Choice("constant", 0.0, reason, {"value": 0.0}, slices=slices, slice_options=options)
