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


class GPT(nn.Module):
    """`embedding`, `blocks`, a last `norm`, and `head`."""

    def __init__(self, *, depth: int, width: int, heads: int, vocab: int, context: int, act: str, tie: bool) -> None:
        super().__init__()
        attention.check_heads("gpt", width, heads)
        self.embedding = attention.TokenEmbedding(vocab, context, width)
        self.blocks = nn.Sequential(*(attention.PreNormBlock(width, heads, act, causal=True) for _ in range(depth)))
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
