"""What gpt, bert and vit share: options, self-attention, the two-layer network after it, and blocks of both."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from firstlight.errors import DataError, OptionError
from firstlight.model.builtin.activations import activation
from firstlight.model.spec import Option

OPTIONS = (
    Option("depth", 2, "number of blocks", "whole", 1),
    Option("width", 64, "numbers that stand for a token", "whole", 1),
    Option("heads", 4, "attention heads; must divide width", "whole", 1),
    Option("vocab", 256, "number of different tokens", "whole", 1),
    Option("context", 64, "longest sequence", "whole", 1),
)


def check_heads(owner: str, width: int, heads: int) -> None:
    """Raise OptionError unless the heads share the width evenly."""
    if width % heads:
        raise OptionError(f"target '{owner}': heads = {heads}, must divide width = {width}.")


class SelfAttention(nn.Module):
    """Scaled dot-product attention of a sequence to itself; every projection is a linear layer of its own."""

    def __init__(self, width: int, heads: int, *, causal: bool) -> None:
        super().__init__()
        self.heads, self.causal = heads, causal
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, T, width) to the same shape."""
        q, k, v = (
            part(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in (self.query, self.key, self.value)
        )
        mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        out: Tensor = self.out(mixed.transpose(1, 2).flatten(2))
        return out


class FeedForward(nn.Module):
    """down(act(up(x))), four times as wide inside."""

    def __init__(self, width: int, act: str) -> None:
        super().__init__()
        self.up = nn.Linear(width, 4 * width)
        self.act = activation(act)
        self.down = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., width) to the same shape."""
        out: Tensor = self.down(self.act(self.up(x)))
        return out


class PreNormBlock(nn.Module):
    """x + attention(norm(x)), then x + feed-forward(norm(x))."""

    def __init__(self, width: int, heads: int, act: str, *, causal: bool) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attention = SelfAttention(width, heads, causal=causal)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = FeedForward(width, act)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, T, width) to the same shape."""
        x = x + self.attention(self.norm1(x))
        out: Tensor = x + self.mlp(self.norm2(x))
        return out


class TokenEmbedding(nn.Module):
    """The sum of a token's vector and its position's."""

    def __init__(self, vocab: int, context: int, width: int) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocab, width)
        self.positions = nn.Embedding(context, width)

    def forward(self, ids: Tensor) -> Tensor:
        """Map token numbers (N, T) to (N, T, width)."""
        if ids.ndim != 2 or ids.is_floating_point() or ids.shape[1] > self.positions.num_embeddings:
            raise DataError(
                f"a batch of shape {tuple(ids.shape)} and dtype {ids.dtype} is not token numbers; "
                f"give integers (N, T) with T <= {self.positions.num_embeddings}."
            )
        out: Tensor = self.tokens(ids) + self.positions(torch.arange(ids.shape[1], device=ids.device))
        return out
