"""Rules for matrix products: with weights, which are drawn anew, and of two signals."""

from dataclasses import replace

from firstlight.model.operators.graph import Node, Value
from firstlight.signal.combine import contracted, total
from firstlight.signal.kernel import Kernel
from firstlight.signal.levels import grouped, shifted
from firstlight.signal.maps import Array
from firstlight.signal.rules.reductions import summed_to
from firstlight.signal.rules.sampled import origin, sampled, sampled_backward
from firstlight.signal.rules.table import Run, State, backward, forward, lying
from firstlight.signal.spread import drawn

_LETTERS = {
    "mm": ("ni", "io", "no"),
    "addmm": ("ni", "io", "no"),
    "bmm": ("bni", "bio", "bno"),
    "baddbmm": ("bni", "bio", "bno"),
    "mv": ("ni", "i", "n"),
    "dot": ("i", "i", ""),
}


def _parts(node: Node) -> tuple[Value, Value, Value | None, float, float]:
    """Return the factors, what is added, and the scales of the product and of what is added."""
    if node.op in ("addmm", "baddbmm"):
        beta, alpha = (float(node.kwargs.get(key, 1)) for key in ("beta", "alpha"))
        return node.args[1], node.args[2], node.args[0], alpha, beta
    return node.args[0], node.args[1], None, 1.0, 0.0


def is_weight(run: Run, value: Value) -> bool:
    """Whether a value is made of parameters alone."""
    return value in run.weights


def multiplied(run: Run, a: Value, b: Value, letters: tuple[str, str, str]) -> Kernel:
    """Return the kernel of a product, with what the draw of a weight adds to its spread."""
    made = contracted(run.kernel(a), run.kernel(b), letters)
    weights = [value for value in (a, b) if is_weight(run, value)]
    if len(weights) == 1:
        return drawn(made, orthogonal=weights[0] in run.orthogonal)
    return made


def _of_one(run: Run, a: Value, b: Value) -> bool:
    """Whether both factors are one signal, as in x xᵀ: the rule takes them as independent, so the operator is sampled."""
    return not is_weight(run, a) and not is_weight(run, b) and origin(a) is origin(b)


@forward(" ".join(_LETTERS))
def matrix(run: Run, node: Node) -> State:
    """Sum over the shared axis, as if both factors were independent."""
    a, b, added, alpha, beta = _parts(node)
    if _of_one(run, a, b):
        return sampled(run, node)[0]
    made = multiplied(run, a, b, _LETTERS[node.op]).scaled(alpha)
    levels, power = _levels(run, a, b), made.second
    if added is not None and beta:
        shift = run.kernel(added).scaled(beta)
        made, levels = total(made, shift.broadcast(node.out.shape)), shifted(levels, power, shift.second)
    return State(made=replace(made, levels=levels))


def _levels(run: Run, a: Value, b: Value) -> Array | None:
    """Return the levels of rows times a weight: those that the rows have, or that known numbers show."""
    if not is_weight(run, b) or is_weight(run, a) or len(a.shape) != 2:
        return None
    known = run.known(a)
    return run.kernel(a).levels if known is None else grouped(known.double().square().sum(1))


@backward(" ".join(_LETTERS))
def matrix_backward(run: Run, node: Node, gradient: Kernel) -> None:
    """Multiply by the other factor, transposed."""
    a, b, added, alpha, beta = _parts(node)
    if _of_one(run, a, b):
        sampled_backward(run, node, [gradient])
        return
    first, second, out = _LETTERS[node.op]
    for value, other, word, other_word in ((a, b, first, second), (b, a, second, first)):
        if is_weight(run, value):
            run.push(value, contracted(gradient, run.kernel(other), (out, other_word, word)).scaled(alpha))
            continue
        made = contracted(gradient, run.kernel(other), (out, other_word, word)).scaled(alpha)
        if is_weight(run, other):
            made = drawn(made, orthogonal=other in run.orthogonal)
            made = replace(made, levels=gradient.levels if value is a else None)
            lies = lying(run, node.out, gradient) if value is a and value.node is not None else None
            if lies is not None:
                back = lies.scaled(node.out.shape[1] * run.kernel(other).second * alpha)
                made = run.lay(value, made, back)
        run.push(value, made)
    if isinstance(added, Value) and beta:
        run.push(added, summed_to(gradient.scaled(beta), added.shape))
