"""gpt: a causal transformer with pre-normalised blocks, from token numbers to next-token logits."""

from typing import Any

from torch import Tensor, nn

from firstlight.model.builtin import attention
from firstlight.model.builtin.activations import act_option
from firstlight.model.spec import Option

OPTIONS = (
    *attention.OPTIONS,
    act_option("gelu"),
    Option("tie", False, "use the token embedding as the output layer too", "switch"),
)


class Block(nn.Module):
    """x + attention(norm(x)), then x + feed-forward(norm(x))."""

    def __init__(self, width: int, heads: int, act: str) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attention = attention.SelfAttention(width, heads, causal=True)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = attention.FeedForward(width, act)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, T, width) to the same shape."""
        x = x + self.attention(self.norm1(x))
        out: Tensor = x + self.mlp(self.norm2(x))
        return out


class GPT(nn.Module):
    """`embedding`, `blocks`, a last `norm`, and `head`."""

    def __init__(self, *, depth: int, width: int, heads: int, vocab: int, context: int, act: str, tie: bool) -> None:
        super().__init__()
        attention.check_heads("gpt", width, heads)
        self.embedding = attention.TokenEmbedding(vocab, context, width)
        self.blocks = nn.Sequential(*(Block(width, heads, act) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, vocab, bias=False)
        if tie:
            self.head.weight = self.embedding.tokens.weight

    def forward(self, ids: Tensor) -> Tensor:
        """Map token numbers (N, T) to logits (N, T, vocab)."""
        logits: Tensor = self.head(self.norm(self.blocks(self.embedding(ids))))
        return logits


def build(options: dict[str, Any]) -> nn.Module:
    """Build from checked options."""
    return GPT(**options)
