"""The architectures of the zoo with attention, experts or text. The rest are in zoo_models.py."""
# ruff: noqa: D102 (forward does what the class says)

from itertools import pairwise

import torch
from torch import Tensor, nn
from zoo_models import ACTS, CONTEXT, VOCABULARY, norm_of


class Attention(nn.Module):
    """Causal or full self-attention with fused query, key and value."""

    def __init__(self, width: int, heads: int, *, causal: bool) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.heads, self.causal = heads, causal

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (t.unflatten(-1, (self.heads, -1)).transpose(-2, -3) for t in self.qkv(x).chunk(3, -1))
        scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
        if self.causal:
            hidden = torch.ones(x.shape[-2], x.shape[-2], dtype=torch.bool, device=x.device).triu(1)
            scores = scores.masked_fill(hidden, float("-inf"))
        return self.out((scores.softmax(-1) @ v).transpose(-2, -3).flatten(-2))


class FeedForward(nn.Module):
    """Up, activation, down; gated where the name starts with 'glu-'."""

    def __init__(self, act: str, width: int, hidden: int) -> None:
        super().__init__()
        self.gate = nn.Linear(width, hidden) if act.startswith("glu-") else None
        self.up, self.down = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.act = act.removeprefix("glu-")

    def forward(self, x: Tensor) -> Tensor:
        act = ACTS[self.act]
        return self.down(act(self.up(x)) if self.gate is None else act(self.gate(x)) * self.up(x))


class Experts(nn.Module):
    """A mixture of feed-forward experts, weighted by a router; all run."""

    def __init__(self, act: str, width: int, hidden: int, count: int) -> None:
        super().__init__()
        self.router = nn.Linear(width, count, bias=False)
        self.experts = nn.ModuleList(FeedForward(act, width, hidden) for _ in range(count))

    def forward(self, x: Tensor) -> Tensor:
        shares = self.router(x).softmax(-1)
        best = shares.topk(2, -1)[0][..., -1:]
        shares = torch.where(shares >= best, shares, torch.zeros_like(shares))
        made = torch.stack([expert(x) for expert in self.experts], -1)
        return (made * shares.unsqueeze(-2)).sum(-1)


class Transformer(nn.Module):
    """Blocks of attention and feed-forward over text (causal), or over the rows of a picture."""

    def __init__(
        self, act: str, blocks: int, width: int = 32, norm: str = "ln", place: str = "pre", *, text: bool = True,
        experts: int = 0, tied: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, width) if text else nn.Linear(8, width)
        self.position = nn.Parameter(torch.randn(CONTEXT if text else 8, width) * 0.02)
        self.attention = nn.ModuleList(Attention(width, 4, causal=text) for _ in range(blocks))
        make = (
            (lambda: Experts(act, width, width, experts)) if experts else (lambda: FeedForward(act, width, 2 * width))
        )
        self.forwards = nn.ModuleList(make() for _ in range(blocks))
        self.norms = nn.ModuleList(norm_of(norm, width) for _ in range(2 * blocks))
        self.last = norm_of(norm if place == "pre" else "", width)
        self.head = nn.Linear(width, VOCABULARY if text else 10, bias=not tied)
        if tied:
            self.head.weight = self.embedding.weight
        self.place, self.text = place, text

    def forward(self, x: Tensor) -> Tensor:
        x = self.embedding(x if self.text else x.squeeze(1)) + self.position
        branches = (branch for pair in zip(self.attention, self.forwards, strict=True) for branch in pair)
        for branch, norm in zip(branches, self.norms, strict=True):
            x = x + branch(norm(x)) if self.place == "pre" else norm(x + branch(x))
        x = self.last(x)
        return self.head(x if self.text else x.mean(1))


class Mixer(nn.Module):
    """MLP-Mixer over the rows of a picture: mixes places, then channels."""

    def __init__(self, act: str, blocks: int, width: int) -> None:
        super().__init__()
        self.stem = nn.Linear(8, width)
        self.places = nn.ModuleList(FeedForward(act, 8, 32) for _ in range(blocks))
        self.channels = nn.ModuleList(FeedForward(act, width, 2 * width) for _ in range(blocks))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2 * blocks))
        self.last, self.head = nn.LayerNorm(width), nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x.squeeze(1))
        for i, (place, channel) in enumerate(zip(self.places, self.channels, strict=True)):
            x = x + place(self.norms[2 * i](x).transpose(1, 2)).transpose(1, 2)
            x = x + channel(self.norms[2 * i + 1](x))
        return self.head(self.last(x).mean(1))


class TextPlain(nn.Module):
    """The next byte from the last eight, by a plain network on their vectors."""

    def __init__(self, act: str, depth: int, width: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, 16)
        sizes = [8 * 16] + [width] * depth
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(sizes))
        self.head = nn.Linear(width, VOCABULARY)
        self.act = act

    def forward(self, x: Tensor) -> Tensor:
        x = self.embedding(x[:, -8:]).flatten(1)
        for layer in self.layers:
            x = ACTS[self.act](layer(x))
        return self.head(x)


class ExpertsPlain(nn.Module):
    """Mixtures of experts one after another, without skips or norms."""

    def __init__(self, act: str, depth: int, width: int) -> None:
        super().__init__()
        self.stem = nn.Linear(64, width)
        self.layers = nn.ModuleList(Experts(act, width, width, 4) for _ in range(depth))
        self.head = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x.flatten(1))
        for layer in self.layers:
            x = layer(x)
        return self.head(x)
