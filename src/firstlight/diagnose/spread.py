"""Rules on differences: small ones that grow over the depth (chaos), tokens that become alike, residual branches too strong."""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from firstlight.diagnose.bounds import BOUNDS
from firstlight.diagnose.case import Case, is_norm, rms
from firstlight.diagnose.finding import Finding
from firstlight.diagnose.moved import first_moved
from firstlight.diagnose.probe import probing

NUDGE = 1e-4  # of the input's rms
ALIKE = BOUNDS["token-collapse"].warning or 0.0
BRANCHES = 4  # from which branches add up
PRESCRIBE = "Apply the prescription: `diag.prescribe().apply(model)`"


def chaos(case: Case) -> Iterator[Finding]:
    """Yield a finding when inputs that differ a little arrive at the output layer far apart."""
    grown, depth = _growth(case), max(1, len(case.hidden_weights))
    if grown is None or (severity := case.judge("chaos", grown, depth)) is None:
        return
    yield Finding(
        "chaos",
        severity,
        tuple(dict.fromkeys(row.layer for row in case.hidden_weights)) or ("model",),
        {"difference_grows": grown, "factor_per_layer": grown ** (1 / depth), "layers": float(depth)},
        f"A small change of the inputs is {grown:.2g} times as large, relative to the signal, when it arrives at the output "
        f"layer: a factor of {grown ** (1 / depth):.2g} a layer. The network is chaotic, like examples look unlike, and the "
        "gradient grows as much on its way back.",
        f"{PRESCRIBE}, or recipe 'edge-of-chaos'.",
    )


def _growth(case: Case) -> float | None:
    """Return the relative change of what arrives over the relative change of the inputs, None where it cannot be had."""
    before = case.probed.arriving
    if before is None or not bool(torch.isfinite(before).all()) or float(before.norm()) == 0 or case.batch is None:
        return None
    with _nudged(case) as given, probing(case.model) as probed:
        case.pass_through(case.model, given)
    after = probed.arriving
    if after is None or after.shape != before.shape or not bool(torch.isfinite(after).all()):
        return None
    return float((after - before).norm() / before.norm()) / NUDGE


@contextmanager
def _nudged(case: Case) -> Iterator[Any]:
    """Yield a batch whose floating inputs differ a little; token numbers are kept and what embeddings give is moved."""

    def moved(x: Tensor) -> Tensor:
        noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(2)).to(x)
        return x + NUDGE * x.detach().square().mean().sqrt() * noise

    def hook(module: nn.Module, args: Any, output: Any) -> Any:
        return moved(output) if isinstance(output, Tensor) else output

    embeddings = [m for m in case.model.modules() if isinstance(m, nn.Embedding)]
    handles = [] if _has_floats(case.batch) else [m.register_forward_hook(hook) for m in embeddings]
    try:
        yield first_moved(case.batch, moved)
    finally:
        for handle in handles:
            handle.remove()


def _has_floats(batch: Any) -> bool:
    first = next(iter(batch.values()), None) if isinstance(batch, Mapping) else batch
    first = first[0] if isinstance(first, tuple | list) and first else first
    return isinstance(first, Tensor) and first.is_floating_point()


def token_collapse(case: Case) -> Iterator[Finding]:
    """Yield a finding when the tokens of an example become one vector on their way through the layers."""
    seen = case.probed.tokens
    if len(seen) < 3 or (first := min(likeness for _, likeness in seen[: max(1, len(seen) // 4)])) >= 1:
        return
    layer, last = seen[-1]
    left = max(0.0, (1 - last) / (1 - first))
    if (severity := case.judge("token-collapse", left)) is None:
        return
    where = tuple(dict.fromkeys(name for name, likeness in seen if (1 - likeness) / (1 - first) < ALIKE))
    yield Finding(
        "rank-collapse",
        severity,
        where or (layer,),
        {"token_similarity_first": first, "token_similarity_last": last, "difference_left": left},
        f"The tokens of an example become the same vector up to {left:.1e} of their difference: attention averages them layer "
        "after layer, and no residual path of fitting strength keeps them apart.",
        f"{PRESCRIBE}; keep the skip connections at full strength and scale the branches by the depth.",
    )


def strong_branches(case: Case) -> Iterator[Finding]:
    """Yield a finding when branches without normalisation blow the residual stream up, block by block."""
    count = max((info.branch.count for info in case.infos if info.branch is not None), default=0)
    arriving, rows = case.signals.arriving, case.hidden_weights
    if count < BRANCHES or arriving is None or not rows or any(is_norm(row) for row in case.signals):
        return
    first, last = rms(rows[0]), rms(arriving)
    if not first or last is None or not math.isfinite(last):
        return
    if (severity := case.judge("strong-branches", last / first)) is None:
        return
    each = (last / first) ** (1 / count)
    yield Finding(
        "strong-branches",
        severity,
        tuple(
            info.owner for info in case.infos if info.role == "weight" and info.branch is not None and info.branch.ends
        ),
        {"stream_grows": last / first, "factor_per_branch": each, "branches": float(count)},
        f"{count} residual branches, each as strong as the stream, make it {last / first:.2g} times as large: a factor of "
        f"{each:.2g} a branch.",
        f"Scale the last layer of each branch by 1/√{count} or set it to zero: recipe 'fixup' or 'depth-scaled'; or "
        f"{PRESCRIBE[0].lower()}{PRESCRIBE[1:]}.",
    )
