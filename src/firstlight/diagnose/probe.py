"""What a diagnosis looks at beside the table of signals: attention logits, likeness of tokens, what arrives, and the output.

`probing` watches one pass with hooks and a dispatch mode, so attention is seen however it is called; nothing stays behind.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from firstlight.signal.watch import first_floating, leaves

EXAMPLES, HEADS, QUERIES, KEYS = 4, 4, 64, 512  # of one attention that are looked at
FEATURES = 4096  # of what arrives
FEWEST = 4  # keys that a query sees, below which its distribution tells nothing

_SOFTMAX = {torch.ops.aten._softmax.default, torch.ops.aten._safe_softmax.default}


@dataclass(frozen=True, slots=True)
class Attention:
    """One softmax over keys. entropy: mean over queries, as a share of ln(keys seen). spread: std of the logits seen."""

    layer: str
    entropy: float
    spread: float


@dataclass
class Probed:
    """What was seen. tokens: by layer, mean cosine between the tokens of an example in what the layer is given.

    arriving: examples of what arrives at the last layer with weights. output: the model's first floating output.
    """

    attention: list[Attention] = field(default_factory=list)
    tokens: list[tuple[str, float]] = field(default_factory=list)
    arriving: Tensor | None = None
    output: Tensor | None = None
    running: list[str] = field(default_factory=list)


class _Operators(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's own metaclass hook
    def __init__(self, probed: Probed) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.probed = probed

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = kwargs or {}
        if func in _SOFTMAX and args[0].ndim >= 3 and args[1] % args[0].ndim == args[0].ndim - 1:
            self._note(args[0].detach()[:EXAMPLES])
        elif "_scaled_dot_product" in func.name() and "backward" not in func.name():
            self._note(_logits(args, given))
        return func(*args, **given)

    def _note(self, logits: Tensor) -> None:
        found = _attention(self.probed.running[-1] if self.probed.running else "", logits)
        if found is not None:
            self.probed.attention.append(found)


def _logits(args: Any, given: dict[str, Any]) -> Tensor:
    """Return a sample of the logits of a fused attention: (examples, heads, queries, keys), hidden ones at -inf."""
    q, k = (x.detach()[:EXAMPLES] for x in args[:2])
    group = max(1, q.shape[1] // k.shape[1])
    q, k = q[:, ::group][:, :HEADS], k[:, :HEADS]
    scale = given.get("scale") or 1 / math.sqrt(q.shape[-1])
    rows = torch.linspace(0, q.shape[-2] - 1, min(q.shape[-2], QUERIES), device=q.device).long()
    logits: Tensor = q[:, :, rows].float() @ k[:, :, :KEYS].float().transpose(-1, -2) * scale
    mask = next((x for x in (*args[3:], given.get("attn_mask")) if isinstance(x, Tensor) and x.ndim >= 2), None)
    if mask is not None and mask.is_floating_point():
        seen = mask.detach()[:EXAMPLES] if mask.ndim == 4 and mask.shape[0] > 1 else mask.detach()
        seen = seen[:, ::group][:, :HEADS] if mask.ndim == 4 and mask.shape[1] > 1 else seen
        seen = seen[..., rows, :] if seen.shape[-2] > 1 else seen
        return logits + seen[..., :KEYS].float()
    if any(flag is True for flag in (*args[3:], given.get("is_causal"))):
        places = torch.arange(logits.shape[-1], device=q.device)
        return logits.masked_fill(places[None, :] > rows[:, None], -math.inf)
    return logits


def _attention(layer: str, logits: Tensor) -> Attention | None:
    logits = logits.float()
    visible = logits > torch.finfo(torch.float16).min
    count = visible.sum(-1)
    rows = count >= FEWEST
    if not bool(rows.any()) or not bool(torch.isfinite(logits[visible]).all()):
        return None
    logits, visible, count = logits[rows], visible[rows], count[rows]
    logs = torch.log_softmax(logits.masked_fill(~visible, -math.inf), -1)
    entropy = -(logs.exp() * logs.masked_fill(~visible, 0)).sum(-1) / count.float().log()
    centre = (logits.masked_fill(~visible, 0).sum(-1) / count)[..., None]
    spread = ((logits - centre).masked_fill(~visible, 0).square().sum(-1) / count).mean().sqrt()
    return Attention(layer, float(entropy.mean()), float(spread))


@contextmanager
def probing(model: nn.Module) -> Iterator[Probed]:
    """Watch the passes that run inside the context."""
    probed = Probed()
    weighted = {
        name
        for name, module in leaves(model)
        if not isinstance(module, nn.Embedding | nn.EmbeddingBag)
        and any(p.ndim >= 2 and p.numel() for p in module.parameters())
    }
    handles = []
    try:
        for name, module in model.named_modules():
            handles += _hooks(probed, name, module, weighted=name in weighted)
        with _Operators(probed):
            yield probed
    finally:
        for handle in handles:
            handle.remove()


def _hooks(probed: Probed, name: str, module: nn.Module, *, weighted: bool) -> list[Any]:
    def enter(module: nn.Module, args: Any, kwargs: Any) -> None:
        probed.running.append(name)
        found = first_floating((args, kwargs)) if weighted else None
        if found is not None:
            probed.arriving = _sample(found.detach())
            likeness = None if isinstance(module, nn.modules.conv._ConvNd) else token_likeness(found.detach())
            if likeness is not None:
                probed.tokens.append((name, likeness))

    def leave(module: nn.Module, args: Any, output: Any) -> None:
        while probed.running and probed.running.pop() != name:
            pass
        if not name:
            found = first_floating(getattr(output, "logits", output))
            probed.output = None if found is None else found.detach()

    return [module.register_forward_pre_hook(enter, with_kwargs=True), module.register_forward_hook(leave)]


def _sample(x: Tensor) -> Tensor:
    flat = x[:64].flatten(1) if x.ndim > 1 else x.reshape(1, -1)
    return flat[:, : FEATURES * max(1, flat.shape[1] // FEATURES) : max(1, flat.shape[1] // FEATURES)].double().cpu()


def token_likeness(x: Tensor) -> float | None:
    """Return the mean cosine between different tokens of an example of (examples, tokens, features), None for others.

    Example:
        >>> round(token_likeness(torch.ones(2, 8, 4)), 6), token_likeness(torch.ones(2, 4))
        (1.0, None)
    """
    if x.ndim != 3 or x.shape[1] < FEWEST:
        return None
    tokens = x[: 2 * EXAMPLES, :QUERIES].double()
    norms = tokens.norm(dim=-1)
    if not bool(torch.isfinite(norms).all()) or float(norms.min()) == 0:
        return None
    n = tokens.shape[1]
    total = (tokens / norms[..., None]).sum(1).square().sum(-1)
    return float(((total - n) / (n * (n - 1))).mean())
