"""bert: a transformer that sees both ways, with post-normalised blocks, from token numbers to token logits."""

from typing import Any

from torch import Tensor, nn

from firstlight.model.builtin import attention
from firstlight.model.builtin.activations import act_option

OPTIONS = (*attention.OPTIONS, act_option("gelu"))


class Block(nn.Module):
    """norm(x + attention(x)), then norm(x + feed-forward(x))."""

    def __init__(self, width: int, heads: int, act: str) -> None:
        super().__init__()
        self.attention = attention.SelfAttention(width, heads, causal=False)
        self.norm1 = nn.LayerNorm(width)
        self.mlp = attention.FeedForward(width, act)
        self.norm2 = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, T, width) to the same shape."""
        x = self.norm1(x + self.attention(x))
        out: Tensor = self.norm2(x + self.mlp(x))
        return out


class BERT(nn.Module):
    """`embedding`, a `norm`, `blocks`, and `head`."""

    def __init__(self, *, depth: int, width: int, heads: int, vocab: int, context: int, act: str) -> None:
        super().__init__()
        attention.check_heads("bert", width, heads)
        self.embedding = attention.TokenEmbedding(vocab, context, width)
        self.norm = nn.LayerNorm(width)
        self.blocks = nn.Sequential(*(Block(width, heads, act) for _ in range(depth)))
        self.head = nn.Linear(width, vocab)

    def forward(self, ids: Tensor) -> Tensor:
        """Map token numbers (N, T) to logits (N, T, vocab)."""
        logits: Tensor = self.head(self.blocks(self.norm(self.embedding(ids))))
        return logits


def build(options: dict[str, Any]) -> nn.Module:
    """Build from checked options."""
    return BERT(**options)
