"""lstm: a recurrent network that reads a picture row by row, any sequence of feature vectors, or token numbers."""

from typing import Any

from torch import Tensor, nn

from firstlight.model.spec import Option

OPTIONS = (
    Option("depth", 1, "number of recurrent layers", "whole", 1),
    Option("width", 64, "units of each recurrent layer", "whole", 1),
    Option("cell", "lstm", "the recurrent cell", "word", choices=("lstm", "gru", "rnn")),
    Option("in", 8, "features of each step; a picture's row", "whole", 1),
    Option("classes", 10, "outputs", "whole", 1),
    Option("vocab", None, "read token numbers, so many different ones, and foretell the next", "whole", 1),
)

_CELLS: dict[str, type[nn.RNN | nn.LSTM | nn.GRU]] = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}


class Recurrent(nn.Module):
    """`cell` reads the steps; `head` turns its last output into logits."""

    def __init__(self, *, depth: int, width: int, cell: str, features: int, classes: int) -> None:
        super().__init__()
        self.features = features
        self.cell = _CELLS[cell](features, width, num_layers=depth, batch_first=True)
        self.head = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, steps, features), pictures or rows of pixels to logits (N, classes)."""
        steps = x if x.ndim == 3 else x.reshape(len(x), -1, self.features)
        outputs, _ = self.cell(steps)
        logits: Tensor = self.head(outputs[:, -1])
        return logits


class Language(nn.Module):
    """`embedding`, `cell` over all tokens, and `head` at each of them."""

    def __init__(self, *, depth: int, width: int, cell: str, vocab: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab, width)
        self.cell = _CELLS[cell](width, width, num_layers=depth, batch_first=True)
        self.head = nn.Linear(width, vocab)

    def forward(self, ids: Tensor) -> Tensor:
        """Map token numbers (N, T) to logits (N, T, vocab)."""
        outputs, _ = self.cell(self.embedding(ids))
        logits: Tensor = self.head(outputs)
        return logits


def build(options: dict[str, Any]) -> nn.Module:
    """Build from checked options."""
    if options["vocab"] is not None:
        return Language(**{name: options[name] for name in ("depth", "width", "cell", "vocab")})
    return Recurrent(
        depth=options["depth"],
        width=options["width"],
        cell=options["cell"],
        features=options["in"],
        classes=options["classes"],
    )
